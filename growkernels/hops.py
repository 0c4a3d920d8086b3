"""Growth in several hops: what each of them gets, and how a folder that came about so says it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from growkernels.errors import GrowthError
from growkernels.executors.files.manifest import read_manifest, record_hops
from growkernels.options import GrowthOptions


def hop_options(hops: Sequence[Mapping[str, Any]], given: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """The options of each hop; a seed that is given beside the hops is counted up from the first one on.

    given: what is given beside the hops. Raises GrowthError for what is no list of options, and for a seed in two places.
    """
    if isinstance(hops, str | bytes | Mapping) or not isinstance(hops, Sequence) or len(hops) < 2:
        raise GrowthError(f"hops is {hops!r}; expected two or more, such as [{{'depth': 2}}, {{'width': 2}}].")
    if others := sorted(set(given) - {"seed"}):
        raise GrowthError(f"hops and {', '.join(others)} both say what to grow; put every option but seed into a hop.")
    found: list[dict[str, Any]] = []
    for number, hop in enumerate(hops):
        if not isinstance(hop, Mapping):
            raise GrowthError(f"hop {number + 1} of {len(hops)} is {hop!r}; expected options, such as {{'depth': 2}}.")
        if "seed" in hop and "seed" in given:
            raise GrowthError(f"seed stands in hop {number + 1} and beside the hops; give one of the two.")
        options = dict(hop)
        if "seed" in given:
            # Else two hops would draw the same noise.
            options["seed"] = given["seed"] if not number else (found[0]["seed"] + number) % 2**64
        try:
            GrowthOptions.from_keywords(options)
        except GrowthError as error:
            raise GrowthError(f"hop {number + 1} of {len(hops)}: {error}") from error
        found.append(options)
    return tuple(found)


def finish(folder: Path, grown: Sequence[Path], options: Sequence[Mapping[str, Any]]) -> None:
    """Move the last of the grown checkpoints to `folder`, with a manifest that names all hops, and remove the others.

    grown: all that is in one folder inside of `folder`. options: those of each.
    """
    manifests = [read_manifest(one) for one in grown]
    hops = [
        {
            "options": {**hop, "seed": one.plan.seed},
            "plan_digest": one.plan_digest,
            "source_digest": one.source_digest,
            "verification": one.verification,
        }
        for one, hop in zip(manifests, options, strict=True)
    ]
    record_hops(grown[-1], manifests[0], hops)
    for file in grown[-1].iterdir():
        file.rename(folder / file.name)
    shutil.rmtree(grown[-1].parent)


def how_to_check(src: object, dst: object, hops: Sequence[Mapping[str, Any]]) -> str:
    """Why the original source is not enough to verify a folder that was grown in hops, and what to do."""
    before = [dict(hop["options"]) for hop in hops[:-1]]
    wanted = f"hops={before}" if len(before) > 1 else f"**{before[0]}"
    return (
        f"{dst} was grown from {src} in {len(hops)} hops, and the checkpoint before the last one was not kept. Make it with "
        f"growkernels.grow_checkpoint({str(src)!r}, 'BEFORE', {wanted}), then verify BEFORE {dst}."
    )

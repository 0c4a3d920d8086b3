"""Verification of a grown checkpoint: its shape against the plan, its weights against the source, its function too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growkernels.errors import GrowthError
from growkernels.executors.files.manifest import MANIFEST, read_manifest
from growkernels.executors.memory import free_memory
from growkernels.executors.ranks import Ranks
from growkernels.executors.sources.checkpoint import Source, open_source
from growkernels.hops import how_to_check
from growkernels.plans import Plan
from growkernels.verification.logits import LogitsCheck, NotCompared, verify_logits
from growkernels.verification.slices import SliceCheck, joined, verify_slices

#: Models are run side by side on their own where both fit, in float32, in this part of the free memory.
MEMORY_SHARE = 0.25


@dataclass(frozen=True, slots=True, repr=False)
class Verification:
    """What was checked, and how it went. `problems`: where files, names, shapes or config differ from the plan."""

    problems: tuple[str, ...]
    slices: SliceCheck | None
    logits: LogitsCheck | None
    #: Why the models were not run, or empty.
    not_run: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check that was made holds."""
        parts = [part for part in (self.slices, self.logits) if part is not None]
        return not self.problems and all(part.passed for part in parts)

    def lines(self) -> list[str]:
        """The findings in plain language, one a line."""
        lines = list(self.problems) or ["config, names, shapes and dtypes are those of the plan"]
        for part in (self.slices, self.logits):
            if part is not None:
                lines += part.lines()
        if self.not_run:
            lines.append(f"outputs not compared: {self.not_run}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the manifest and the command line."""
        return {
            "passed": self.passed,
            "problems": list(self.problems),
            "slices": self.slices.to_json() if self.slices else None,
            "logits": self.logits.to_json() if self.logits else None,
            "not_run": self.not_run,
        }

    def __repr__(self) -> str:
        slices = "no weights" if self.slices is None else f"{self.slices.tensors} tensors"
        return f"Verification({'passed' if self.passed else 'FAILED'}, {slices}, {'no ' if self.logits is None else ''}outputs)"


def verify(src: str | Path, dst: str | Path, *, logits: bool | None = None, seed: int = 0) -> Verification:
    """Verify a grown checkpoint against its source, by the manifest beside it (`growkernels.json`).

    Names, shapes, dtypes and config against the plan; slices of every tensor against the eager reference, bit for bit,
    learned ones within the rounding of float32 sums; and the outputs of both models on the same tokens.

    Args:
        src: the checkpoint that it was grown from, a folder or a hub id.
        dst: the grown folder.
        logits: run both models and compare their outputs; None: if both fit in a quarter of the free memory.
        seed: of the slices and tokens that are looked at.

    Returns:
        What was checked and how it went: a difference raises nothing, `passed` is then False.

    Raises:
        GrowthError: `dst` has no manifest, or `src` is not the checkpoint that the manifest names, or `dst` was grown in hops:
            then the source of the last one is needed, and the message says how to make it.

    Example:
        >>> growkernels.verify("./small", "./wide").passed
        True
    """
    manifest = read_manifest(Path(dst))
    source = open_source(src, manifest.strip_prefix)
    found, wanted = source.digest(), manifest.source_digest
    if manifest.hops:
        if found == wanted:
            raise GrowthError(how_to_check(src, dst, manifest.hops))
        wanted = manifest.hops[-1]["source_digest"]
    if found != wanted:
        raise GrowthError(
            f"{src} is not the checkpoint that {dst} was grown from: its hash is {found[:19]}, the manifest names "
            f"{wanted[:19]}; give the original source"
        )
    try:
        return verify_checkpoint(source, Path(dst), manifest.plan, logits=logits, seed=seed)
    except GrowthError:
        raise
    # Its digest tells an altered plan from a sound one, but not who made it: anything may be wrong with it.
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise GrowthError(
            f"{MANIFEST} in {dst} holds a plan that cannot be carried out: {type(error).__name__}: {error}. Restore it or "
            f"grow the checkpoint again."
        ) from error


def verify_checkpoint(
    source: Source, folder: Path, plan: Plan, *, logits: bool | None = None, seed: int = 0, ranks: Ranks | None = None
) -> Verification:
    """Verify the checkpoint in `folder` against an executed plan (with measured noise) and its opened source.

    ranks: the processes that share the work, each of which calls this; each compares the slices of its share of the
    tensors, the first one the outputs too. All of them return the findings of one process.
    """
    ranks = ranks or Ranks()
    target = ranks.each(lambda: open_source(folder))
    problems = ranks.gather(_structure(target, plan))[0]
    if problems:
        return Verification(tuple(problems), None, None, "the files are not what the plan says")
    mine = {rule.target for rule in plan.rules[ranks.rank :: ranks.size]}
    slices = joined(ranks.gather(ranks.each(lambda: verify_slices(source, target, plan, seed=seed, mine=mine))))
    run, reason = ranks.first(lambda: _outputs(source, folder, plan, logits, seed))
    return Verification((), slices, run, reason)


def _outputs(
    source: Source, folder: Path, plan: Plan, logits: bool | None, seed: int
) -> tuple[LogitsCheck | None, str]:
    """Both models' outputs compared, or why they were not."""
    if logits is None:
        logits, reason = _fits(plan, source)
    else:
        reason = "" if logits else "switched off"
    if logits:
        try:
            return verify_logits(source.path, folder, plan, seed=seed, strip_prefix=source.strip_prefix), ""
        except NotCompared as error:
            reason = str(error)
    return None, reason


def _structure(target: Source, plan: Plan) -> list[str]:
    problems = []
    keys = sorted({*target.config, *plan.config})
    for key in keys:
        found, wanted = (json.dumps(config.get(key, "missing")) for config in (target.config, plan.config))
        if found != wanted:
            problems.append(f"config.json: {key} is {found}, the plan says {wanted}")
    rules = {rule.target: rule for rule in plan.rules}
    problems += [f"{name}: in the files, not in the plan" for name in target.tensors if name not in rules]
    for name, rule in rules.items():
        spec = target.tensors.get(name)
        if spec is None:
            problems.append(f"{name}: missing from the files")
        elif spec != rule.spec:
            problems.append(
                f"{name}: {spec.dtype} {list(spec.shape)} in the files, "
                f"{rule.spec.dtype} {list(rule.spec.shape)} in the plan"
            )
    return problems


def _fits(plan: Plan, source: Source) -> tuple[bool, str]:
    elements = sum(rule.spec.numel for rule in plan.rules) + sum(spec.numel for spec in source.tensors.values())
    need, free = 4 * elements, free_memory()
    if need <= MEMORY_SHARE * free:
        return True, ""
    return False, (
        f"both models take {need / 2**30:.1f} GiB in float32, more than a quarter of the {free / 2**30:.1f} GiB that are "
        f"free; ask for it to run them anyway"
    )

"""The manifest of a grown checkpoint, `growkernels.json`: everything needed to repeat, resume or check the growth.

Learned matrices lie beside it, in `growkernels.safetensors`.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

import growkernels
from growkernels.errors import GrowthError
from growkernels.executors.files.side_copies import report_side_files
from growkernels.executors.sources.checkpoint import Source
from growkernels.plans import NOISE_VERSION, Matrices, Plan
from growkernels.plans.format1 import upgraded
from growkernels.plans.plan import json_digest

MANIFEST, MATRICES = "growkernels.json", "growkernels.safetensors"
_FORMAT, _OLD_FORMAT = 2, 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """How a checkpoint was grown: the plan with its measured noise, from what, by which versions; what was verified.

    `fit`: how learned matrices were trained, where they were. `side_files`: what became of the source's files beside the
    weights. `strip_prefix`: what was left out of the names of the source's tensors. `hops`: where the growth had several, for
    each its options, plan digest, source digest and verification; `plan` is then the last one's, `source` the first one's.
    """

    plan: Plan
    plan_digest: str
    source: str
    source_digest: str
    versions: dict[str, str]
    verification: dict[str, Any] | None
    fit: dict[str, Any] | None = None
    side_files: dict[str, Any] | None = None
    strip_prefix: str = ""
    hops: list[dict[str, Any]] | None = None


def write_manifest(
    folder: Path,
    source: Source,
    plan: Plan,
    verification: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
) -> None:
    """Write or replace the manifest of the checkpoint in `folder`. Raises GrowthError if the source has changed meanwhile.

    plan: as carried out, that `execute` returned; verification: its results as a JSON object, None if there was none; fit:
    likewise, how learned matrices were trained.
    """
    source.check_unchanged()
    side = report_side_files(source.side, plan, source.tensors).to_json()
    manifest = Manifest(
        plan,
        plan.digest(),
        source.name,
        source.digest(),
        _versions(),
        verification,
        fit,
        side,
        source.strip_prefix,
    )
    data: dict[str, Any] = {"format": _FORMAT, "seed": plan.seed, "noise_version": plan.noise_version}
    data |= {name: getattr(manifest, name) for name in Manifest.__slots__ if name not in ("plan", "hops")}
    data["plan"] = plan.to_json()
    (folder / MANIFEST).write_text(json.dumps(data, indent=1) + "\n")
    if plan.matrices is not None:
        # Not by `save_file`, whose files other users of the machine may not read.
        (folder / MATRICES).write_bytes(save(dict(plan.matrices)))


def record_hops(folder: Path, first: Manifest, hops: list[dict[str, Any]]) -> None:
    """Let the manifest of the last of several hops name all of them, and the source of the first."""
    path = folder / MANIFEST
    data = json.loads(path.read_bytes())
    data |= {
        "source": first.source,
        "source_digest": first.source_digest,
        "strip_prefix": first.strip_prefix,
        "hops": hops,
    }
    path.write_text(json.dumps(data, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a grown checkpoint. Raises GrowthError if there is none, or it is damaged, altered or too new."""
    path = folder / MANIFEST
    if not path.is_file():
        raise GrowthError(
            f"{folder} has no {MANIFEST}: it was not grown by growkernels, or only its weights were copied."
        )
    try:
        data = json.loads(path.read_bytes())
        kind, noise, versions = data["format"], data["noise_version"], data["versions"]
        digest, wanted = json_digest(data["plan"]), data["plan"].get("matrices")
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if kind not in (_OLD_FORMAT, _FORMAT) or noise != NOISE_VERSION:
        raise GrowthError(
            f"{path} has format {kind} and noise version {noise}; growkernels {growkernels.__version__} reads formats "
            f"{_OLD_FORMAT} and {_FORMAT} and noise version {NOISE_VERSION}. Use the version that wrote it: {versions}."
        )
    matrices = None if wanted is None else _matrices(folder, wanted)
    try:
        stored = upgraded(data["plan"]) if kind == _OLD_FORMAT else data["plan"]
        plan = Plan.from_json(stored, matrices)
        # Manifests of older versions have none of them.
        held = {"fit": None, "side_files": None, "strip_prefix": "", "hops": None, **data}
        manifest = Manifest(plan, **{name: _checked(name, held[name]) for name in Manifest.__slots__ if name != "plan"})
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    if digest != manifest.plan_digest:
        raise GrowthError(f"{path} was altered: its plan does not have the digest that it names. Restore it.")
    return manifest


#: What a damaged file can make of reading it.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)


def _damaged(path: Path, error: BaseException) -> GrowthError:
    return GrowthError(f"{path} is damaged: {type(error).__name__} {error}. Restore it or grow the checkpoint again.")


def _checked(name: str, value: Any) -> Any:
    kinds: dict[str, Any] = {
        "plan_digest": str,
        "source": str,
        "source_digest": str,
        "versions": dict,
        "strip_prefix": str,
    }
    if not isinstance(value, kinds.get(name, (list if name == "hops" else dict) | None)):
        raise TypeError(f"{name} is a {type(value).__name__}")
    for hop in value if name == "hops" and value else ():
        if not isinstance(hop["options"], dict) or not isinstance(hop["source_digest"], str):
            raise TypeError("a hop has no options or no source")
    return value


def grown_with_seed(folder: Path) -> int | None:
    """The seed that the checkpoint in `folder` was grown with; None if it has no manifest, and so was not grown.

    Raises GrowthError if the manifest does not name one.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        seed = json.loads(path.read_bytes())["seed"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise GrowthError(f"{path} is damaged: {type(error).__name__}. Restore it, or choose a seed.") from error
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise GrowthError(f"{path} is damaged: it names no seed from 0 to 2**64 - 1. Restore it, or choose a seed.")
    return seed


def _matrices(folder: Path, digest: str) -> Matrices:
    path = folder / MATRICES
    if not path.is_file():
        raise GrowthError(
            f"{folder} was grown by learned matrices, but has no {MATRICES}: restore it from where it was made."
        )
    try:
        matrices = Matrices(load_file(path))
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError, OSError) as error:
        raise GrowthError(f"{path} is damaged: {error}. Restore it or grow the checkpoint again.") from error
    if matrices.digest() != digest:
        raise GrowthError(f"{path} was altered: its matrices are not those that {MANIFEST} names. Restore it.")
    return matrices


def _versions() -> dict[str, str]:
    versions = {"growkernels": growkernels.__version__, "torch": torch.__version__, "python": platform.python_version()}
    try:
        versions["transformers"] = version("transformers")
    except PackageNotFoundError:
        versions["transformers"] = "none"
    return versions

"""The three functions of the Python interface: plan a growth, carry it out on a checkpoint, verify what came out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

from growkernels.errors import GrowthError, VerificationFailed
from growkernels.executors import (
    check_destination,
    check_duplicates,
    execute,
    open_device,
    open_source,
    parse_size,
    staged,
    write_manifest,
)
from growkernels.executors.files.side_files import SideReport, report_side_files
from growkernels.executors.sources.checkpoint import Source
from growkernels.executors.sources.generation import read_generation_config
from growkernels.layouts import ModelLayout, discover
from growkernels.learning import Fit, FitReport, check_checkpoint_file, draw_losses, fit_plan, start_matrices
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Plan
from growkernels.plans.summary import Summary, summarize
from growkernels.verification.checkpoint import Verification, verify, verify_checkpoint

__all__ = ["Fit", "Report", "grow_checkpoint", "plan", "verify"]

#: Called with the stage ("fitting", "growing", "verifying"), and with the steps or bytes so far and in all.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """A growth that was carried out. `plan` holds the measured noise; `verification` is None if it was switched off.

    `seconds` is the whole run, `writing_seconds` the part of it that computed and wrote `nbytes` bytes of weights.
    """

    source: str
    target: Path
    plan: Plan
    summary: Summary
    verification: Verification | None
    seconds: float
    writing_seconds: float
    nbytes: int
    side_files: SideReport
    fit: FitReport | None = None

    @property
    def rate(self) -> float:
        """Bytes of weights written per second."""
        return self.nbytes / max(self.writing_seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """A JSON object: what `growkernels grow --json` prints. The plan itself is in the manifest; its hash is given."""
        return {
            "source": self.source,
            "target": str(self.target),
            "plan_digest": self.plan.digest(),
            "summary": self.summary.to_json(),
            "verification": self.verification.to_json() if self.verification else None,
            "seconds": self.seconds,
            "writing_seconds": self.writing_seconds,
            "bytes": self.nbytes,
            "bytes_per_second": self.rate,
            "fit": self.fit.to_json() if self.fit else None,
            "side_files": self.side_files.to_json(),
        }


def plan(src: str | Path, *, strip_prefix: str = "", **options: Any) -> Plan:
    """What a growth would do, from the config and the tensors' shapes alone; no weights are read.

    src: checkpoint folder or hub id; strip_prefix: what a wrapper put before the names of its tensors, such as "module.";
    options: the fields of `growkernels.operators.GrowthOptions`. Raises GrowthError.
    """
    return make_plan(_open(src, strip_prefix)[1], GrowthOptions.from_keywords(options))


def grow_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    no_verify: bool = False,
    verify_logits: bool | None = None,
    allow_nonfinite: bool = False,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    fit: Fit | None = None,
    plan: Plan | None = None,
    strip_prefix: str = "",
    **options: Any,
) -> Report:
    """Grow the checkpoint `src` into the new folder `dst`, verify it, and put it in place in one step.

    options: the fields of `GrowthOptions` (depth, layers, width, ffn, noise_snr_db, ...). `max_shard_size`: bytes, or text
    such as "5GB". `verify_logits`: run both models side by side; None: if they fit in a quarter of the free memory. `device`:
    where weights are computed; with "cuda" only the source's tensors are sent there. The bits are the same.
    `fit`: train the matrices of learned growth (ligo) first, or go on from its checkpoint; without it they stay as they
    start. `plan`: carry out this one, such as `LearnedGrowth.materialise` gives, in place of options.
    `strip_prefix`: what a wrapper put before the names of the source's tensors, such as "module.", to be left out.
    What the plan warns of is warned of before the work starts. Raises GrowthError for input that cannot be grown, and
    VerificationFailed; `dst` is then as it was before.
    """
    start = perf_counter()
    if plan is not None and (options or fit is not None):
        raise GrowthError(f"plan and {', '.join(options) or 'fit'} both say what to grow; give one of the two.")
    growth = GrowthOptions.from_keywords(plan.options if plan is not None else options)
    if fit is not None and not isinstance(fit, Fit):
        raise GrowthError(f"fit is {fit!r}; expected a growkernels.api.Fit, such as Fit('text.txt', steps=100).")
    if no_verify and verify_logits:
        raise GrowthError("no_verify and verify_logits contradict each other; give one of them.")
    shard_size, place = parse_size(max_shard_size), open_device(device)
    source, layout = _open(src, strip_prefix)
    target = check_destination(Path(dst), source.path, overwrite)
    planned = make_plan(layout, growth) if plan is None else plan
    if fit is not None and not planned.is_learned:
        raise GrowthError(
            "fit trains learned growth, and nothing is learned here; give depth_operator or width_operator ligo."
        )
    if fit is not None and fit.checkpoint is not None:
        fit = replace(fit, checkpoint=check_checkpoint_file(Path(fit.checkpoint), source.path, target))
    check_duplicates(source, layout.duplicates)
    for text in planned.warnings if fit is None else ():  # a fit warns of them itself
        warnings.warn(text, stacklevel=2)
    advance = on_progress or (lambda stage, done, total: None)

    fitted = None
    with staged(target, overwrite, source.path) as folder:
        if fit is not None:
            planned, fitted = fit_plan(source, growth, fit, place, partial(advance, "fitting"))
            if find_spec("matplotlib") is None:
                missing = "growkernels-fit.png, the picture of the losses, was not drawn: matplotlib is not installed"
                warnings.warn(f"{missing}; install it for the next fit (`pip install matplotlib`).", stacklevel=2)
            else:
                draw_losses(folder / "growkernels-fit.png", fitted.losses)
        elif planned.is_learned and planned.matrices is None:
            planned = planned.with_matrices(start_matrices(layout, planned, growth))
        write_start = perf_counter()
        executed = execute(
            source,
            planned,
            folder,
            max_shard_size=shard_size,
            allow_nonfinite=allow_nonfinite,
            device=place,
            progress=partial(advance, "growing"),
        )
        writing_seconds = perf_counter() - write_start
        verification = None
        if not no_verify:
            advance("verifying", 0, 0)
            verification = verify_checkpoint(source, folder, executed, logits=verify_logits)
            if not verification.passed:
                raise VerificationFailed("; ".join(verification.lines()))
        checked, trained = verification and verification.to_json(), fitted and fitted.record()
        write_manifest(folder, source, executed, checked, trained)
    nbytes = sum(rule.spec.nbytes for rule in executed.rules)
    summary = summarize(executed)
    return Report(
        source.name,
        target,
        executed,
        summary,
        verification,
        perf_counter() - start,
        writing_seconds,
        nbytes,
        report_side_files(source.side, executed, source.tensors),
        fitted,
    )


def _open(src: str | Path, strip_prefix: str) -> tuple[Source, ModelLayout]:
    source = open_source(src, strip_prefix)
    layout = discover(source.config, source.tensors)
    read_generation_config(source.path, layout.architecture)  # raises where the user's own load would
    return source, layout

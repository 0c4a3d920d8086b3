"""Growing checkpoints: the plan of a growth, and a growth from folder to folder with its verification and report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Unpack

from growkernels.errors import GrowthError, VerificationFailed
from growkernels.executors import (
    Source,
    check_destination,
    execute,
    open_device,
    open_source,
    parse_size,
    staged,
    write_manifest,
)
from growkernels.executors.files.side_copies import SideReport, report_side_files
from growkernels.executors.ranks import Ranks
from growkernels.growth import Growth, OnProgress, plan_of_config
from growkernels.hops import finish, hop_options
from growkernels.layouts import ModelLayout
from growkernels.learning import Fit, FitReport, check_checkpoint_file, draw_losses, fit_plan
from growkernels.optim.files import check_training_files, grow_training_files
from growkernels.options import GrowthKeywords, spelled_out
from growkernels.plans import Plan
from growkernels.plans.plan import json_digest
from growkernels.plans.summary import Summary, summarize
from growkernels.verification.checkpoint import Verification, verify_checkpoint

__all__ = ["Report", "grow_checkpoint", "plan"]


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """A growth that was carried out. `plan` holds the measured noise; `verification` is None if it was switched off.

    `seconds` is the whole run, `writing_seconds` the part of it that computed and wrote `nbytes` bytes of weights. `fit` is
    how learned growth was trained, if it was.
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

    @property
    def new_parameters(self) -> tuple[str, ...]:
        """Names of the tensors of new layers; see `Plan.new_parameters`, and `growkernels.freeze_old`."""
        return self.plan.new_parameters

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

    def __repr__(self) -> str:
        verified = "verified" if self.verification else "not verified"
        return f"Report({self.source!r} to {str(self.target)!r}, {self.nbytes:,} bytes in {self.seconds:.1f} s, {verified})"


@spelled_out()
def plan(src: str | Path, *, strip_prefix: str = "", **options: Unpack[GrowthKeywords]) -> Plan:
    """What a growth would do, from the config and the tensors' shapes alone: the dry run.

    Args:
        src: checkpoint to grow, a folder or a hub id. Its weights are not read. Or a `config.json` alone: then of the tensors
            that its class would write.
        strip_prefix: what a wrapper put before the names of its tensors, such as "module.", to be left out.
        options: what to grow, by the names of `GrowthOptions`.

    Returns:
        The plan: a rule for every target tensor, the target's config, what is claimed of its function, and warnings. Learned
        growth has no matrices yet.

    Raises:
        GrowthError: the checkpoint cannot be opened, or not be grown as the options ask.

    Example:
        >>> growkernels.plan("./small", width=2).preserves_function
        True
    """
    if Path(src).suffix == ".json":
        return plan_of_config(Path(src), options)
    return Growth.open(src, options, strip_prefix=strip_prefix).plan


def _compulsory(layout: ModelLayout, no_verify: bool, verify_logits: bool | None) -> bool:
    """Whether the models are compared where only a twin speaks for the layout: they are. Raises GrowthError if asked not to."""
    if no_verify or verify_logits is False:
        raise GrowthError(
            f"{layout.model_type} is not in the table, and what its tensors mean was only checked on a twin: the comparison of "
            f"source and target cannot be left out (no_verify, verify_logits=False). If you know the layout to be right, say "
            f"so by growkernels.register_family(growkernels.layouts.Family({layout.model_type!r})); docs/families.md."
        )
    return True


@spelled_out()
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
    optimizer: bool = False,
    plan: Plan | None = None,
    strip_prefix: str = "",
    ranks: Ranks | None = None,
    hops: Sequence[GrowthKeywords] | None = None,
    **options: Unpack[GrowthKeywords],
) -> Report:
    """Grow a checkpoint into a new folder, verify it, and put it in place in one step.

    What the plan warns of comes as Python warnings before the work starts.

    Args:
        src: checkpoint to grow, a folder or a hub id. It is only read.
        dst: folder to make. It is written beside `dst` first and renamed at the end.
        max_shard_size: largest weights file, in bytes or as text such as "5GB" or "512MiB".
        overwrite: replace the checkpoint at `dst`, once the new one is complete.
        no_verify: skip every check of what was written.
        verify_logits: run both models side by side and compare their outputs; None: if both fit in a quarter of the free
            memory.
        allow_nonfinite: let NaN and Inf in the weights pass.
        device: where weights are computed: "cpu", "cuda" or "cuda:1". Only the source's tensors are sent there, and the bits
            are the same.
        on_progress: called with the stage ("fitting", "growing", "verifying"), and the steps or bytes done and in all.
        fit: train the matrices of learned growth (ligo) first, or go on from its checkpoint; None leaves them as they start.
        optimizer: grow the optimizer's state that the Trainer saved in the source's folder too (`optimizer.pt`), and carry
            scheduler, scaler, random states and the Trainer's state, so that `resume_from_checkpoint` goes on from `dst`.
        plan: one to carry out in place of options, such as `LearnedGrowth.materialise` gives.
        strip_prefix: what a wrapper put before the names of the source's tensors, such as "module.", to be left out.
        ranks: the processes that share the work, all of which make this call (`with Ranks.of_torchrun() as ranks:`, as
            the command line does). The files are those of one process. None: this process alone.
        hops: growths one after the other, each the options of its own, such as [{"depth": 2}, {"width": 2}]. What is between
            them is verified and goes; a `seed` beside them is that of the first, counted up by one for each. The report and
            the manifest hold the plan of the last one, and the source of the first.
        options: what to grow, by the names of `GrowthOptions`.

    Returns:
        The report: the plan with the measured noise, its summary, the verification, and times.

    Raises:
        GrowthError: the growth cannot be carried out.
        VerificationFailed: what was written is not what the plan says.
        In either case `dst` is as it was before.

    Example:
        >>> growkernels.grow_checkpoint("./small", "./wide", width=2, noise_snr_db=20.0).verification.passed
        True
    """
    start = perf_counter()
    if hops is not None:
        if fit is not None or plan is not None or optimizer or (ranks is not None and ranks.size > 1):
            raise GrowthError(
                "hops take no fit, plan or optimizer, and one process; make those hops calls of their own."
            )
        settings: dict[str, Any] = {
            "max_shard_size": max_shard_size,
            "no_verify": no_verify,
            "verify_logits": verify_logits,
            "allow_nonfinite": allow_nonfinite,
            "device": device,
            "on_progress": on_progress,
        }
        return _grow_in_hops(src, dst, hop_options(hops, options), overwrite, strip_prefix, settings)
    if plan is not None and fit is not None:
        raise GrowthError("plan and fit both say what to grow; give one of the two.")
    if fit is not None and not isinstance(fit, Fit):
        raise GrowthError(f"fit is {fit!r}; expected a growkernels.Fit, such as Fit('text.txt', steps=100).")
    if no_verify and verify_logits:
        raise GrowthError("no_verify and verify_logits contradict each other; give one of them.")
    ranks = ranks or Ranks()
    if fit is not None and ranks.size > 1:
        raise GrowthError(f"a fit runs in one process, and this growth has {ranks.size}; start it without torchrun.")
    shard_size, place = parse_size(max_shard_size), open_device(ranks.device(device))
    growth = ranks.same(lambda: Growth.open(src, options, plan, strip_prefix), _request)
    source = growth.source
    if growth.layout.derived:
        verify_logits = _compulsory(growth.layout, no_verify, verify_logits)
    target = ranks.each(lambda: check_destination(Path(dst), source.path, overwrite))
    if fit is not None and not growth.plan.is_learned:
        raise GrowthError(
            "fit trains learned growth, and nothing is learned here; give depth_operator or width_operator ligo."
        )
    if fit is not None and fit.checkpoint is not None:
        fit = replace(fit, checkpoint=check_checkpoint_file(Path(fit.checkpoint), source.path, target))
    ranks.each(growth.check)
    if optimizer:
        ranks.each(partial(check_training_files, source))
    if ranks.is_first:
        growth.warn()
    advance = on_progress or (lambda stage, done, total: None)

    fitted = None
    with ranks.staged(target, overwrite, source.path) as folder:
        if fit is not None:
            planned, fitted = fit_plan(growth, fit, place, partial(advance, "fitting"))
            if find_spec("matplotlib") is None:
                missing = "growkernels-fit.png, the picture of the losses, was not drawn: matplotlib is not installed"
                warnings.warn(f"{missing}; install it for the next fit (`pip install matplotlib`).", stacklevel=2)
            else:
                draw_losses(folder / "growkernels-fit.png", fitted.losses)
        else:
            planned = growth.started().plan
        write_start = perf_counter()
        executed = execute(
            source,
            planned,
            folder,
            max_shard_size=shard_size,
            allow_nonfinite=allow_nonfinite,
            device=place,
            progress=partial(advance, "growing"),
            ranks=ranks,
        )
        trained = ranks.first(partial(grow_training_files, source, executed, folder)) if optimizer else ()
        writing_seconds = perf_counter() - write_start
        verification = None
        if not no_verify:
            advance("verifying", 0, 0)
            verification = verify_checkpoint(source, folder, executed, logits=verify_logits, ranks=ranks)
            if not verification.passed or (growth.layout.derived and verification.logits is None):
                raise VerificationFailed("; ".join(verification.lines()))
        checked = None if verification is None else verification.to_json()
        record = None if fitted is None else fitted.record()
        ranks.first(lambda: write_manifest(folder, source, executed, checked, record))
    return Report(
        source=source.name,
        target=target,
        plan=executed,
        summary=summarize(executed),
        verification=verification,
        seconds=perf_counter() - start,
        writing_seconds=writing_seconds,
        nbytes=sum(rule.spec.nbytes for rule in executed.rules),
        side_files=report_side_files(source.side, executed, source.tensors).with_training(trained),
        fit=fitted,
    )


def _grow_in_hops(
    src: str | Path,
    dst: str | Path,
    hops: Sequence[dict[str, Any]],
    overwrite: bool,
    strip_prefix: str,
    settings: dict[str, Any],
) -> Report:
    """Each hop in a folder inside the hidden one that becomes `dst`: what is between them goes however the growth ends."""
    start = perf_counter()
    source = open_source(src, strip_prefix)
    target = check_destination(Path(dst), source.path, overwrite)
    reports: list[Report] = []
    with staged(target, overwrite, source.path) as folder:
        between = folder / ".growkernels-hops"
        between.mkdir()
        for number, hop in enumerate(hops):
            before = reports[-1].target if reports else src
            prefix = "" if reports else strip_prefix
            if reports and "seed" not in hop:
                hop = {**hop, "seed": (reports[-1].plan.seed + 1) % 2**64}
            try:
                report = grow_checkpoint(before, between / str(number), strip_prefix=prefix, **settings, **hop)
            except GrowthError as error:
                raise GrowthError(f"hop {number + 1} of {len(hops)}: {error}") from error
            reports.append(report)
        finish(folder, [report.target for report in reports], hops)
    writing_seconds = sum(report.writing_seconds for report in reports)
    return replace(
        reports[-1],
        source=source.name,
        target=target,
        seconds=perf_counter() - start,
        writing_seconds=writing_seconds,
        nbytes=sum(report.nbytes for report in reports),
    )


def _request(growth: Growth[Source]) -> str:
    """What all processes of a growth must agree on: the plan, and the source by name, shapes and bytes of its files."""
    sizes = {file.name: file.stat().st_size for file in growth.source.files}
    return json_digest({"plan": growth.plan.to_json(), "files": sizes})

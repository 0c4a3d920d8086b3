"""The analysis of a checkpoint: everything that is measured of its weights, and what follows from it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from growkernels.analyze.copies import find_copies
from growkernels.analyze.layers import Depth, compare_layers
from growkernels.analyze.matrices import one_thread, open_checkpoint
from growkernels.analyze.reference import Comparison, compare
from growkernels.analyze.spectrum import Spectrum, measure_spectra
from growkernels.analyze.stream import StreamChange, run_layers
from growkernels.analyze.symmetry import Symmetry, VectorSymmetry, measure_symmetry, vector_symmetry
from growkernels.analyze.units import Experts, Rows, Units, survey
from growkernels.analyze.verdict import LOCKED, Verdict, judge


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a checkpoint is made of.

    Attributes:
        checkpoint: As it was named.
        layers: How many it has.
        nbytes: Of its tensors.
        layout_known: Whether fused matrices could be split into their parts and units counted.
        verdict: Where it comes from, by its copies in width.
        findings: What to mind, in words.
        symmetry: Matrix by matrix.
        vectors: Norms and biases that hold copies.
        depth: Its layers beside each other.
        spectra: Singular values, matrix by matrix; empty if not asked for.
        rows: Dead and duplicate rows and columns, where there are any.
        units: Feed-forward units, layer by layer.
        experts: Experts, layer by layer.
        stream: What each layer does to the residual stream.
        not_run: Why the model was not run; empty if it was.
        comparison: Beside its source, if one was given.
    """

    checkpoint: str
    layers: int
    nbytes: int
    layout_known: bool
    verdict: Verdict
    findings: tuple[str, ...]
    symmetry: tuple[Symmetry, ...]
    vectors: tuple[VectorSymmetry, ...]
    depth: Depth
    spectra: tuple[Spectrum, ...]
    rows: tuple[Rows, ...]
    units: tuple[Units, ...]
    experts: tuple[Experts, ...]
    stream: tuple[StreamChange, ...]
    not_run: str
    comparison: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def analyze(checkpoint: str | Path, reference: str | Path | None = None, *, spectra: bool = True) -> Analysis:
    """Analyze the weights of a checkpoint, of any size: files are mapped, and at most a few matrices are in memory.

    Args:
        checkpoint: A folder or a hub id.
        reference: The source it grew from, if it did.
        spectra: Whether to compute singular values and, beside a reference, new directions.

    Returns:
        The analysis.

    Raises:
        GrowthError: A checkpoint is missing or damaged, or the reference has nothing in common with it.

    Example:
        >>> analyze("./wide", "./small").verdict.origin  # doctest: +SKIP
        'noisy clone'
    """
    opened = open_checkpoint(checkpoint)
    source = None if reference is None else open_checkpoint(reference)
    with one_thread():
        copies = find_copies(opened)
        symmetry, vectors = measure_symmetry(opened, copies), vector_symmetry(opened, copies)
        rows, units, experts = survey(opened)
        depth = compare_layers(opened)
    verdict = judge(opened, symmetry, vectors)
    comparison = None if source is None else compare(opened, source, directions=spectra)
    stream, not_run = run_layers(opened)
    return Analysis(
        checkpoint=opened.name,
        layers=opened.layers,
        nbytes=opened.nbytes,
        layout_known=opened.known,
        verdict=verdict,
        findings=tuple(_findings(verdict, rows, units, experts, depth, comparison)),
        symmetry=tuple(symmetry),
        vectors=tuple(vectors),
        depth=depth,
        spectra=tuple(measure_spectra(opened)) if spectra else (),
        rows=tuple(entry for entry in rows if entry.any),
        units=tuple(units),
        experts=tuple(experts),
        stream=tuple(stream),
        not_run=not_run,
        comparison=comparison,
    )


def _findings(
    verdict: Verdict,
    rows: list[Rows],
    units: list[Units],
    experts: list[Experts],
    depth: Depth,
    comparison: Comparison | None,
) -> list[str]:
    found = []
    if verdict.locked:
        trained = comparison is not None and max(change.changed for change in comparison.changes) > LOCKED
        since = " It was trained since it grew, and its copies stayed equal." if trained else ""
        found.append(f"symmetry lock: {verdict.reason}; {verdict.advice}.{since}")
    if dead := sum(entry.dead for entry in units):
        found.append(f"{dead} feed-forward units have zeros in two places: they never get a gradient.")
    locked = sum(entry.locked for entry in units)
    if locked and not verdict.locked:
        found.append(f"{locked} feed-forward units equal another one in all their weights: training keeps them equal.")
    if any(entry.distinct < entry.count for entry in experts):
        worst = min(experts, key=lambda entry: entry.distinct)
        found.append(
            f"of {worst.count} experts in layer {worst.layer} only {worst.distinct} differ: equal experts give the router no "
            f"gradient of the task."
        )
    if any(entry.dead_outputs or entry.dead_inputs for entry in rows):
        outputs, inputs = sum(entry.dead_outputs for entry in rows), sum(entry.dead_inputs for entry in rows)
        found.append(f"{outputs} rows and {inputs} columns of matrices are zero.")
    if depth.connection_rate is not None:
        groups = defaultdict(list)
        for layer, root in enumerate(depth.index):
            groups[root].append(layer)
        found.append(
            f"{sum(len(group) - 1 for group in groups.values())} layers are related to an earlier one: grown in depth; "
            f"connection rate {depth.connection_rate:.0%}."
        )
    return found

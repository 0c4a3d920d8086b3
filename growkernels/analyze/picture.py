"""A picture of an analysis: symmetry by layer and kind, spectra, effective rank, layers beside each other, the stream."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from growkernels.analyze.analysis import Analysis
from growkernels.report.figure import new_figure, save_figure

_INK, _FAINT = "#1f2933", "#6b7785"
_MOST_KINDS = 10


def draw_analysis(analysis: Analysis, path: str | Path) -> None:
    """Write a PNG of an analysis.

    Args:
        analysis: What was measured.
        path: The file to write.

    Raises:
        GrowthError: The file cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(19, 9.5, dpi=110)
    figure.suptitle(f"{Path(analysis.checkpoint).name}: {analysis.verdict.origin}", color=_INK, fontsize=14)
    axes = figure.subplots(2, 3)
    _symmetry(figure, axes[0, 0], analysis)
    _layers(figure, axes[0, 1], analysis)
    _stream(axes[0, 2], analysis)
    _spectra(axes[1, 0], analysis)
    _ranks(axes[1, 1], analysis)
    _changes(axes[1, 2], analysis)
    save_figure(figure, path)


def _short(kind: str) -> str:
    return kind.rpartition("{}.")[2].removesuffix(".weight")


def _symmetry(figure: Any, ax: Any, analysis: Analysis) -> None:
    inside = [entry for entry in analysis.symmetry if entry.layer is not None]
    kinds = list(dict.fromkeys(entry.kind for entry in inside))
    grid = np.full((len(kinds), max(1, analysis.layers)), np.nan)
    for entry in inside:
        grid[kinds.index(entry.kind), entry.layer or 0] = entry.cosine
    ax.set_title("cosine between copies (0: unrelated, 1: equal)", loc="left", fontsize=11, color=_INK)
    if not kinds:
        ax.text(0.5, 0.5, "no matrices in layers", ha="center", transform=ax.transAxes, color=_FAINT)
        return
    image = ax.imshow(grid, aspect="auto", vmin=0, vmax=1, cmap="magma")
    ax.set_yticks(range(len(kinds)), [_short(kind) for kind in kinds], fontsize=8)
    ax.set_xlabel("layer")
    ax.xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=ax)
    if grid.size <= 80:
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                color = "white" if value < 0.6 else "black"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)


def _spectra(ax: Any, analysis: Analysis) -> None:
    ax.set_title("singular values, each kind's middle layer", loc="left", fontsize=11, color=_INK)
    by_kind: dict[str, list] = defaultdict(list)
    for spectrum in analysis.spectra:
        by_kind[spectrum.kind].append(spectrum)
    for kind, spectra in list(by_kind.items())[:_MOST_KINDS]:
        middle = spectra[len(spectra) // 2]
        randomized = middle.method == "randomized"
        label = _short(kind) + (" (randomized)" if randomized else "")
        # Values below what is resolved are noise of the decomposition.
        points = [
            (x, v) for x, v in zip(middle.positions, middle.values, strict=True) if randomized or v > middle.error
        ]
        ax.plot(*zip(*points, strict=True), linewidth=1.4, linestyle="--" if randomized else "-", label=label)
    ax.set_yscale("log")
    ax.set_xlim(0, 1)
    ax.set_xlabel("rank / smaller side")
    ax.set_ylabel("singular value / largest")
    ax.grid(alpha=0.25)
    if by_kind:
        ax.legend(frameon=False, fontsize=8, loc="lower left")
    else:
        ax.text(0.5, 0.5, "not computed", ha="center", transform=ax.transAxes, color=_FAINT)


def _ranks(ax: Any, analysis: Analysis) -> None:
    ax.set_title("effective rank / smaller side", loc="left", fontsize=11, color=_INK)
    by_kind: dict[str, list] = defaultdict(list)
    for spectrum in analysis.spectra:
        if spectrum.layer is not None:
            by_kind[spectrum.kind].append(spectrum)
    for kind, spectra in list(by_kind.items())[:_MOST_KINDS]:
        layers = [spectrum.layer for spectrum in spectra]
        ax.plot(layers, [spectrum.rank_share for spectrum in spectra], marker="o", markersize=4, label=_short(kind))
    ax.set_ylim(0, 1)
    ax.set_xlabel("layer")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    if by_kind:
        ax.legend(frameon=False, fontsize=8, ncols=2)
    else:
        ax.text(0.5, 0.5, "not computed", ha="center", transform=ax.transAxes, color=_FAINT)


def _layers(figure: Any, ax: Any, analysis: Analysis) -> None:
    depth = analysis.depth if analysis.comparison is None else analysis.comparison.depth
    other = "its own layers" if analysis.comparison is None else "layers of the source"
    ax.set_title(f"cosine of layers with {other}", loc="left", fontsize=11, color=_INK)
    grid = np.array(depth.likeness)
    if not grid.size:
        ax.text(0.5, 0.5, "nothing to compare", ha="center", transform=ax.transAxes, color=_FAINT)
        return
    image = ax.imshow(grid, vmin=0, vmax=1, cmap="magma", aspect="equal")
    ax.set_xlabel(other)
    ax.set_ylabel("layer")
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_major_locator().set_params(integer=True)
    figure.colorbar(image, ax=ax)


def _stream(ax: Any, analysis: Analysis) -> None:
    ax.set_title("change of the residual stream by layer", loc="left", fontsize=11, color=_INK)
    if not analysis.stream:
        ax.text(0.5, 0.5, "not run", ha="center", transform=ax.transAxes, color=_FAINT)
        return
    layers = [entry.layer for entry in analysis.stream]
    ax.bar(layers, [entry.change for entry in analysis.stream], color="#33658a", label="|out - in| / |in|")
    ax.plot(
        layers, [entry.cosine for entry in analysis.stream], color="#b4441c", marker="o", label="cosine of in and out"
    )
    ax.set_xlabel("layer")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize=8)


def _changes(ax: Any, analysis: Analysis) -> None:
    ax.set_title("beside the source, means of each kind", loc="left", fontsize=11, color=_INK)
    if analysis.comparison is None:
        ax.text(0.5, 0.5, "no reference given", ha="center", transform=ax.transAxes, color=_FAINT)
        return
    by_kind: dict[str, list] = defaultdict(list)
    for change in analysis.comparison.changes:
        by_kind[change.kind].append(change)
    places = np.arange(len(by_kind))
    bars = (
        ("in differences between copies", "apart", "#33658a"),
        ("outside of the source's directions", "new_directions", "#b4441c"),
        ("mean of copies moved by (share of norm)", "changed", "#8a7a33"),
    )
    for number, (label, name, color) in enumerate(bars):
        values = [_mean([getattr(change, name) for change in changes]) for changes in by_kind.values()]
        ax.barh(places + 0.27 * (number - 1), values, height=0.25, color=color, label=label)
    ax.set_yticks(places, [_short(kind) for kind in by_kind], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.grid(alpha=0.25, axis="x")
    ax.legend(frameon=False, fontsize=8)


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0

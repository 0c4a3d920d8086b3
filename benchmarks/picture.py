"""The picture of a run: how long each provider takes, and where the ops stand under the machine's roof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.case import COMPILED, EAGER, FLOOR, OURS, OURS_OUT, PAPER, TRITON
from benchmarks.results import CaseResult, Results

_COLORS = {
    OURS_OUT: "#0b6e4f",
    OURS: "#6bbf8a",
    TRITON: "#d9a441",
    COMPILED: "#9db4d6",
    EAGER: "#4c6fae",
    PAPER: "#c8553d",
}
_MARKS = {OURS_OUT: "o", TRITON: "v", COMPILED: "^", EAGER: "s", PAPER: "D"}
_INK, _FAINT = "#22262b", "#c9ced6"
#: The cases that get bars, by the beginnings of their names; the rest is in the table.
_BARS = (
    "tile x2",
    "tile x2 diagonal",
    "tile x2 noise",
    "tile x2 10 dB",
    "replicate x2",
    "Pythia-410M x2",
    "Pythia-410M x2 noise",
)
_DTYPES = ("fp32", "bf16")


def draw(results: Results, path: Path) -> None:
    """Bars of the main cases and the roofline, as a PNG. Draws nothing where no case has a copy floor."""
    floored = [case for case in results.cases if FLOOR in case.measurements]
    if not floored:
        return
    named = {case.name: case for case in floored}
    wanted = [f"{name} {dtype}" for name in _BARS for dtype in _DTYPES]
    bars = [named[name] for name in wanted if name in named] or floored
    figure = Figure(figsize=(14, 2.2 + 0.62 * max(len(bars), 8)), dpi=130, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    _bars(left, bars)
    _roof(right, floored, results.rates)
    machine = results.machine
    title = f"growkernels on {machine.get('gpu') or machine['processor']}"
    threads = "" if "gpu" in machine else f", {machine['threads']} threads"
    figure.suptitle(f"{title}{threads}", x=0.012, ha="left", fontsize=14, fontweight="bold", color=_INK)
    figure.savefig(path)


def _bars(axes: Axes, cases: Sequence[CaseResult]) -> None:
    """Times as multiples of the copy floor, on a logarithmic axis."""
    height = 0.17
    lowest, longest = 0.7, 2.0
    for row, case in enumerate(reversed(cases)):
        names = [name for name in _COLORS if name in case.measurements]
        for k, name in enumerate(names):
            ratio = case.median(name) / case.median(FLOOR)
            lowest, longest = min(lowest, 0.8 * ratio), max(longest, ratio)
            y = row + ((len(names) - 1) / 2 - k) * height
            axes.barh(y, ratio, height=height * 0.9, color=_COLORS[name])
            axes.text(ratio * 1.05, y, _short(ratio), va="center", fontsize=7.5, color=_INK)
    axes.axvline(1, color=_INK, linewidth=1.2)
    axes.set(xscale="log", xlim=(lowest, longest * 1.5), ylim=(-0.6, len(cases) - 0.4))
    axes.set_yticks(range(len(cases)), [case.name for case in reversed(cases)])
    axes.set_xlabel("time, in multiples of copying the same bytes (line: the copy)", color=_INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    shown = [name for name in _COLORS if any(name in case.measurements for case in cases)]
    handles = [Patch(color=_COLORS[name], label=name) for name in shown]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shown), frameon=False, fontsize=9)
    _plain(axes, "x")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 3 else f"{value:.2f}"


def _roof(axes: Axes, cases: Sequence[CaseResult], rates: dict[str, float]) -> None:
    """Bytes a second against operations per byte: the roof is the copy rate, and where noise is dense, its rate in cache."""
    copy, operations = rates["copy"] / 1e9, rates["operations"] / 1e9
    counted = [case for case in cases if case.operations]
    if not counted:
        axes.set_axis_off()
        return
    density = [case.operations / case.bytes for case in counted]
    x = np.geomspace(min(density) / 2, max(*density, operations / copy) * 3, 400)
    axes.plot(x, np.minimum(copy, operations / x), color=_INK, linewidth=1.6, zorder=2)
    axes.annotate(
        f"copy rate {copy:.3g} GB/s", (x[0], copy), (2, 5), textcoords="offset points", fontsize=9, color=_INK
    )
    label = f"noise in cache\n{operations:.3g} G operations/s"
    ridge = operations / copy, copy
    axes.annotate(label, ridge, (10, 0), textcoords="offset points", va="center", fontsize=9, color=_INK)
    for name, mark in _MARKS.items():
        points = [(c.operations / c.bytes, c.bytes / c.median(name) / 1e9) for c in counted if name in c.measurements]
        if points:
            style = {"marker": mark, "color": _COLORS[name], "edgecolor": "white", "linewidth": 0.6}
            axes.scatter(*zip(*points, strict=True), s=46, label=name, zorder=3, **style)
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("declared operations per byte of least traffic", color=_INK)
    axes.set_ylabel("GB/s of least traffic", color=_INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, fontsize=9)
    _plain(axes, "both")


def _plain(axes: Axes, grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.tick_params(which="minor", color=_FAINT)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.5, alpha=0.6)

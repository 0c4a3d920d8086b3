"""The picture of a run: who needs how long, and where the ops stand under the machine's roof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.case import COMPILED, EAGER, FLOOR, OURS, OURS_OUT, PAPER
from benchmarks.cases.calls import PREFIX
from benchmarks.results import CaseResult, Results

_COLORS = {OURS_OUT: "#0b6e4f", OURS: "#6bbf8a", COMPILED: "#9db4d6", EAGER: "#4c6fae", PAPER: "#c8553d"}
_INK, _FAINT = "#22262b", "#c9ced6"
#: Cases in the bars, where they were run; the rest is in the table.
_BARS = ("tile x2", "tile x4", "tile x2 noise", "tile x2 10 dB", "tile x2 diagonal", "replicate x2", "replicate x4")


def draw(results: Results, path: Path) -> None:
    """Bars of the main cases and the roofline, as a PNG."""
    named = {case.name: case for case in results.cases}
    bars = [named[f"{name} {dtype}"] for dtype in ("fp32", "bf16") for name in _BARS if f"{name} {dtype}" in named]
    models = [case for case in results.cases if " x2" in case.name and ("Pythia" in case.name or "Llama" in case.name)]
    large = [case for case in results.cases if not case.name.startswith(PREFIX)]
    if not large:
        return
    figure = Figure(figsize=(14, max(6.5, 0.62 * len(bars + models) + 1.6)), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _bars(left, bars + models or large)
    _roof(right, large, results.rates)
    title = f"growkernels on {results.machine.get('gpu') or results.machine['processor']}, {results.machine['threads']} threads"
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=_INK)
    figure.savefig(path)


def _bars(axes: Axes, cases: Sequence[CaseResult]) -> None:
    """Times as multiples of the copy floor, on a logarithmic axis."""
    height = 0.16
    ticks = []
    for row, case in enumerate(reversed(cases)):
        names = [name for name in _COLORS if name in case.measurements]
        for k, name in enumerate(names):
            ratio = case.ratio(name, FLOOR) or np.nan
            y = row + ((len(names) - 1) / 2 - k) * height
            axes.barh(y, ratio - 0.5, left=0.5, height=height * 0.92, color=_COLORS[name])
            axes.text(ratio * 1.04, y, _short(ratio), va="center", fontsize=7.5, color=_INK)
        ticks.append(case.name)
    axes.axvline(1, color=_INK, linewidth=1.2)
    axes.set_xscale("log")
    longest = max(case.ratio(name, FLOOR) or 1 for case in cases for name in _COLORS if name in case.measurements)
    axes.set_xlim(0.5, longest * 1.8)
    axes.set_ylim(-0.6, len(cases) - 0.4)
    axes.set_yticks(range(len(ticks)), ticks[::1])
    axes.set_xlabel("time, as a multiple of copying the same bytes (line: copy floor)", color=_INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    shown = [name for name in _COLORS if any(name in case.measurements for case in cases)]
    handles = [axes.barh(0, 0, color=_COLORS[name], label=name) for name in shown]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.45, 1.06), ncols=len(shown), frameon=False, fontsize=9
    )
    _plain(axes)
    axes.grid(axis="x", color=_FAINT, linewidth=0.5, alpha=0.6)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 3 else f"{value:.2f}"


def _roof(axes: Axes, cases: Sequence[CaseResult], rates: dict[str, float]) -> None:
    """Bytes a second against operations per byte: the roof is the copy rate, and where noise is dense, its own rate."""
    copy, operations = rates["copy"] / 1e9, rates["operations"] / 1e9
    dense = [case for case in cases if case.operations]
    x = np.geomspace(0.01, 40, 400)
    axes.plot(x, np.minimum(copy, operations / x), color=_INK, linewidth=1.6)
    axes.text(0.011, copy * 1.08, f"copy rate {copy:.1f} GB/s", fontsize=9, color=_INK)
    slope = operations / copy
    axes.text(slope * 1.25, copy * 0.98, f"noise in cache {operations:.0f} Gop/s", fontsize=9, color=_INK)
    marks: dict[str, Any] = {OURS_OUT: "o", EAGER: "s", PAPER: "D", COMPILED: "^"}
    for name, mark in marks.items():
        points = [(c.operations / c.bytes, c.bytes / c.median(name) / 1e9) for c in dense if name in c.measurements]
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(
                xs, ys, s=44, marker=mark, color=_COLORS[name], edgecolor="white", linewidth=0.6, label=name, zorder=3
            )
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("declared operations per byte of least traffic", color=_INK)
    axes.set_ylabel("GB/s of least traffic", color=_INK)
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    _plain(axes)
    axes.grid(which="major", color=_FAINT, linewidth=0.5, alpha=0.6)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=9)
    axes.set_axisbelow(True)

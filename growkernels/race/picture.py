"""A picture of a race: held-out loss against FLOPs, with the spread of the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from growkernels.race.ranking import Curve, Ranking
from growkernels.report.figure import new_figure, save_figure

_COLORS = ("#33658a", "#b4441c", "#0b6e63", "#8a7a33", "#7a3e8a", "#6b7785", "#c0558a", "#2f9e44")


def draw_race(curves: Mapping[str, Sequence[Curve]], ranking: Ranking, source_flops: float, path: str | Path) -> None:
    """Write a PNG of the mean loss of each candidate, the range of its seeds as a band.

    Args:
        curves: The runs of each candidate.
        ranking: What the title tells.
        source_flops: Of the source, whose end is marked.
        path: The file to write.

    Raises:
        GrowthError: The file cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(9.5, 5.6, dpi=130)
    axes = figure.add_subplot()
    for number, (name, runs) in enumerate(curves.items()):
        color = _COLORS[number % len(_COLORS)]
        rows = list(zip(*(run.losses for run in runs), strict=True))
        flops = runs[0].flops
        axes.fill_between(
            flops, [min(row) for row in rows], [max(row) for row in rows], color=color, alpha=0.2, linewidth=0
        )
        means = [sum(row) / len(row) for row in rows]
        axes.plot(flops, means, color=color, linewidth=1.8, marker="o", markersize=3, label=name)
    if source_flops:
        axes.axvline(source_flops, color="#1f2933", linestyle=":", linewidth=1, label="spent on the source")
    seeds = len(next(iter(curves.values())))
    verdict = (
        f"{ranking.leader} leads at equal {ranking.at}" if ranking.clear else f"no clear leader at equal {ranking.at}"
    )
    axes.set_title(f"{verdict} ({seeds} seed{'s' if seeds > 1 else ''}, band: their range)", loc="left", fontsize=11)
    axes.set_xlabel(
        "training FLOPs" + (", the source's counted" if source_flops else ", the source's unknown and left out")
    )
    axes.set_ylabel("held-out loss, nats per token")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save_figure(figure, path)

"""The picture of the demo: how each grown model takes up training again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@dataclass(frozen=True)
class Curve:
    """Held-out loss (nats per byte) by training step since the growth."""

    name: str
    points: list[tuple[int, float]]


def draw_curves(path: Path, curves: list[Curve]) -> None:
    """Write a PNG with one line a model."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for number, curve in enumerate(curves):
        steps, losses = zip(*curve.points, strict=True)
        # Dashed lines of several lengths: models that compute the same function start on top of each other.
        axes.plot(steps, losses, marker="o", markersize=4, dashes=(4 + 2 * number, 2), linewidth=2, label=curve.name)
    axes.set_xlabel("training steps after the growth")
    axes.set_ylabel("held-out loss, nats per byte")
    axes.set_title("Training on after growth")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=140)
    plt.close(figure)

"""The picture of a fit: its loss, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

#: Steps that the smooth line averages over, as a share of all.
_WINDOW = 0.1
#: Steps that are marked one by one.
_FEW = 20


def draw_losses(path: str | Path, losses: Sequence[float]) -> None:
    """Write a PNG with the loss of every step and its running mean."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=120, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    steps = range(1, len(losses) + 1)
    window = max(1, round(len(losses) * _WINDOW))
    means = [sum(losses[max(0, i - window) : i]) / min(i, window) for i in steps]
    few = len(losses) <= _FEW
    axes.plot(steps, losses, color="#8fa3b8", linewidth=1, marker="o" if few else None, label="batch")
    if window > 1:
        axes.plot(steps, means, color="#b4441c", linewidth=2, label=f"mean of {window}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("step of the operator")
    axes.set_ylabel("loss of the grown model, nats per token")
    axes.set_title("Fitting the growth operator")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, format="png")

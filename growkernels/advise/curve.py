"""A picture of loss against FLOPs: training from scratch and growing, with what is known set apart from what is assumed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from growkernels.advise.counts import count_text
from growkernels.report.figure import new_figure, save_figure

if TYPE_CHECKING:
    from growkernels.advise.advice import Advice

#: Chinchilla's law L = E + A / N^a + B / D^b as refitted by Epoch (arXiv 2404.10102), nats per token of their text.
_E, _A, _B, _N_POWER, _D_POWER = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
_SCRATCH, _GROWN, _SMALL, _INK, _FAINT = "#33658a", "#b4441c", "#8a7a33", "#1f2933", "#6b7785"
#: Where curves begin, as a share of the small model's tokens or FLOPs.
_START = 0.2
#: Tokens that the grown model is assumed to need to come back, as a share of those of the small model. Only drawn.
_RECOVERY = 0.5


def draw_curve(advice: Advice, path: str | Path) -> None:
    """Write a PNG of loss against training FLOPs.

    Known, drawn solid, are FLOPs: where the small model grows and where each road ends. Assumed, drawn dashed, are losses:
    Chinchilla's law, and that the grown model runs ahead of it by the measured saving.

    Args:
        advice: What was advised.
        path: The file to write.

    Raises:
        GrowthError: The file cannot be written, or matplotlib is not installed.
    """
    figure = new_figure(10, 6.6, dpi=130)
    axes = figure.add_subplot()
    _curves(axes, advice)
    _known(axes, advice)
    axes.set_xscale("log")
    axes.set_xlabel("training FLOPs, the small model's counted")
    axes.set_ylabel("loss, nats per token (Chinchilla's text)")
    axes.set_title(_title(advice), loc="left", fontsize=11, color=_INK)
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=8.5, loc="outside lower center", ncols=2)
    save_figure(figure, path)


def _loss(parameters: float, tokens: Any) -> Any:
    return _E + _A / parameters**_N_POWER + _B / np.asarray(tokens) ** _D_POWER


def _curves(axes: Any, advice: Advice) -> None:
    flops, target, small = advice.flops, advice.target, advice.small
    spent = advice.timing.tokens if advice.source_tokens is None else advice.source_tokens
    each = flops.scratch / advice.tokens
    tokens = np.geomspace(min(_START * flops.small / each, advice.tokens / 2), advice.tokens, 200)
    axes.plot(
        tokens * each,
        _loss(target.parameters, tokens),
        color=_SCRATCH,
        linestyle="--",
        linewidth=1.8,
        label="assumed: target from scratch, by Chinchilla's law",
    )
    before = np.geomspace(spent * _START, spent, 80)
    axes.plot(
        before * (flops.small / spent),
        _loss(small.parameters, before),
        color=_SMALL,
        linestyle="--",
        linewidth=1.8,
        label="assumed: small model, by the same law",
    )
    # After the growth: the loss of training from scratch, reached with a smaller share of its FLOPs.
    start = flops.small + _RECOVERY * spent * each
    if start < flops.scratch:
        _grown(axes, advice, spent, each, np.geomspace(start, flops.scratch, 200))


def _grown(axes: Any, advice: Advice, spent: float, each: float, x: Any) -> None:
    flops, target = advice.flops, advice.target
    own = np.maximum(x - flops.small, each)
    ahead = _loss(target.parameters, own / (1 - advice.saving.high) / each)
    behind = _loss(target.parameters, own / (1 - advice.saving.low) / each)
    near = advice.saving.basis == "measured nearby"
    words = (
        f"measured nearby by the Gstack paper: {advice.saving.low:.0%} to {advice.saving.high:.0%} of tokens saved"
        if near
        else f"extrapolated: 0 to {advice.saving.high:.0%} of tokens saved; nothing near was measured"
    )
    axes.plot(
        x, ahead, color=_GROWN, linestyle="--", linewidth=1.8, label="assumed: grown model, at the largest saving"
    )
    axes.fill_between(
        x,
        ahead,
        behind,
        color=_GROWN,
        alpha=0.22 if near else 0.10,
        hatch=None if near else "///",
        linewidth=0,
        label=words,
    )
    axes.plot(
        [flops.small, x[0]],
        [_loss(advice.small.parameters, spent), ahead[0]],
        color=_GROWN,
        linestyle=":",
        linewidth=1.2,
        label="unknown: how long the grown model takes to recover",
    )


def _known(axes: Any, advice: Advice) -> None:
    flops = advice.flops
    marks = (
        (flops.small, _SMALL, "-", f"known: growth at {flops.small:.2g} FLOPs"),
        (flops.scratch, _SCRATCH, "-", f"known: end of training from scratch, {flops.scratch:.2g}"),
        (flops.equal_loss_best, _GROWN, "--", f"assumed: end at the largest saving, {flops.equal_loss_best:.2g}"),
    )
    for x, color, style, label in marks:
        axes.axvline(x, color=color, linestyle=style, linewidth=1.1, label=label)


def _title(advice: Advice) -> str:
    target = f"{count_text(advice.target.parameters)} parameters, {count_text(advice.tokens)} tokens"
    layers = f"{advice.small.layers} to {advice.target.layers} layers"
    if advice.source_tokens is not None:
        return f"{target}: {layers} from a source of {count_text(advice.source_tokens)} tokens"
    law = "timing extrapolated" if advice.timing.extrapolated else "timing within the fitted range"
    return f"{target}: {layers} after {count_text(advice.timing.tokens)} tokens ({law})"

"""When to grow: the timing law of the Gstack paper, where it was fitted, and where it is cut off."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

from growkernels.advise.counts import count_text

#: Sizes (parameters without embeddings) and budgets (FLOPs) of the runs that the law was fitted to.
FITTED_PARAMETERS = (410e6, 3e9)
FITTED_FLOPS = (0.8e20, 1.2e21)
#: The largest share of the tokens that is advised for the small model. The law itself gives 34 % for the smallest model at the
#: smallest budget that it was fitted to; beyond, it runs away (124 M parameters and 10 B tokens: 10.8 B tokens).
LARGEST_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class Timing:
    """How many tokens the small model sees before it grows.

    Attributes:
        tokens: The advice: the law's value, or the cap where that is smaller.
        law_tokens: The law's value.
        capped: Whether the cap applies.
        extrapolated: What lies outside the range that the law was fitted to, in words; empty inside.
    """

    tokens: float
    law_tokens: float
    capped: bool
    extrapolated: tuple[str, ...]


def growth_timing(parameters: float, tokens: float) -> Timing:
    """Tokens of the small model by the Gstack law (arXiv 2405.15319, section 5).

    log10(d) = 0.88 log10(N) + 163.27 / log10(C) - 5.74, with C = 6 N D.

    Args:
        parameters: N, of the target, embeddings not counted.
        tokens: D, which the target would be trained on from scratch.

    Returns:
        The timing, with what the law does not cover.

    Example:
        >>> round(growth_timing(8e9, 15e12).tokens / 1e9, 2)
        6.58
    """
    flops = 6 * parameters * tokens
    exponent = 0.88 * log10(parameters) + 163.27 / log10(flops) - 5.74
    # A tiny budget sends the exponent to where floats end; the cap is what counts there.
    law = 10 ** min(exponent, 300)
    cap = tokens * LARGEST_SHARE
    outside = [
        f"{name} {text(value)}, fitted on {text(low)} to {text(high)}"
        for name, value, (low, high), text in (
            ("target parameters", parameters, FITTED_PARAMETERS, count_text),
            ("training FLOPs", flops, FITTED_FLOPS, "{:.2g}".format),
        )
        if not low <= value <= high
    ]
    return Timing(min(law, cap), law, law > cap, tuple(outside))

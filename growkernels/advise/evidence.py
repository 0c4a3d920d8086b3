"""What has been measured of growth, at which scale, under which condition, and whether anyone has repeated it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from growkernels.advise.counts import count_text

#: How far beyond the measured sizes and tokens a saving is still given as evidence.
_REACH = 1.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """One published result.

    Attributes:
        claim: What was found.
        scale: Sizes of the models and tokens of the runs.
        condition: Under which it holds.
        repeated: Whether anyone else has found it, or the opposite.
        source: The paper or the code.
    """

    claim: str
    scale: str
    condition: str
    repeated: str
    source: str


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """One measured run of depth growth by stacking: tokens to equal loss against training from scratch.

    Attributes:
        parameters: Of the target, as the paper names it.
        tokens: That training from scratch took; None where the paper's summary names none.
        speed_up: Tokens from scratch / tokens of the grown model - 1.
    """

    parameters: float
    tokens: float | None
    speed_up: float

    @property
    def saving(self) -> float:
        """The same as a share of the tokens from scratch."""
        return 1 - 1 / (1 + self.speed_up)


#: Gstack, arXiv 2405.15319: depth 4 times, source trained on about 10 B tokens.
STACKING = (
    SpeedUp(1.1e9, None, 0.491),
    SpeedUp(3e9, 180e9, 0.486),
    SpeedUp(3e9, 240e9, 0.545),
    SpeedUp(7e9, 300e9, 0.546),
)

RECORD = (
    Evidence(
        "stacking in depth: 35 % of the tokens saved at equal loss (a speed-up of 54.6 %)",
        "1.1 B, 3 B and 7 B parameters, up to 300 B tokens",
        "4 times the layers, young source (about 10 B tokens), fresh AdamW, warm-up again",
        "in part: LongCat-Flash (560 B) stacks 14 to 28 layers and reports a better result than from scratch; 2511.04981 "
        "finds plain copies work; small runs elsewhere found little (a nanochat report, 2605.13405)",
        "Gstack, arXiv 2405.15319",
    ),
    Evidence(
        "each layer twice in a row beats stacking: +10.7 % accuracy at equal further FLOPs",
        "17 B to a 70 B mixture of experts, 1 T tokens",
        "converged source (beyond about 20 tokens a parameter), whose own FLOPs are not counted",
        "no; 2511.04981 finds no difference between the two orders",
        "arXiv 2510.08008",
    ),
    Evidence(
        "width growth of dense language models: used, not proven to save",
        "Motif-2 2.6 B to 12.7 B, 5.5 T further tokens; direct width copies at 1.1 B: -0.7 % (no gain)",
        "copies need noise, a freeze or a state mask to separate",
        "used in production, but no matched run from scratch at 1 B or more; the -0.7 % comes from code that permutes "
        "rows of the fused query, key, value projection, and is doubtful",
        "HyperCloning, arXiv 2409.12903; 2511.07464; Gstack",
    ),
    Evidence(
        "dense to mixture of experts: validation loss 4.1 % lower at equal FLOPs",
        "15 B, 1 T tokens",
        "against going on with the dense model; not against a mixture trained from scratch",
        "yes in production (Skywork, Qwen, LLM-jp); bounded by Skywork and 2502.03009: no gain once the budget is twice "
        "the dense model's",
        "NVIDIA upcycling",
    ),
    Evidence(
        "more experts by clones: 32 % of the GPU hours saved",
        "7 B to 13 B",
        "growth at two thirds of the run or earlier",
        "no",
        "arXiv 2604.19835",
    ),
    Evidence(
        "a longer trained source gains less from each further token",
        "up to 1.1 B parameters",
        "stacking and continued pre-training",
        "the form agrees with 2502.03009 (dense to mixture of experts)",
        "arXiv 2510.06548",
    ),
)


@dataclass(frozen=True, slots=True)
class Saving:
    """The share of the target's tokens that growth in depth may save at equal loss.

    Attributes:
        low: What can be relied on.
        high: The largest measured value.
        basis: `measured nearby` if size and tokens are within 1.5 times the measured ones, else `extrapolated`.
        reason: Why.
    """

    low: float
    high: float
    basis: Literal["measured nearby", "extrapolated"]
    reason: str


def depth_saving(parameters: float, tokens: float) -> Saving:
    """What the measured runs allow to expect of a target of that size on that many tokens.

    Args:
        parameters: Of the target, embeddings not counted.
        tokens: Of training from scratch.

    Returns:
        The saving, with its basis; 0 as the lower end where nothing near was measured.
    """
    savings = [run.saving for run in STACKING]
    sizes = [run.parameters for run in STACKING]
    most = max(run.tokens for run in STACKING if run.tokens is not None)
    fewest = min(run.tokens for run in STACKING if run.tokens is not None)
    reasons = []
    if not min(sizes) / _REACH <= parameters <= max(sizes) * _REACH:
        reasons.append(
            f"{count_text(parameters)} parameters, measured were {count_text(min(sizes))} to {count_text(max(sizes))}"
        )
    if not fewest / _REACH <= tokens <= most * _REACH:
        reasons.append(f"{count_text(tokens)} tokens, measured were {count_text(fewest)} to {count_text(most)}")
    if reasons:
        return Saving(0.0, max(savings), "extrapolated", "; ".join(reasons))
    return Saving(
        min(savings), max(savings), "measured nearby", "size and tokens are near the runs of the Gstack paper"
    )

"""Which operator to use when: by the source, by what may be trained, and by the budget."""

from __future__ import annotations

from dataclasses import dataclass

from growkernels.advise.counts import count_text

#: Tokens per parameter up to which a source counts as young (Chinchilla); one laboratory's boundary, see the evidence.
YOUNG = 20


@dataclass(frozen=True, slots=True)
class Situation:
    """One row of the guide.

    Attributes:
        when: The situation.
        use: What to do.
        why: On what grounds.
        applies: Whether it is the one at hand; None where nothing given tells.
    """

    when: str
    use: str
    why: str
    applies: bool | None


def situations(small: float, source_tokens: float | None) -> tuple[Situation, ...]:
    """The guide, with the boundary between young and converged in tokens of the small model.

    Args:
        small: Parameters of the small model, embeddings not counted.
        source_tokens: Tokens that the source has seen; None if it is still to be trained, for as long as is advised.
    """
    boundary = YOUNG * small
    young = source_tokens is None or source_tokens <= boundary
    limit = f"{count_text(boundary)} tokens ({YOUNG} a parameter)"
    return (
        Situation(
            f"source trained for this growth, or young: up to {limit}; everything trains",
            "--depth 4 (gstack), then 2 to 4 at most; fresh AdamW, warm-up again, the same peak learning rate",
            "Gstack: stacking beats the other orders, one growth beats several; its own sources were beyond that limit too, "
            "which is one laboratory's claim",
            young,
        ),
        Situation(
            f"converged source, beyond {limit}; 100 B tokens or more to come",
            "--depth 2 --depth-operator interpolate, or the middle layers twice (--depth-operator solar, half as many more by "
            "--num-layers); peak learning rate back to half, 500 to 3000 steps of warm-up; from the last stable checkpoint, "
            "not the decayed one",
            "2510.08008 and SOLAR, Yi, Falcon3; 2511.04981 sees no difference to stacking: race both",
            not young,
        ),
        Situation(
            "converged source, few tokens, old abilities must stay: old weights frozen",
            "new layers that add nothing yet, one to every four: --depth-operator llama_pro and a quarter more --num-layers; "
            "growkernels.freeze_old lets only them be trained",
            "LLaMA-Pro; freezing is what protects, not the identity",
            None,
        ),
        Situation(
            "dense to mixture of experts, budget below the dense model's cost",
            "upcycling: copies of the feed-forward part, renormalized gates, noise on the copies",
            "NVIDIA, Skywork; hundreds of B tokens: redraw half of each expert (drop-upcycling)",
            None,
        ),
        Situation(
            "dense to mixture of experts, budget of twice the dense model's cost or more",
            "do not upcycle: train the mixture from scratch",
            "Skywork at 0.3 B: equal at 2/3 of the cost, from scratch clearly better at twice",
            None,
        ),
        Situation(
            "mixture to a larger mixture",
            "clone experts and multiply top-k alike (exact), 40 dB of noise; at equal inference cost keep top-k and train "
            "for half of the pre-training at least",
            "2604.19835",
            None,
        ),
        Situation(
            "dense width",
            "--width 2 --noise-snr-db 40, with the multipliers below; expect less than of depth",
            "HyperCloning; without noise copies stay equal for ever, unless the training uses dropout",
            None,
        ),
        Situation(
            "unsure",
            "race three candidates to the end of the warm-up, two seeds: growkernels race",
            "the loss at step 0 misleads, and so does a race of a few steps (2406.02469, 2604.04281)",
            None,
        ),
    )

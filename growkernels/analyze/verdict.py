"""What a checkpoint is: cloned without noise, cloned with noise, a clone that was trained on, or nothing of the kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from growkernels.analyze.matrices import Checkpoint
from growkernels.analyze.symmetry import Symmetry, VectorSymmetry

Origin = Literal["noise-free clone", "noisy clone", "clone trained on", "no clone"]

#: Differences below this share of the weights are rounding of float32 training, not learning: copies that are locked differ
#: by the order of sums alone.
LOCKED = 1e-3
#: Units in the last place by which sums over copies may differ in a clone with noise that nobody has trained.
_ROUNDINGS = 4


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of copies in width.

    Attributes:
        origin: What the checkpoint is.
        reason: Why.
        cosine: Mean cosine between the copies, weighted by size; None where there are none.
        locked: Whether copies that equal gradients would keep equal fill every layer (symmetry lock).
        advice: What to do about it; empty if nothing.
    """

    origin: Origin
    reason: str
    cosine: float | None
    locked: bool
    advice: str


def judge(checkpoint: Checkpoint, matrices: Sequence[Symmetry], vectors: Sequence[VectorSymmetry]) -> Verdict:
    """Tell where a checkpoint comes from by its copies.

    A noise-free clone has equal copies everywhere. Noise of HyperCloning lies on the matrices inside the layers and cancels
    over the copies of the input: until the model is trained, embedding and norms are equal, and the sums over input copies
    are equal for all output copies up to the rounding of the stored type. Training breaks both, and the cosine stays far
    above chance.

    Args:
        checkpoint: What is analyzed.
        matrices: Symmetry of its matrices.
        vectors: Symmetry of its norms and biases.
    """
    sizes = {weight.name: weight.view.numel() for weight in checkpoint.matrices}
    found = [entry for entry in matrices if entry.found]
    if not found:
        return Verdict(
            "no clone",
            "features are no more alike than chance: trained from scratch, or not grown in width",
            None,
            False,
            "",
        )
    weights = [sizes[entry.name] for entry in found]
    cosine = sum(w * e.cosine for w, e in zip(weights, found, strict=True)) / sum(weights)
    chance = sum(w * e.chance for w, e in zip(weights, found, strict=True)) / sum(weights)
    distances = [entry.distance for entry in found] + [entry.distance for entry in vectors]
    if max(distances) <= LOCKED:
        exact = "equal to the bit" if max(distances) == 0 else f"equal up to {max(distances):.1g} of their norm"
        return Verdict(
            "noise-free clone",
            f"all copies are {exact}",
            cosine,
            True,
            "equal copies get equal gradients and stay equal unless the training uses dropout: grow again with noise "
            "(--noise-snr-db 40), or freeze one copy",
        )
    # Noise cancels over copies of the input, so that none lies where there are no such copies, nor outside of the layers.
    clean = [entry.distance for entry in found if entry.layer is None or entry.copies[1] == 1]
    clean += [entry.distance for entry in vectors]
    sums = [entry.sum_distance for entry in found if entry.sum_distance is not None]
    bound = _ROUNDINGS * max(torch.finfo(weight.view.dtype).eps for weight in checkpoint.matrices)
    if max(sums, default=0.0) <= bound and max(clean, default=1.0) == 0:
        return Verdict(
            "noisy clone",
            f"copies differ by noise that cancels (to {max(sums, default=0.0):.1g}) and are equal where there is none: not "
            f"trained yet",
            cosine,
            False,
            "",
        )
    return Verdict(
        "clone trained on",
        f"copies are related (cosine {cosine:.2f}, chance {chance:.2f}) but differ in more than noise that cancels",
        cosine,
        False,
        "",
    )

"""What the whole road costs, the small model counted, and what the growth itself takes."""

from __future__ import annotations

from dataclasses import dataclass

from growkernels.advise.evidence import Saving
from growkernels.advise.shapes import Target

#: Anonymous memory of growing a checkpoint, whatever its size: imports and buffers (measured: 273 MB).
_CHECKPOINT_MEMORY = 300e6
#: float32 weights, gradients and two moments of AdamW.
_TRAINING_BYTES = 16


@dataclass(frozen=True, slots=True)
class Flops:
    """Training FLOPs, 6 for each weight of a product and token (attention scores left out).

    Attributes:
        scratch: The target from scratch on all tokens.
        small: The small model until it grows.
        same_tokens: Small model, then the target on the rest of the tokens. Arithmetic; it promises no loss.
        equal_loss_best: Small model and target until the loss of training from scratch, at the largest measured saving.
        equal_loss_worst: The same at the smallest saving that the evidence allows.
    """

    scratch: float
    small: float
    same_tokens: float
    equal_loss_best: float
    equal_loss_worst: float


def flops_of_road(target: Target, small: float, tokens: float, growth_tokens: float, saving: Saving) -> Flops:
    """The FLOPs of both roads.

    Args:
        target: The large model.
        small: Active parameters of the small model, embeddings not counted.
        tokens: Of the target from scratch.
        growth_tokens: Of the small model.
        saving: Tokens of the target that may be saved; the small model's cost comes on top of the rest.
    """
    each = 6 * (target.active + target.head)
    source = 6 * (small + target.head) * growth_tokens
    return Flops(
        scratch=each * tokens,
        small=source,
        same_tokens=source + each * (tokens - growth_tokens),
        equal_loss_best=source + each * tokens * (1 - saving.high),
        equal_loss_worst=source + each * tokens * (1 - saving.low),
    )


@dataclass(frozen=True, slots=True)
class GrowthCost:
    """What the growth takes.

    Attributes:
        bytes_read: The small checkpoint.
        bytes_written: The large checkpoint.
        seconds: Both through the disk at the given rate, one after the other: the upper end where they overlap.
        checkpoint_memory: Anonymous memory, bytes, of growing files.
        live_memory: Bytes of both models, for a live model that grows.
        training_memory: Bytes of the grown model in training with AdamW in float32, activations not counted.
    """

    bytes_read: float
    bytes_written: float
    seconds: float
    checkpoint_memory: float
    live_memory: float
    training_memory: float


def cost_of_growth(target: Target, small_stored: float, disk_rate: float) -> GrowthCost:
    """Memory, bytes and time of growing a checkpoint.

    Args:
        target: The large model.
        small_stored: All parameters of the small one.
        disk_rate: Bytes per second that the disk reads and writes.
    """
    read, written = small_stored * target.bytes_each, target.stored * target.bytes_each
    return GrowthCost(
        read, written, (read + written) / disk_rate, _CHECKPOINT_MEMORY, read + written, target.stored * _TRAINING_BYTES
    )

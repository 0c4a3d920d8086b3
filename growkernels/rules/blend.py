"""Noise that a finished tensor is blended with, such as Gstack's noise after stacking."""

from __future__ import annotations

from dataclasses import dataclass

from growkernels.errors import GrowthError


@dataclass(frozen=True, slots=True)
class Blend:
    """`(1 - share) * target + share * std * z`, with `z` of field 1 of the noise at the row-major position.

    It is what `ops.replicate_` computes. Raises GrowthError unless the share is in (0, 1] and the standard deviation positive.
    """

    share: float
    std: float

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.std < float("inf")):
            raise GrowthError(f"{self}: expected a share above 0 and up to 1, and a positive standard deviation")

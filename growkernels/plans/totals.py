"""What a model costs: the sums that a growth changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Totals:
    """Stored parameters, their bytes, floating-point operations per token, and layers.

    FLOPs count 2 per weight of every matrix product, a tied LM head included, and of experts those that a token is sent to;
    attention scores, norms and lookups are left out. All zero where unknown.
    """

    parameters: int = 0
    nbytes: int = 0
    flops_per_token: int = 0
    layers: int = 0

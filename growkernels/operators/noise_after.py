"""Gstack's noise after stacking: `(1 - alpha) W + alpha e` in every matrix (arXiv 2405.15319, its appendix on noise).

The variance of e is 1/(d l^2) for what writes the residual stream and 2/(5 d) for all other matrices and embeddings, with the
target's hidden size d and number of layers l. An alpha of 0.2 helped a little in the paper, more hurt.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from growkernels.errors import GrowthError
from growkernels.layouts.base import TensorLayout
from growkernels.plans import Claim, Learned, Tile
from growkernels.rules.blend import Blend


def claim(share: float) -> Claim:
    """What the noise does to the function."""
    return Claim("noise", "no", f"{share:.0%} of every matrix is noise; further training recovers what that changes")


def with_noise(how: Tile | Learned, tensor: TensorLayout, share: float, hidden: int, layers: int) -> Tile | Learned:
    """The rule of a tensor with noise at the end, where it is a matrix that draws on a source.

    hidden, layers: of the target. Raises GrowthError for learned rules.
    """
    if isinstance(how, Learned):
        raise GrowthError("noise_after is for copies of weights; ligo and average mix them. Leave it out.")
    if len(tensor.axes) < 2 or how.draws_nothing or tensor.kind not in ("linear", "head", "embedding", "position"):
        return how
    writes = tensor.writes_stream and tensor.input_axis is not None
    variance = 1 / (hidden * layers**2) if writes else 2 / (5 * hidden)
    return replace(how, blend=Blend(share, sqrt(variance)))

"""Every provider's outputs are checked before it is timed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from growkernels import ops
from growkernels.ops import Tile
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.tile import reference as tile_reference

_BITS = {4: torch.int32, 2: torch.int16}
#: Rows of a grown tensor that are derived again by the reference, in bands: where they begin, as fractions of the height.
_BANDS, _BAND = (0.0, 0.3, 0.7, 1.0), 2


def same_bits(actual: Tensor, expected: Tensor) -> bool:
    """Equal shape, dtype and bits."""
    bits = _BITS[actual.element_size()]
    same = actual.dtype == expected.dtype and actual.shape == expected.shape
    return same and torch.equal(actual.view(bits), expected.to(actual.device).view(bits))


def blocks_are(out: Tensor, block: Tensor, zero: Tensor | None, n_out: int, n_in: int) -> None:
    """Every block (i, j) has the bits of `block`, or where `zero` is given and j is not i mod n_in, those of `zero`."""
    rows, cols = block.shape
    for i in range(n_out):
        for j in range(n_in):
            expected = block if zero is None or j == i % n_in else zero
            part = out[i * rows : (i + 1) * rows, j * cols : (j + 1) * cols]
            assert same_bits(part.contiguous(), expected), f"block {(i, j)} of {tuple(out.shape)} {out.dtype}"


def follows_reference(out: Tensor, weight: Tensor, spec: Tile, bands: Sequence[float] = _BANDS) -> None:
    """Every entry is written, and bands of rows, the first and the last among them, have the reference's bits."""
    assert not out.isnan().any(), f"entries of {tuple(out.shape)} {out.dtype} are not written"
    rows, cols = out.shape if out.ndim == 2 else (1, out.shape[0])
    last = max(0, rows - _BAND)
    for start in (int(last * fraction) for fraction in bands):
        band = range(start, min(rows, start + _BAND))
        expected = tile_reference.tile_rule_slice(weight, spec, tuple(out.shape), band, range(cols), out.dtype)
        actual = out.reshape(rows, cols)[band.start : band.stop]
        assert same_bits(actual.contiguous(), expected), f"rows {band} of {tuple(out.shape)} {out.dtype}"


def noise_cancels(out: Tensor, weight: Tensor, n_out: int, n_in: int, std: float) -> None:
    """A rival's own noise: its copies add up to W within the rounding of the stored values, and it has the size asked for."""
    rows, cols = weight.shape
    blocks = out.view(n_out, rows, n_in, cols)[:, :: max(1, rows // 64)].double()
    source = weight[:: max(1, rows // 64)].double()
    # The rival rounds W / n, e, their sum and in narrow dtypes the product too: four half units in the last place at most.
    bound = 4 * n_in * torch.finfo(out.dtype).eps / 2 * blocks.abs().max()
    assert (blocks.sum(2) - source).abs().max() <= bound
    noise = blocks - source[:, None] / n_in
    measured = noise[:, :, : n_in - n_in % 2].square().mean().sqrt()
    # Five standard errors of a standard deviation from this many draws, and a bfloat16's rounding of its scale.
    slack = 5 / (2 * noise.numel()) ** 0.5 * n_in + torch.finfo(out.dtype).eps
    assert abs(float(measured) / std - 1) <= slack, f"noise of std {float(measured)}, expected {std}"


def copies_are(outs: Sequence[Tensor], blocks: Sequence[Tensor], index: Sequence[int]) -> None:
    """Every output is its block."""
    assert len(outs) == len(index)
    for out, i in zip(outs, index, strict=True):
        assert same_bits(out, blocks[i]), f"copy of block {i}"


def expected_mean_square(tensors: Sequence[Tensor], divisors: Sequence[float]) -> Tensor:
    """By the reference; of tensors on a GPU by the CPU kernels, which tests hold to the reference: a hundred times as fast."""
    if tensors[0].device.type == "cpu":
        return noise_reference.mean_square(tensors, divisors)
    return ops.mean_square([t.cpu() for t in tensors], divisors)

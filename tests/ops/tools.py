"""What op tests share: exact comparison, data that is never zero, tensors of any strides."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from growkernels.ops import TileSpec

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_BITS = {8: torch.int64, 4: torch.int32, 2: torch.int16}
#: Not a result of anything here: what outputs hold before they are written.
POISON = 12345.0


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    """Equal shapes, dtypes and bits; one NaN counts as another."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    bits = _BITS[actual.element_size()]
    differ = (actual.contiguous().view(bits) != expected.contiguous().view(bits)) & ~(actual.isnan() & expected.isnan())
    if differ.any():
        at = tuple(differ.nonzero()[0].tolist())
        raise AssertionError(
            f"{int(differ.sum())} of {differ.numel()} differ; at {at}: {actual[at]!r} != {expected[at]!r}"
        )


def data(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Normal values times a wide range of powers of two, without zeros."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    values = values * torch.exp2(torch.randint(-6, 3, shape, generator=generator).double())
    return torch.where(values == 0, 1.0, values).to(dtype)


SPECIAL = (float("nan"), float("inf"), float("-inf"), -0.0, 1e-45, 3e38, 65504.0, -6e-8)


def with_special(values: Tensor) -> Tensor:
    """The same values, with NaN, infinities, -0, subnormals and the largest values at the front."""
    flat = values.reshape(-1).clone()
    special = torch.tensor(SPECIAL, dtype=torch.float64).to(values.dtype)[: flat.numel()]
    flat[: special.numel()] = special
    return flat.reshape(values.shape)


LAYOUTS = ("contiguous", "transposed", "sliced", "offset")


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same values with other strides: transposed, every second element of a wider tensor, or off alignment."""
    if layout == "transposed" and values.ndim == 2:
        return values.t().contiguous().t()
    if layout == "sliced":
        wide = torch.full((*values.shape[:-1], 2 * values.shape[-1] + 1), POISON, dtype=values.dtype)
        view = wide[..., 1::2]
        view.copy_(values)
        return view
    if layout == "offset":
        flat = torch.full((values.numel() + 1,), POISON, dtype=values.dtype)
        flat[1:] = values.reshape(-1)
        return flat[1:].view(values.shape)
    return values.contiguous()


def poisoned(shape: tuple[int, ...], dtype: torch.dtype, layout: str = "contiguous") -> Tensor:
    """An output that is not yet written."""
    return laid_out(torch.full(shape, POISON, dtype=dtype), layout)


keys = st.integers(0, 2**64 - 1)
dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(LAYOUTS)


@st.composite
def segments(draw: st.DrawFn, size: int, copies: int | None = None, new: bool = True) -> tuple[int, ...]:
    """Flat segments over a source axis of `size`, each with `copies` copies if given; new entries if allowed."""
    flat: list[int] = []
    for _ in range(draw(st.integers(1, 4))):
        if new and draw(st.integers(0, 4)) == 0:
            flat += [-1, draw(st.integers(0, 9)), 1, 1]
            continue
        start = draw(st.integers(0, size))
        length = draw(st.integers(0, size - start))
        groups = draw(st.sampled_from([g for g in range(1, max(1, length) + 1) if length % g == 0]))
        flat += [start, length, copies or draw(st.integers(1, 4)), groups]
    return tuple(flat)


@st.composite
def specs(draw: st.DrawFn, rows: int, cols: int, noise: bool | None = None) -> TileSpec:
    """Any rule for a source of this shape."""
    noise = draw(st.booleans()) if noise is None else noise
    diagonal = draw(st.booleans())
    copies = draw(st.integers(1, 6)) if noise or diagonal else None
    fills = st.tuples(st.sampled_from([0.0, 0.5, -3.0]), st.sampled_from([0.0, 0.02]))
    return TileSpec(
        rows=draw(segments(rows)),
        cols=draw(segments(cols, copies)),
        divisor=draw(st.sampled_from([1.0, 2.0, 3.0, 7.0, 2**0.5])),
        shift=draw(st.sampled_from([0.0, -1.0, 1 / 3])),
        diagonal=diagonal,
        noise_std=draw(st.sampled_from([0.05, 1e-3, 0.3])) if noise else 0.0,
        key=draw(keys),
        fill=(draw(fills), draw(fills), draw(fills)),
    )

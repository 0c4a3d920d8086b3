"""What op tests share: exact comparison, data that is never zero, tensors of any strides. Needs torch and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

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
        wide = values.new_full((*values.shape[:-1], 2 * values.shape[-1] + 1), POISON)
        view = wide[..., 1::2]
        view.copy_(values)
        return view
    if layout == "offset":
        flat = values.new_full((values.numel() + 1,), POISON)
        flat[1:] = values.reshape(-1)
        return flat[1:].view(values.shape)
    return values.contiguous()


def poisoned(
    shape: tuple[int, ...], dtype: torch.dtype, layout: str = "contiguous", device: torch.device | str = "cpu"
) -> Tensor:
    """An output that is not yet written."""
    return laid_out(torch.full(shape, POISON, dtype=dtype, device=device), layout)

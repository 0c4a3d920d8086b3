"""What a plan needs to know of a tensor without its data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

#: Bytes per element of the dtypes that can be grown, by their torch name.
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and dtype of a stored tensor; `dtype` is torch's name without the prefix (`"bfloat16"`)."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def numel(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.numel * DTYPE_BYTES[self.dtype]

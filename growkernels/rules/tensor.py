"""What a plan needs to know of a tensor without its data."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

#: Bytes per element of the dtypes that can be grown, by their torch name.
DTYPE_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

#: Bytes per element of everything that can be stored; what is not in `DTYPE_BYTES` is only copied.
ELEMENT_BYTES = DTYPE_BYTES | {
    **dict.fromkeys(("bool", "uint8", "int8", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("int32", "uint32"), 4),
    **dict.fromkeys(("int64", "uint64"), 8),
}


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
        return self.numel * ELEMENT_BYTES[self.dtype]

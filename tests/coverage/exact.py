"""Stock classes in float64: their casts to float32 are left out while they run, so that an error of growth cannot hide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_WIDE = torch.float64


@contextmanager
def casts_left_out() -> Iterator[None]:
    """Float64 tensors stay float64 where a class would cast them to float32. Import the classes first: some compile then."""
    tensor = torch.Tensor
    kept = {name: getattr(tensor, name) for name in ("to", "float", "type", "__matmul__")}
    functions = {(torch, "softmax"): torch.softmax, (nn.functional, "softmax"): nn.functional.softmax}

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.dtype == _WIDE:
            args = tuple(_WIDE if value is torch.float32 else value for value in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs["dtype"] = _WIDE
        return kept["to"](self, *args, **kwargs)

    def to_float(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self if self.dtype == _WIDE else kept["float"](self, *args, **kwargs)

    def to_type(self: torch.Tensor, dtype: Any = None, **kwargs: Any) -> Any:
        if dtype is None:
            return kept["type"](self)
        narrows = self.dtype == _WIDE and dtype in (torch.float32, torch.FloatTensor)
        return self if narrows else kept["type"](self, dtype, **kwargs)

    def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype != b.dtype and _WIDE in (a.dtype, b.dtype):
            a, b = kept["to"](a, _WIDE), kept["to"](b, _WIDE)
        return kept["__matmul__"](a, b)

    def softmax_of(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def softmax(values: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if values.dtype == _WIDE:
                args = tuple(value for value in args if not isinstance(value, torch.dtype))
                kwargs.pop("dtype", None)
            return original(values, *args, **kwargs)

        return softmax

    patched = {"to": to, "float": to_float, "type": to_type, "__matmul__": matmul}
    for name, function in patched.items():
        setattr(tensor, name, function)
    for (module, name), function in functions.items():
        setattr(module, name, softmax_of(function))
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(tensor, name, function)
        for (module, name), function in functions.items():
            setattr(module, name, function)

"""The bytes that plain PyTorch moves: each of its operations reads each input once and writes each output once."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations that write a tensor without reading it first.
_OVERWRITES = ("copy_", "fill_", "zero_", "normal_", "uniform_", "random_")


class Traffic(TorchDispatchMode):
    """`with Traffic() as traffic`: `traffic.bytes` were moved inside. Views and bare allocations move nothing."""

    bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        is_view = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
        if is_view or name.startswith(("empty", "new_empty")):
            return result
        # `zeros_like` and its kin only look at the shape.
        reads = not (name.endswith("_like") or name.startswith("new_"))
        written = _tensors(result)
        for argument, given in zip(func._schema.arguments, args, strict=False):
            changes = argument.alias_info is not None and argument.alias_info.is_write
            if reads and not (changes and name in _OVERWRITES):
                self.bytes += sum(map(_size, _tensors(given)))
            if changes:
                written += [t for t in _tensors(given) if not any(t is other for other in written)]
        self.bytes += sum(map(_size, written))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _size(tensor: Tensor) -> int:
    """Bytes of the entries that are different places in memory: an expanded axis counts once."""
    entries = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        entries *= size if stride or size == 0 else 1
    return entries * tensor.element_size()

"""Which part of which parameter each tensor of a file is, read off the class's own way to write its file.

transformers splits, joins and renames parameters when it saves them. The same code runs here on the meta device, where no
value is moved: every tensor that comes out is a view, and its offset and strides tell where it is in its parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.layouts.base import Place


class _Views(TorchFunctionMode):
    """Leaves tensors where they are: what would be laid out anew stays a view, and what is joined is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.joined: dict[int, tuple[torch.Tensor, list[torch.Tensor], int]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func in (torch.Tensor.contiguous, torch.Tensor.clone):
            return args[0]
        result = func(*args, **(kwargs or {}))
        if func in (torch.cat, torch.concat):
            dim = args[1] if len(args) > 1 else (kwargs or {}).get("dim", 0)
            self.joined[id(result)] = result, list(args[0]), dim
        return result


def file_places(
    model: PreTrainedModel, state: Mapping[str, torch.Tensor]
) -> dict[str, tuple[tuple[int, ...], tuple[Place, ...]]]:
    """Shape and places of every tensor that the class would write, by its name in the file.

    Raises GrowthError where the file holds something that is no range of a parameter.
    """
    owners = {tensor.untyped_storage()._cdata: (name, tensor) for name, tensor in state.items()}
    views = _Views()
    with views:
        written = revert_weight_conversion(model, dict(state))
    found = {}
    for name, tensor in written.items():
        _, pieces, axis = views.joined.get(id(tensor), (tensor, [tensor], 0))
        places, start = [], 0
        for piece in pieces:
            owner = owners.get(piece.untyped_storage()._cdata)
            if owner is None:
                raise GrowthError(f"{name} is computed from its parameters when it is saved: this cannot be grown.")
            places.append(_place(name, piece, *owner, axis, start))
            start += piece.shape[axis] if piece.ndim else 0
        found[name] = tuple(tensor.shape), tuple(places)
    return found


def _place(name: str, piece: torch.Tensor, parameter: str, whole: torch.Tensor, axis: int, start: int) -> Place:
    """Where a view is in a contiguous parameter."""
    if tuple(piece.shape) == tuple(whole.shape) and piece.stride() == whole.stride():
        return Place(parameter, axis=axis, start=start)
    offset = piece.storage_offset() - whole.storage_offset()
    index: list[int | slice] = []
    order: list[int] = []
    strides = list(piece.stride())
    for size, stride in zip(whole.shape, whole.stride(), strict=True):
        first = offset // stride
        offset -= first * stride
        mine = next((a for a, s in enumerate(strides) if s == stride and a not in order), None)
        if mine is None:
            index.append(first)
        else:
            index.append(slice(first, first + piece.shape[mine]))
            order.append(mine)
            if first + piece.shape[mine] > size:
                raise GrowthError(f"{name} is no range of {parameter}: this cannot be grown.")
    if len(order) != piece.ndim:
        raise GrowthError(f"{name} is stored in another order than {parameter}: this cannot be grown.")
    # `order[k]` is the axis of the piece that is the k-th one left of the parameter: the inverse of a permutation.
    back = tuple(order.index(a) for a in range(piece.ndim))
    return Place(parameter, tuple(index), back if back != tuple(range(piece.ndim)) else (), axis, start)

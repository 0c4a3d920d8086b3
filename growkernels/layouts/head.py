"""Which norm feeds the LM head: what takes the division by the copies of hidden where the head is tied."""

from __future__ import annotations

from collections.abc import Mapping

from growkernels.layouts.base import TensorLayout
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.family import Family
from growkernels.layouts.stacks import Stacks

#: Norms of other streams than the text model's.
_OTHERS = ("vision", "visual", "audio", "image", "q_norm", "k_norm")


def head_norm(
    family: Family, whole: ModelClass, stacks: Stacks, count: int, layouts: Mapping[str, TensorLayout]
) -> tuple[str, ...]:
    """The stored tensors of the norm before the LM head, in file order; empty if it has no weights.

    The row names it; else it is one beside the head in a module of their own, the last norm behind the layers, or the last
    one of the last layer.
    """
    module = _module(family, whole, stacks, count)
    if module is None:
        return ()
    return tuple(
        name
        for name, tensor in layouts.items()
        if tensor.kind == "norm" and tensor.parameter.rpartition(".")[0] == module
    )


def _module(family: Family, whole: ModelClass, stacks: Stacks, count: int) -> str | None:
    if family.head_norm == "none":
        return None
    norms = [
        (name.rpartition(".")[0], stacks.split(name)[1])
        for name, parameter in whole.parameters.items()
        if parameter.module == "norm" or stacks.split(name)[1] is not None
    ]
    if family.head_norm:
        named = [m for m, layer in norms if f".{m}".endswith(f".{family.head_norm}") and layer in (None, count - 1)]
        return named[-1] if named else None
    parent = (whole.head or "").rpartition(".")[0].rpartition(".")[0]
    beside = [m for m, layer in norms if layer is None and parent and m.startswith(f"{parent}.")]
    if beside:
        return beside[-1]
    first = next((place for place, (_, layer) in enumerate(norms) if layer is not None), 0)
    behind = [m for m, layer in norms[first:] if layer is None and not any(word in m for word in _OTHERS)]
    if behind:
        return behind[-1]
    kinds = {name.rpartition(".")[0]: parameter.module for name, parameter in whole.parameters.items()}
    last = [m for m, layer in norms if layer == count - 1 and kinds[m] == "norm"]
    return next((m for m in reversed(last) if not any(word in m for word in _OTHERS)), None)

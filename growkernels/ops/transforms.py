"""Transforms of functions that the ops have no rules for: those of `torch.func`, and forward-mode differentiation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import forward_ad

from growkernels.errors import GrowthError

_GRADIENTS = (
    "gradients come from torch.autograd.grad or backward(), also of modules called by torch.func.functional_call"
)
#: What was asked for, and what works instead.
_FORWARD = "forward-mode differentiation (torch.func.jvp, jacfwd, torch.autograd.forward_ad)", _GRADIENTS
_FUNCTIONS = "torch.func (grad, vjp, jvp, jacrev, jacfwd, hessian)", _GRADIENTS
_BATCHED = (
    "torch.vmap (also as torch.func.jacrev or is_grads_batched=True call it)",
    "call it for each item of the batch",
)


def check_transforms(op: str, tensors: Iterable[Tensor]) -> bool:
    """No transform may follow one of the tensors: a kernel would lose the tangents without a word.

    Reverse-mode autograd, `torch.compile` and functionalization pass, and tensors that a transform does not depend on. Returns
    whether the call is inside one of `torch.func` that passes. Calls outside of any transform pay 0.3 us.
    """
    if torch.compiler.is_compiling():
        # Tracing sees the level, but neither the stack of torch.func nor the tangent of a tensor.
        if forward_ad._current_level >= 0:
            _refuse(op, _FORWARD)
        return False
    inside = _functorch.peek_interpreter_stack() is not None
    if inside or forward_ad._current_level >= 0:
        for tensor in tensors:
            _check(op, tensor)
    return inside


def check_batched(op: str, tensors: Iterable[Tensor]) -> None:
    """None of the tensors may be a batch that is taken for one of its items."""
    for tensor in tensors:
        if _functorch.is_batchedtensor(tensor) or _functorch.is_legacy_batchedtensor(tensor):
            _refuse(op, _BATCHED)


def _check(op: str, tensor: Tensor) -> None:
    check_batched(op, (tensor,))
    followed = forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None
    if not _functorch.is_gradtrackingtensor(tensor):
        if followed:
            _refuse(op, _FORWARD)
        return
    # Everything that is made inside of a transform is wrapped, also what it does not depend on.
    if followed or (tensor.requires_grad and torch.is_grad_enabled()):
        _refuse(op, _FUNCTIONS)
    _check(op, _functorch.get_unwrapped(tensor))


def _refuse(op: str, transform: tuple[str, str]) -> NoReturn:
    asked, instead = transform
    raise GrowthError(f"{op} was called under {asked}, which it has no rule for; {instead}")

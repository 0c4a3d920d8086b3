"""Checks of the raw ops that are written in Python: numbers and shapes that the public functions have not looked at.

Compiled ops check the same in C++ (csrc/arguments.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.checks import check_devices, check_dtype, check_memory, check_rule, check_target
from growkernels.ops.expand.packing import Expansion, unpack
from growkernels.ops.tile.numbers import RuleNumbers


def check_copies(weight: Tensor, n_out: int, n_in: int) -> None:
    """A matrix or a vector, and numbers of its copies."""
    if weight.ndim not in (1, 2):
        raise GrowthError(f"weight has shape {tuple(weight.shape)}; expected a matrix or a vector")
    if n_out < 1 or n_in < 1:
        raise GrowthError(f"n_out is {n_out}, n_in is {n_in}; expected at least one copy")
    if prod(weight.shape) * n_out * n_in >= 1 << 60:
        raise GrowthError(f"n_out={n_out} and n_in={n_in} copies do not fit 64 bits")
    if weight.ndim == 1 and n_in != 1:
        raise GrowthError(f"n_in is {n_in} for a vector; expected 1")


def check_rules(outs: Sequence[Tensor], weights: Sequence[Tensor], specs: Sequence[RuleNumbers]) -> None:
    """A rule for each output, and a weight that it fits."""
    if not len(outs) == len(weights) == len(specs):
        raise GrowthError(f"{len(outs)} outs, {len(weights)} weights and {len(specs)} rules; expected as many of each")
    for out, weight, spec in zip(outs, weights, specs, strict=True):
        check_rule(out, weight, spec)
    check_memory(outs, weights)


def check_index(blocks: Sequence[Tensor], index: Sequence[int], scale: Sequence[float]) -> None:
    """A block and a scale for each output of `replicate`."""
    if len(index) != len(scale):
        raise GrowthError(f"{len(index)} indices and {len(scale)} scales; expected as many of each")
    for i in index:
        if not 0 <= i < len(blocks):
            raise GrowthError(f"index {i} of {len(blocks)} blocks; expected 0 to {len(blocks) - 1}")


def check_replicas(
    outs: Sequence[Tensor], blocks: Sequence[Tensor], index: Sequence[int], scale: Sequence[float]
) -> None:
    """Outputs of `replicate_` that have their blocks' shapes."""
    check_index(blocks, index, scale)
    if len(outs) != len(index):
        raise GrowthError(f"{len(outs)} outs for {len(index)} indices; expected as many of each")
    for out, i in zip(outs, index, strict=True):
        check_target(out, blocks[i], tuple(blocks[i].shape), f"block {i}")
    check_memory(outs, blocks)


def check_divisors(tensors: Sequence[Tensor], divisors: Sequence[float]) -> None:
    """A divisor for each tensor of `mean_square`."""
    if not tensors:
        raise GrowthError("no tensors; expected at least one")
    if len(divisors) != len(tensors):
        raise GrowthError(f"{len(divisors)} divisors for {len(tensors)} tensors; expected as many of each")


def check_pairs(left: Sequence[Tensor], right: Sequence[Tensor], table: Tensor, name: str) -> None:
    """One shape, and a number in `table` for each pair."""
    if not left or not right:
        raise GrowthError("no tensors; expected at least one of each")
    tensors = (*left, *right)
    for tensor in (*tensors, table):
        check_dtype("a tensor", tensor.dtype)
    if len({tensor.shape for tensor in tensors}) > 1:
        shapes = ", ".join(sorted({str(tuple(tensor.shape)) for tensor in tensors}))
        raise GrowthError(f"tensors differ in shape ({shapes}); expected one shape")
    if table.shape != (len(left), len(right)):
        raise GrowthError(
            f"{name} has shape {tuple(table.shape)}, and does not have shape [{len(left)}, {len(right)}], one for each pair"
        )


def check_products(outs: Sequence[Tensor], left: Sequence[Tensor], right: Sequence[Tensor]) -> None:
    """As many pairs of matrices of one dtype for each output, and outputs of the products' shapes."""
    if not outs or not left or len(left) != len(right) or len(left) % len(outs):
        raise GrowthError(
            f"{len(left)} left and {len(right)} right matrices for {len(outs)} outs; expected as many pairs for each out, "
            f"at least one"
        )
    of_factors = {tensor.dtype for tensor in (*left, *right)}
    for dtype in of_factors | {out.dtype for out in outs}:
        check_dtype("a tensor", dtype)
    if len(of_factors) > 1:
        raise GrowthError(
            f"factors have dtypes {', '.join(sorted(map(str, of_factors)))}; expected one, convert them first"
        )
    terms = len(left) // len(outs)
    for p, (first, second) in enumerate(zip(left, right, strict=True)):
        out = outs[p // terms]
        matrices = out.ndim == first.ndim == second.ndim == 2
        if not matrices or first.shape[1] != second.shape[0] or out.shape != (first.shape[0], second.shape[1]):
            raise GrowthError(
                f"out {p // terms} has shape {tuple(out.shape)}, its factors {tuple(first.shape)} and {tuple(second.shape)}; "
                f"expected m x n, m x k and k x n"
            )
    # A matrix that multiplies all layers is looked at once.
    check_memory(outs, list({id(tensor): tensor for tensor in (*left, *right)}.values()))


def check_stacks(weights: Sequence[Tensor], matrices: Sequence[Tensor], layout: Sequence[int]) -> list[Expansion]:
    """The stacks that the numbers of `expand` describe, of matrices that fit one another."""
    stacks = unpack(weights, matrices, layout)
    for tensor in (*weights, *matrices):
        check_dtype("a tensor", tensor.dtype)
    for stack in stacks:
        shape = stack.weights[0].shape
        if len(shape) != 2 or any(weight.shape != shape for weight in stack.weights):
            shapes = ", ".join(sorted({str(tuple(weight.shape)) for weight in stack.weights}))
            raise GrowthError(f"layers of a stack have shapes {shapes}; expected matrices of one shape")
        layers = len(stack.weights)
        for name, matrix, size in (("b", stack.b, shape[0]), ("a", stack.a, shape[1]), ("depth", stack.depth, layers)):
            if matrix is not None and (matrix.ndim != 2 or matrix.shape[1] != size):
                raise GrowthError(f"{name} has shape {tuple(matrix.shape)}; expected [target, {size}]")
    check_devices([*weights, *matrices])
    return stacks


def check_targets(outs: Sequence[Tensor], stacks: Sequence[Expansion], inputs: Sequence[Tensor]) -> None:
    """An output for each target layer of the stacks, of its shape and in memory of its own."""
    shapes = [stack.target_shape for stack in stacks for _ in range(stack.target_layers)]
    if len(outs) != len(shapes):
        raise GrowthError(f"{len(outs)} outs for {len(shapes)} target layers; expected as many of each")
    for out, shape in zip(outs, shapes, strict=True):
        check_target(out, inputs[0], shape, "expand with these matrices")
    check_memory(outs, inputs)


def check_needed(needed: Sequence[bool], inputs: Sequence[Tensor]) -> None:
    """Whether each input needs a gradient, or that none does."""
    if needed and len(needed) != len(inputs):
        raise GrowthError(
            f"needed has {len(needed)} entries for {len(inputs)} weights and matrices; expected one for each"
        )


def check_backward(
    grads: Sequence[Tensor], stacks: Sequence[Expansion], saved: Sequence[Tensor], needed: Sequence[bool], inputs: int
) -> None:
    """A gradient for each stack, of its result's shape."""
    if len(needed) != inputs or len(grads) != len(stacks):
        raise GrowthError(
            f"{len(grads)} gradients for {len(stacks)} stacks and {len(needed)} entries of needed for {inputs} weights and "
            f"matrices; expected as many of each"
        )
    for grad, stack in zip(grads, stacks, strict=True):
        shape = stack.target_layers, *stack.target_shape
        if grad.shape != shape:
            raise GrowthError(f"a gradient has shape {tuple(grad.shape)}; expected {shape}, the result's")
    if len(saved) not in (0, 2 * len(stacks)):
        raise GrowthError(f"{len(saved)} saved tensors for {len(stacks)} stacks; expected what expand saved, or none")

"""What holds for any input: each op has the bits of the reference and writes nothing but its output.

Inputs come from a source of choices, so Hypothesis and a seeded generator try the same things.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from growkernels import ops
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.replicate import reference as replicate_reference
from growkernels.ops.tile import reference as tile_reference
from tests.gpu.device import DEVICE, NAMESPACES
from tests.ops.mixes import check_inner_products, mixes
from tests.ops.rules import Choose, rule
from tests.ops.tensors import DTYPES, LAYOUTS, POISON, assert_same_bits, data, laid_out, poisoned, with_special


def tile_rules(choose: Choose, backend: str) -> None:
    """Lists of any rules, with vectors among them and dtypes and strides of all kinds."""
    outs, weights, specs, expected = [], [], [], []
    for seed in range(choose.integer(1, 4)):
        shape: tuple[int, ...]
        if choose.integer(0, 4) == 0:
            shape = (choose.integer(0, 300),)
            spec = replace(rule(choose, 1, shape[0], noise=False), rows=(0, 1, 1, 1), diagonal=False)
            grown: tuple[int, ...] = spec.shape[1:]
        else:
            shape = _matrix(choose)
            spec = rule(choose, *shape)
            grown = spec.shape
        values, weight = _source(choose, shape, seed)
        out = _target(choose, grown)
        expected.append(poisoned(grown, out.dtype))
        tile_reference.tile_rules_([expected[-1]], [values], [spec])
        outs, weights, specs = [*outs, out], [*weights, weight], [*specs, spec]
    ops.tile_rules_(outs, weights, specs, backend=backend)
    for out, right in zip(outs, expected, strict=True):
        assert_written(out, right)


def tile(choose: Choose, backend: str) -> None:
    """Whole copies, clean and noisy, into memory that exists and into new memory."""
    dtype = choose.pick(DTYPES)
    if choose.integer(0, 7) == 0:
        shape: tuple[int, ...] = (choose.integer(0, 300),)
        n_out, n_in, variant = choose.integer(1, 5), 1, "symmetric"
    else:
        shape = _matrix(choose)
        n_out, n_in, variant = choose.integer(1, 4), choose.integer(1, 7), choose.pick(("symmetric", "diagonal"))
    noise = choose.pick(((None, None), (0.1, None), (None, 10.0), (None, 40.0)))
    values, weight = _source(choose, shape, 0)
    arguments = n_out, n_in, variant, *noise, choose.integer(0, 2**64 - 1)
    expected = ops.tile(values, *arguments, dtype, backend="eager")
    out = poisoned(tuple(expected.shape), dtype, choose.pick(LAYOUTS), DEVICE)
    ops.tile_(out, weight, *arguments, backend=backend)
    assert_written(out, expected)
    assert_same_bits(ops.tile(weight, *arguments, dtype, backend=backend).cpu(), expected)


def replicate(choose: Choose, backend: str) -> None:
    """Copies of blocks of one to three axes, scaled and noisy."""
    blocks, values = [], []
    for seed in range(choose.integer(1, 3)):
        shape = tuple(choose.integer(0, 13) for _ in range(choose.integer(1, 3)))
        plain, block = _source(choose, shape, seed)
        values, blocks = [*values, plain], [*blocks, block]
    index = [choose.integer(0, len(blocks) - 1) for _ in range(choose.integer(0, 5))]
    scale = [choose.pick((1.0, 0.0, 0.5, 1 / 3)) for _ in index]
    alpha, key = choose.pick((0.0, 0.2, 1.0)), choose.integer(0, 2**64 - 1)
    outs = [_target(choose, tuple(blocks[i].shape)) for i in index]
    expected = [poisoned(tuple(out.shape), out.dtype) for out in outs]
    replicate_reference.replicate_(expected, values, index, scale, alpha, 0.05, key)
    ops.replicate_(outs, blocks, index, scale, alpha, 0.05, key, backend=backend)
    for out, right in zip(outs, expected, strict=True):
        assert_written(out, right)
    eager = ops.replicate(values, index, scale, alpha, 0.05, key, backend="eager")
    for out, right in zip(ops.replicate(blocks, index, scale, alpha, 0.05, key, backend=backend), eager, strict=True):
        assert out.is_contiguous()
        assert_same_bits(out.cpu(), right)


def normal(choose: Choose, backend: str) -> None:
    """The normals from any place of any field."""
    shape = (choose.integer(0, 3000),) if choose.pick((False, True)) else _matrix(choose)
    out = _target(choose, shape)
    start = choose.pick((0, 1, 2, 3, 5, 2**32 - 3, 2**34 - 6, 2**40 + 7, 2**62 - 40_000))
    key, field = choose.integer(0, 2**64 - 1), choose.integer(-(2**63), 2**63 - 1)
    expected = poisoned(shape, out.dtype)
    noise_reference.normal_(expected, key, field, start)
    ops.normal_(out, key, field, start, backend=backend)
    assert_written(out, expected)


def mean_square(choose: Choose, backend: str) -> None:
    """Sums of a block, of several, and of lists, in the one order."""
    values, tensors = [], []
    for seed in range(choose.integer(1, 4)):
        shape = choose.pick(((choose.integer(0, 20_000),), _matrix(choose), (choose.integer(1, 5), 3, 700)))
        plain, tensor = _source(choose, shape, seed)
        values, tensors = [*values, plain], [*tensors, tensor]
    divisors = [choose.pick((1.0, 2.0, 3.0)) for _ in tensors]
    actual = ops.mean_square(tensors, divisors, backend=backend)
    assert_same_bits(actual.cpu(), noise_reference.mean_square(values, divisors))


def mix(choose: Choose, backend: str) -> None:
    """Sums of scaled layers, of one dtype and strides as layers mostly are, or each of its own."""
    shape = _layer(choose)
    values, sources = _layers(choose, shape, choose.pick((1, 2, 3, 6, 13)), 0, special=choose.pick((False, True)))
    count = choose.pick((1, 2, 5, 9, 18))
    coefficients, on_device = _source(choose, (count, len(values)), 30)
    dtype, layout = choose.pick((None, *DTYPES)), choose.pick(LAYOUTS)
    outs = [poisoned(shape, dtype, layout, DEVICE) if dtype else _target(choose, shape) for _ in range(count)]
    expected = mixes(outs, values, coefficients)
    getattr(torch.ops, NAMESPACES[backend]).mix_(outs, sources, on_device)
    for out, right in zip(outs, expected, strict=True):
        assert_written(out, right)


def inner_products(choose: Choose, backend: str) -> None:
    """Of all pairs, added to what is there."""
    shape = _layer(choose)
    left, right = (_layers(choose, shape, choose.pick((1, 2, 3, 9, 17)), seed, special=False)[1] for seed in (0, 30))
    start = data((len(left), len(right)), choose.pick((torch.float64, torch.float32)), 60)
    out = laid_out(start.to(DEVICE), choose.pick(LAYOUTS))
    check_inner_products(out, left, right, getattr(torch.ops, NAMESPACES[backend]))


#: By name; a thousand examples of each take a GPU well under a minute.
PROPERTIES: dict[str, Callable[[Choose, str], None]] = {
    check.__name__: check for check in (tile_rules, tile, replicate, normal, mean_square, mix, inner_products)
}


def assert_written(out: Tensor, expected: Tensor) -> None:
    """`out` has the bits of `expected`, and what lies between its entries is as it was. Spoils `out`."""
    assert_same_bits(out.cpu(), expected)
    if out._base is not None:
        out.fill_(POISON)
        around = (out._base != out.new_full((), POISON)).sum().item()
        assert not around, (
            f"{around} entries beside an output of shape {tuple(out.shape)}, strides {out.stride()} changed"
        )


def _matrix(choose: Choose) -> tuple[int, int]:
    """Mostly small; now and then wider or taller than what a block of threads takes."""
    largest = choose.pick(((40, 70), (40, 70), (40, 70), (6, 1100), (300, 9)))
    return choose.integer(0, largest[0]), choose.integer(0, largest[1])


def _layer(choose: Choose) -> tuple[int, ...]:
    """A shape of layers; whole vectors, ragged rows, or three axes."""
    if choose.integer(0, 7) == 0:
        return choose.integer(0, 5), choose.integer(0, 9), choose.integer(0, 30)
    rows, columns = _matrix(choose)
    return rows, columns * choose.pick((1, 8))


def _layers(
    choose: Choose, shape: tuple[int, ...], count: int, seed: int, special: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Layers for the reference, and the same on the device."""
    dtype, layout = choose.pick((None, *DTYPES)), choose.pick(LAYOUTS)
    values = [data(shape, dtype or choose.pick(DTYPES), seed + k) for k in range(count)]
    if special:
        values[-1] = with_special(values[-1])
    return values, [laid_out(v.to(DEVICE), layout if dtype else choose.pick(LAYOUTS)) for v in values]


def _source(choose: Choose, shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Values for the reference, and the same on the device with any strides."""
    values = data(shape, choose.pick(DTYPES), seed)
    if choose.pick((False, True)):
        values = with_special(values)
    return values, laid_out(values.to(DEVICE), choose.pick(LAYOUTS))


def _target(choose: Choose, shape: tuple[int, ...]) -> Tensor:
    return poisoned(shape, choose.pick(DTYPES), choose.pick(LAYOUTS), DEVICE)

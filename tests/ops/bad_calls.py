"""Calls of raw ops whose numbers and tensors do not fit one another: each is refused, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from growkernels.errors import GrowthError
from tests.ops.tools import data

W, TALL, SQUARE, SMALL, TABLE = data((4, 6)), data((8, 4)), data((3, 3)), data((2, 2)), data((1, 1))
#: Of `tile_rules_`: one rule that copies [4, 6].
RULE, NUMBERS = [1, 0, 4, 1, 1, 1, 0, 6, 1, 1, 0, 0], [1.0] + [0.0] * 8
#: Of `expand`: one stack of one layer, without matrices, and with the first of them as `b`.
PLAIN, GROWN = [1, -1, -1, -1, 0], [1, 0, -1, -1, 0]
F32 = torch.float32

#: By what is wrong. Each gets the ops of a library and an output [4, 6].
BAD: dict[str, Callable[[Any, Tensor], object]] = {
    "tile: no copies": lambda ops, out: ops.tile(W, -1, 1, False, 0.0, None, 0, F32),
    "tile: too many copies": lambda ops, out: ops.tile(W, 2**62, 1, False, 0.0, None, 0, F32),
    "tile: too many bytes": lambda ops, out: ops.tile(W, 2**40, 2**40, False, 0.0, None, 0, F32),
    "tile: copies of a vector": lambda ops, out: ops.tile(W[0], 1, 2, False, 0.0, None, 0, F32),
    "tile_: another shape": lambda ops, out: ops.tile_(out, W, 2, 1, False, 0.0, None, 0),
    "tile_rules_: half a rule": lambda ops, out: ops.tile_rules_([out], [W], RULE[:-1], NUMBERS),
    "tile_rules_: numbers left over": lambda ops, out: ops.tile_rules_([out], [W], [*RULE, 1], NUMBERS),
    "tile_rules_: half the scalars": lambda ops, out: ops.tile_rules_([out], [W], RULE, NUMBERS[:-1]),
    "tile_rules_: -1 segments": lambda ops, out: ops.tile_rules_([out], [W], [-1, *RULE[1:]], NUMBERS),
    "tile_rules_: no weight": lambda ops, out: ops.tile_rules_([out], [], RULE, NUMBERS),
    "tile_rules_: no rule": lambda ops, out: ops.tile_rules_([out], [W], [], []),
    "replicate: index": lambda ops, out: ops.replicate([W], [5], [1.0], 0.0, 0.0, 0),
    "replicate: no scale": lambda ops, out: ops.replicate([W], [0], [], 0.0, 0.0, 0),
    "replicate_: index": lambda ops, out: ops.replicate_([out], [W], [-1], [1.0], 0.0, 0.0, 0),
    "replicate_: no scale": lambda ops, out: ops.replicate_([out], [W], [0], [], 0.0, 0.0, 0),
    "replicate_: another shape": lambda ops, out: ops.replicate_([out], [TALL], [0], [1.0], 0.0, 0.0, 0),
    "mean_square: no divisor": lambda ops, out: ops.mean_square([W], []),
    "mix_: another shape": lambda ops, out: ops.mix_([out], [SMALL], TABLE),
    "mix_: coefficients": lambda ops, out: ops.mix_([out], [W], SMALL),
    "mix_: no sources": lambda ops, out: ops.mix_([out], [], TABLE),
    "mix_: overlap": lambda ops, out: ops.mix_([out], [out], TABLE),
    "inner_products_: another shape": lambda ops, out: ops.inner_products_(out, [W], [W]),
    "inner_products_: factors": lambda ops, out: ops.inner_products_(out[:1, :1], [W], [TALL]),
    "products_: another shape": lambda ops, out: ops.products_([out], [SMALL], [SMALL], False),
    "products_: factors": lambda ops, out: ops.products_([out], [TALL], [TALL], False),
    "products_: nothing": lambda ops, out: ops.products_([], [SMALL], [SMALL], False),
    "products_: uneven": lambda ops, out: ops.products_([out, out.clone()], [W] * 3, [W.t()] * 3, False),
    "products_: dtypes": lambda ops, out: ops.products_([out[:, :4]], [W], [W.t().bfloat16()], False),
    "products_: integers": lambda ops, out: ops.products_([out[:, :4].int()], [W], [W.t()], False),
    "products_: overlap": lambda ops, out: ops.products_([out[:3, :3]], [out[:3, :3]], [SQUARE], False),
    "expand: too many layers": lambda ops, out: ops.expand([W], [], [2**62, *PLAIN[1:]], F32, []),
    "expand: half a stack": lambda ops, out: ops.expand([W], [TALL], GROWN[:3], F32, []),
    "expand: index": lambda ops, out: ops.expand([W], [TALL], [1, 5, -1, -1, 0], F32, []),
    "expand: negative index": lambda ops, out: ops.expand([W], [TALL], [1, -7, -1, -1, 0], F32, []),
    "expand: structured": lambda ops, out: ops.expand([W], [TALL], [1, 0, -1, -1, 2], F32, []),
    "expand: b": lambda ops, out: ops.expand([W], [data((8, 5))], GROWN, F32, []),
    "expand: depth": lambda ops, out: ops.expand([W], [data((3, 2))], [1, -1, -1, 0, 0], F32, []),
    "expand: two shapes": lambda ops, out: ops.expand([W, TALL], [], [2, *PLAIN[1:]], F32, []),
    "expand: dtype": lambda ops, out: ops.expand([W], [], PLAIN, torch.int32, []),
    "expand: needed": lambda ops, out: ops.expand([W], [TALL], GROWN, F32, [True]),
    "expand_: another shape": lambda ops, out: ops.expand_([out], [W], [TALL], GROWN),
    "expand_: no out": lambda ops, out: ops.expand_([], [W], [], PLAIN),
    "expand_: overlap": lambda ops, out: ops.expand_([out], [out], [], PLAIN),
    "expand_backward: gradient": lambda ops, out: ops.expand_backward([SQUARE], [W], [], PLAIN, [], [True]),
    "expand_backward: needed": lambda ops, out: ops.expand_backward([W[None]], [W], [], PLAIN, [], []),
    "expand_backward: saved": lambda ops, out: ops.expand_backward([W[None]], [W], [], PLAIN, [W], [True]),
}


def check_refused(name: str, library: Any) -> None:
    """Compiled ops have an error of torch for it, the others ours; a list without tensors is torch's own to refuse."""
    out = data((4, 6), seed=9)
    before = out.clone()
    with pytest.raises(
        (GrowthError, RuntimeError),
        match=r"refused: |expected|overlaps|do not fit|writes|rule|segments|does not have shape",
    ):
        BAD[name](library, out)
    assert out.shape == (4, 6)
    assert out.equal(before)
    assert out._version == 0

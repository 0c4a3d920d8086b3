"""Traced calls: numbers that change between them, and tensors of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Fill, IndexVector, Noise, Segment, Tile
from tests.ops.tools import assert_same_bits, data

KEY = ops.noise_key(0, "x")
X, A, DEPTH = data((6, 10)), data((20, 10)), data((3, 2))
Call = Callable[[Tensor, Any], Sequence[Tensor]]


def into(write: Callable[[Tensor, Tensor, Any], None], *copies: int) -> Call:
    """A call that returns what an in-place op writes, so many times as high and as wide as its source."""

    def call(x: Tensor, number: Any) -> list[Tensor]:
        out = x.new_empty([size * n for size, n in zip(x.shape, copies, strict=True)])
        write(out, x, number)
        return [out]

    return call


def rule(x: Tensor, std: float = 0.0, **numbers: Any) -> Tile:
    axes = IndexVector.tile(x.shape[0], 2), IndexVector.tile(x.shape[1], 2)
    return Tile(axes, 1, noise=Noise(std=std), **numbers)


def widened(x: Tensor, mean: float, std: float) -> Tile:
    """As many new rows as old ones, filled."""
    rows = IndexVector((Segment(0, x.shape[0]), Segment(-1, x.shape[0])))
    return Tile((rows, IndexVector.tile(x.shape[1], 2)), 1, fill=(Fill(), Fill(mean, std), Fill()))


FLOATS: dict[str, Call] = {
    "tile, snr_db": lambda x, n: [ops.tile(x, 2, 2, snr_db=n, key=KEY)],
    "tile, noise_std": lambda x, n: [ops.tile(x, 2, 2, noise_std=n, key=KEY)],
    "tile_, snr_db": into(lambda out, x, n: ops.tile_(out, x, 2, 2, snr_db=n, key=KEY), 2, 2),
    "tile_, noise_std": into(lambda out, x, n: ops.tile_(out, x, 2, 2, noise_std=n, key=KEY), 2, 2),
    "tile_rules_": into(lambda out, x, n: ops.tile_rules_([out], [x], [rule(x, n, divisor=n, shift=n, key=KEY)]), 2, 2),
    "tile_rules_, fill": into(
        lambda out, x, n: ops.tile_rules_([out], [x], [widened(x, n, n)]),
        2,
        2,
    ),
    "replicate, scale": lambda x, n: ops.replicate([x, x], [0, 1], scale=n),
    "replicate, scales": lambda x, n: ops.replicate([x, x], [0, 1], scale=[n, 2 * n]),
    "replicate, noise_alpha": lambda x, n: ops.replicate([x], [0], noise_alpha=n / 2, noise_std=0.1, key=KEY),
    "replicate, noise_std": lambda x, n: ops.replicate([x], [0], noise_alpha=0.5, noise_std=n, key=KEY),
    "replicate_": into(
        lambda out, x, n: ops.replicate_([out], [x], [0], scale=n, noise_alpha=n / 2, noise_std=n), 1, 1
    ),
    "mean_square": lambda x, n: [ops.mean_square([x, x], [n, 1.0])],
}
INTEGERS: dict[str, Call] = {
    "tile, n_out": lambda x, n: [ops.tile(x, n, 2)],
    "tile, n_in": lambda x, n: [ops.tile(x, 2, n)],
    "tile, key": lambda x, n: [ops.tile(x, 2, 2, noise_std=0.1, key=KEY + n)],
    "tile_, key": into(lambda out, x, n: ops.tile_(out, x, 2, 2, noise_std=0.1, key=KEY + n), 2, 2),
    "tile_rules_, key": into(lambda out, x, n: ops.tile_rules_([out], [x], [rule(x, 0.1, key=KEY + n)]), 2, 2),
    "replicate, key": lambda x, n: ops.replicate([x], [0], noise_alpha=0.5, noise_std=0.1, key=KEY + n),
    "normal_, key": into(lambda out, x, n: ops.normal_(out, KEY + n, 0), 1, 1),
    "normal_, field": into(lambda out, x, n: ops.normal_(out, KEY, n), 1, 1),
    "normal_, start": into(lambda out, x, n: ops.normal_(out, KEY, 0, n), 1, 1),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch._dynamo.reset()


def check(compiled: Call, call: Call, number: Any) -> None:
    for actual, expected in zip(compiled(X, number), call(X, number), strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", FLOATS)
def test_floats_may_change(name: str, dynamic: bool | None) -> None:
    call = FLOATS[name]
    compiled = torch.compile(call, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for number in (0.125, 0.25, 0.3, 1.0):
        check(compiled, call, number)


def graphs(call: Call, numbers: Sequence[float]) -> int:
    """How many graphs are compiled for calls with these numbers."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, fullgraph=True, backend=counter)
    for number in numbers:
        check(compiled, call, number)
    return int(counter.frame_count)


@pytest.mark.parametrize("name", FLOATS)
def test_every_float_has_a_graph_as_with_torch(name: str) -> None:
    numbers = (0.125, 0.25, 0.3, 1.0)
    # Numbers of most of torch's own ops are constants of the graph; those of sums and products are not.
    theirs = graphs(lambda x, n: [x.clone().clamp_(max=n)], numbers)
    assert graphs(FLOATS[name], numbers) == theirs
    assert graphs(FLOATS[name], numbers * 3) == theirs


@pytest.mark.parametrize("name", INTEGERS)
def test_one_graph_serves_all_integers(name: str) -> None:
    call = INTEGERS[name]
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, fullgraph=True, backend=counter)
    for number in range(2, 14):
        check(compiled, call, number)
    # The first call's, as if it would not change, and that of all others.
    assert counter.frame_count == 2


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
def test_bad_numbers_are_refused_after_good_ones(number: float) -> None:
    compiled = torch.compile(FLOATS["tile, noise_std"], fullgraph=True, backend="aot_eager")
    check(compiled, FLOATS["tile, noise_std"], 0.1)
    check(compiled, FLOATS["tile, noise_std"], 0.2)
    with pytest.raises((GrowthError, torch._dynamo.exc.TorchDynamoException), match="noise_std is"):
        compiled(X, number)


SIZES: dict[str, Call] = {
    **{name: call for name, call in {**FLOATS, **INTEGERS}.items() if name != "tile_rules_, fill"},
    "tile of a vector": lambda x, n: [ops.tile(x[:, 0], 2, 1)],
    "tile, diagonal": lambda x, n: [ops.tile(x, 2, 2, "diagonal")],
    "expand": lambda x, n: [ops.expand([x, x], None, A, DEPTH)],
    "expand_": into(lambda out, x, n: ops.expand_([out], [x, x], None, A, DEPTH[:1]), 1, 2),
}


@pytest.mark.parametrize("rows", [torch.export.Dim("rows", min=2), torch.export.Dim.AUTO], ids=["any", "auto"])
@pytest.mark.parametrize("name", SIZES)
def test_exported_programs_take_any_size(name: str, rows: Any) -> None:
    call = SIZES[name]

    class Module(torch.nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return list(call(x, 2))

    program = torch.export.export(Module(), (X,), dynamic_shapes=({0: rows},)).module()
    # More elements than the size from which `tile` takes another way.
    large = data((7000, 10))
    for actual, expected in zip(program(large), call(large, 2), strict=True):
        assert_same_bits(actual, expected)

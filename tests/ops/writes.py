"""Every in-place op on small tensors, and what has to hold of the tensors it writes. Needs torch and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Expansion, IndexVector, Noise, Tile
from growkernels.ops.expand import packing as expand_packing
from growkernels.ops.tile import packing
from tests.ops.tools import assert_same_bits, data

W, LAYER = data((3, 5)), data((6, 10), seed=1)
SPECS = [Tile((IndexVector.tile(3, 2), IndexVector.tile(5, 2)), 1, 2.0, noise=Noise(std=0.1), key=5)] * 2
LEFT, RIGHT, B = data((6, 4), seed=2), data((4, 10), seed=3), data((6, 3), seed=4)
SIDE = data((10, 5), seed=5)

#: By op: what it writes, one [6, 10] or two, by the ops of a library.
RAW: dict[str, tuple[int, Callable[[Any, list[Tensor]], None]]] = {
    "tile_": (1, lambda library, outs: library.tile_(outs[0], W, 2, 2, False, 0.1, None, 7)),
    "tile_rules_": (2, lambda library, outs: library.tile_rules_(*packing.pack(outs, [W, W], SPECS)[:4])),
    "replicate_": (2, lambda library, outs: library.replicate_(outs, [LAYER], [0, 0], [1.0, 0.5], 0.2, 0.1, 7)),
    "normal_": (1, lambda library, outs: library.normal_(outs[0], 7, 2, 9)),
    "expand_": (2, lambda library, outs: library.expand_(outs, *expand_packing.pack([Expansion([W, W], B, SIDE)]))),
    "mix_": (2, lambda library, outs: library.mix_(outs, [LAYER, LAYER], data((2, 2)))),
    "inner_products_": (1, lambda library, outs: library.inner_products_(outs[0], [LAYER] * 6, [LAYER] * 10)),
    "products_": (2, lambda library, outs: library.products_(outs, [LEFT] * 4, [RIGHT] * 4, True)),
}
#: The same by the public functions.
PUBLIC: dict[str, tuple[int, Callable[[str | None, list[Tensor]], None]]] = {
    "tile_": (1, lambda backend, outs: ops.tile_(outs[0], W, 2, 2, noise_std=0.1, key=7, backend=backend)),
    "tile_rules_": (2, lambda backend, outs: ops.tile_rules_(outs, [W, W], SPECS, backend=backend)),
    "replicate_": (2, lambda backend, outs: ops.replicate_(outs, [LAYER], [0, 0], [1.0, 0.5], backend=backend)),
    "normal_": (1, lambda backend, outs: ops.normal_(outs[0], 7, 2, 9, backend=backend)),
    "expand_": (2, lambda backend, outs: ops.expand_(outs, [W, W], B, SIDE, backend=backend)),
}
Write = Callable[[list[Tensor]], None]


def check_raised_once(count: int, write: Write) -> None:
    """Autograd refuses to use what it saved of a tensor that was overwritten; every counter is one higher."""
    leaves = [data((6, 10), seed=k).requires_grad_() for k in range(count)]
    saved = [leaf.clone() for leaf in leaves]
    loss = sum((each * each).sum() for each in saved)
    write([each.detach() for each in saved])
    assert [each._version for each in saved] == [1] * count
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def check_leaves(count: int, write: Write) -> None:
    """A leaf that requires grad is written under no_grad alone, as is a view of one."""
    for view in (False, True):
        leaves = [data((6, 10), seed=k).requires_grad_() for k in range(count)]
        outs = [leaf[:] for leaf in leaves] if view else leaves
        before = [leaf.detach().clone() for leaf in leaves]
        with pytest.raises((RuntimeError, GrowthError), match="requires grad"):
            write(outs)
        for leaf, values in zip(leaves, before, strict=True):
            assert_same_bits(leaf.detach(), values)
        assert [leaf._version for leaf in leaves] == [0] * count
        with torch.no_grad():
            write(outs)
        assert [leaf._version for leaf in leaves] == [1] * count
        assert not any(leaf.equal(values) for leaf, values in zip(leaves, before, strict=True))


def check_results(count: int, write: Write) -> None:
    """So is a result that requires grad: its gradient would go to what it was made of before it was overwritten."""
    leaves = [data((6, 10), seed=k).requires_grad_() for k in range(count)]
    results = [leaf * 2 for leaf in leaves]
    before = [result.detach().clone() for result in results]
    with pytest.raises((RuntimeError, GrowthError), match="requires grad"):
        write(results)
    for result, values in zip(results, before, strict=True):
        assert_same_bits(result.detach(), values)
    assert [result._version for result in results] == [0] * count
    sum(result.sum() for result in results).backward()
    for leaf in leaves:
        assert_same_bits(leaf.grad, torch.full((6, 10), 2.0))
    with torch.no_grad():
        write(results)
    assert [result._version for result in results] == [1] * count
    assert not any(result.equal(values) for result, values in zip(results, before, strict=True))


def check_inference(count: int, write: Write) -> None:
    """Tensors of inference mode have no counter: written there alone."""
    with torch.inference_mode():
        outs = [data((6, 10), seed=k).clone() for k in range(count)]
        before = [out.clone() for out in outs]
    with pytest.raises((RuntimeError, GrowthError), match=r"inference_mode\(\).*clone\(\) it"):
        write(outs)
    assert all(out.equal(values) for out, values in zip(outs, before, strict=True))
    with torch.inference_mode():
        write(outs)
    assert not any(out.equal(values) for out, values in zip(outs, before, strict=True))

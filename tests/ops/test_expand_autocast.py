"""`expand` under `torch.autocast`: the factors of products are cast, and nothing else."""

from __future__ import annotations

import pytest
import torch

from growkernels import ops
from growkernels.ops import Expansion
from tests.ops.tools import assert_same_bits, data


@pytest.mark.parametrize("backend", [None, "emulated"])
def test_autocast_casts_as_it_does_for_products(backend: str | None) -> None:
    weights = [data((40, 30), torch.bfloat16, seed) for seed in range(2)]
    leaves = [data(shape, seed=seed).requires_grad_() for seed, shape in enumerate([(50, 40), (60, 30), (3, 2)])]
    cast = [leaf.detach().to(torch.bfloat16).requires_grad_() for leaf in leaves[:2]]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grown = ops.expand([weights[0].float(), weights[1]], *leaves, backend=backend)
        assert ops.expand(weights, *leaves, dtype=torch.float32, backend=backend).dtype == torch.float32
        wide = ops.expand([weights[0].double()], leaves[0], None, backend=backend)
    assert grown.dtype == torch.bfloat16 and wide.dtype == torch.float64
    by_hand = ops.expand(weights, *cast, leaves[2].detach(), backend=backend)
    assert_same_bits(grown, by_hand)
    upstream = data(tuple(grown.shape), torch.bfloat16)
    grown.backward(upstream)
    by_hand.backward(upstream)
    for leaf, half in zip(leaves[:2], cast, strict=True):
        assert leaf.grad.dtype == torch.float32
        assert_same_bits(leaf.grad, half.grad.float())


@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
def test_autocast_casts_nothing_where_there_is_no_product(backend: str | None) -> None:
    """As torch adds, multiplies and copies: what is mixed or copied keeps its dtype and its bits."""
    stack, depth = data((2, 4, 6)).requires_grad_(), data((5, 2)).requires_grad_()
    b = data((8, 4))
    expansions = [Expansion(stack, None, None, depth), Expansion(stack[:, 0]), Expansion(stack, b, None, depth)]
    plain = [ops.expand(*expansion, backend=backend) for expansion in expansions]
    gradients = torch.autograd.grad(plain[0], (stack, depth), plain[0].detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = [ops.expand(*expansion, backend=backend) for expansion in expansions]
        together = ops.expand_many(expansions, backend=backend)
        assert ops.expand(*expansions[0], dtype=torch.float16, backend=backend).dtype == torch.float16
    assert [grown.dtype for grown in together] == [torch.float32, torch.float32, torch.bfloat16]
    for first, second in zip(together, cast, strict=True):
        assert_same_bits(first, second)
    for first, second in zip(plain[:2], cast[:2], strict=True):
        assert_same_bits(first, second)
    for first, second in zip(gradients, torch.autograd.grad(cast[0], (stack, depth), plain[0].detach()), strict=True):
        assert_same_bits(first, second)


@pytest.mark.parametrize("backend", [None, "eager", "emulated"])
@pytest.mark.parametrize("structured", [False, True])
def test_autocast_leaves_what_is_written_into_out_as_it_is(structured: bool, backend: str | None) -> None:
    """As it leaves torch.mm(out=)."""
    weights = [data((40, 30), seed=seed) for seed in range(2)]
    b, a, depth = data((50, 40)), data((60, 30)), data((3, 2))
    for sides in ((b, a), (b, None), (None, None)):
        for mixed in (None, depth):
            outside = ops.expand(weights, *sides, mixed, structured, backend=backend)
            out = torch.full_like(outside, torch.nan)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                ops.expand_(out, weights, *sides, mixed, structured, backend=backend)
            assert_same_bits(out, outside)

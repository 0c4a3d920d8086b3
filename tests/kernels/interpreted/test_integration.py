"""The Triton library inside PyTorch: its schema checks, gradients, a traced graph."""

from __future__ import annotations

import pytest
import torch

from growkernels import ops
from growkernels.ops.backends.triton import TRITON
from tests.ops import test_expand_integration, test_integration
from tests.ops.tensors import assert_same_bits, data


@pytest.mark.parametrize("name", sorted({"tile", "replicate", *TRITON.implementations()}))
def test_opcheck(name: str) -> None:
    # The first sample: what the others add is the same for every backend. `mean_square` takes the interpreter half a second.
    some = {"test_utils": "test_schema"} if name == "mean_square" else {}
    parts_of_expand = name in ("mix_", "inner_products_", "products_")
    samples = (test_expand_integration if parts_of_expand else test_integration).samples(name)
    torch.library.opcheck(getattr(torch.ops.growkernels_triton, name).default, samples[0], **some)


def test_gradients_are_those_of_other_backends() -> None:
    gradients = []
    for backend in ("triton", "eager"):
        weight, block = data((6, 10)).requires_grad_(), data((5, 3)).requires_grad_()
        grown = ops.tile(weight, 2, 3, noise_std=0.1, key=3, backend=backend)
        copies = ops.replicate([block], [0, 0], [3.0, 0.5], 0.2, 0.1, backend=backend)
        ((grown**2).sum() + (copies[0] * copies[1]).sum()).backward()
        gradients.append((weight.grad, block.grad))
    for actual, right in zip(*gradients, strict=True):
        assert_same_bits(actual, right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("structured", [False, True])
def test_learned_growth_of_whole_numbers_is_exact(structured: bool, dtype: torch.dtype) -> None:
    results = []
    for backend in ("triton", "eager"):
        shapes = (2, 5, 9), (7, 5), (11, 9), (3, 2)
        leaves = [data(shape, seed=k).sign().to(dtype).requires_grad_() for k, shape in enumerate(shapes)]
        grown = ops.expand(*leaves, structured, torch.float32, backend=backend)
        grown.backward(data(tuple(grown.shape), seed=9).sign())
        results.append([grown.detach(), *(leaf.grad for leaf in leaves)])
    for actual, right in zip(*results, strict=True):
        assert_same_bits(actual, right)


def test_compile_full_graph() -> None:
    def grow(weight: torch.Tensor, key: int) -> torch.Tensor:
        return ops.tile(weight * 2, 2, 2, snr_db=10.0, key=key, backend="triton") + 1

    weight = data((6, 10))
    for key in (1, 2**63 + 5):
        expected = ops.tile(weight * 2, 2, 2, snr_db=10.0, key=key, backend="eager") + 1
        assert_same_bits(torch.compile(grow, fullgraph=True, backend="aot_eager")(weight, key), expected)

"""The ops inside PyTorch: schema checks, torch.compile, gradients, fake tensors."""

from __future__ import annotations

import pytest
import torch

from growkernels import ops
from growkernels.ops import Noise, Tile
from growkernels.ops.tile import packing
from tests.ops.tools import assert_same_bits, data

#: The last one is the CUDA kernels, played by the CPU.
NAMESPACES = ("growkernels", "growkernels_eager", "growkernels_emulated")
KEY = -3


def samples(name: str) -> list[tuple]:
    w, v = data((3, 5)), data((7,))
    grad = w.clone().requires_grad_()
    rule = Tile.copies((3, 5), (2, 2), 1, Noise(std=0.1), key=5)
    jobs = packing.pack([torch.empty(6, 10)] * 2, [w, w], [rule] * 2)
    return {
        "tile_": [
            (torch.ones(6, 10), w, 2, 2, False, 0.1, None, KEY),
            (torch.ones(10, 6).t(), w.double(), 2, 2, True, 0.0, 10.0, KEY),
            (torch.ones(14), v, 2, 1, False, 0.0, None, 0),
        ],
        "tile": [
            (w, 2, 2, False, 0.1, None, KEY, torch.float32),
            (grad, 2, 3, True, 0.0, None, KEY, torch.float32),
            (grad, 2, 3, False, 0.0, 10.0, KEY, torch.bfloat16),
            (v, 3, 1, False, 0.0, None, 0, torch.float16),
        ],
        "tile_rules_": [([torch.ones(6, 10), torch.ones(6, 10).bfloat16()], [w, w.half()], jobs.layout, jobs.scalars)],
        "replicate_": [([torch.ones(3, 5), torch.ones(7)], [v, w], [1, 0], [1.0, 0.5], 0.2, 0.1, KEY)],
        "replicate": [([v, w], [1, 0, 1], [1.0, 0.5, 2.0], 0.2, 0.1, KEY), ([grad], [0, 0], [1.0, 2.0], 0.0, 0.0, 0)],
        "mean_square": [([w, v], [1.0, 3.0])],
        "normal_": [(torch.ones(3, 5), KEY, 2, 9)],
    }[name]


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("name", ["tile_", "tile", "tile_rules_", "replicate_", "replicate", "mean_square", "normal_"])
def test_opcheck(namespace: str, name: str) -> None:
    op = getattr(getattr(torch.ops, namespace), name).default
    for sample in samples(name):
        torch.library.opcheck(op, sample)


@pytest.mark.parametrize("backend", [None, "eager"])
@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
def test_gradcheck_of_tile(variant: str, backend: str | None) -> None:
    weight = data((3, 4), torch.float64).requires_grad_()
    for n_out, n_in, std in ((2, 2, 0.1), (3, 2, None), (2, 3, 0.1), (1, 1, None)):

        def grow(w: torch.Tensor, arguments: tuple = (n_out, n_in, variant, std)) -> torch.Tensor:
            return ops.tile(w, *arguments, key=4, backend=backend)

        assert torch.autograd.gradcheck(grow, weight)
        assert torch.autograd.gradgradcheck(grow, weight)
    vector = data((5,), torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: ops.tile(w, 3, 1, backend=backend), vector)


@pytest.mark.parametrize("backend", [None, "eager"])
def test_gradcheck_of_replicate(backend: str | None) -> None:
    blocks = [data(shape, torch.float64).requires_grad_() for shape in ((3, 2), (4,), (2,))]

    def grow(*args: torch.Tensor) -> list[torch.Tensor]:
        return ops.replicate(args, [0, 1, 0], [1.0, 0.5, -2.0], 0.2, 0.1, 7, backend=backend)

    assert torch.autograd.gradcheck(grow, blocks)
    assert torch.autograd.gradgradcheck(grow, blocks)


def test_gradient_keeps_the_dtype_and_sums_in_float32() -> None:
    weight = data((8, 9), torch.bfloat16).requires_grad_()
    upstream = data((16, 18), torch.bfloat16)
    ops.tile(weight, 2, 2, snr_db=10.0, key=1).backward(upstream)
    expected = upstream.float().reshape(2, 8, 2, 9).sum((0, 2)) / 2
    assert_same_bits(weight.grad, expected.to(torch.bfloat16))


def test_compile_full_graph() -> None:
    weight, block = data((6, 10)), data((5, 3))
    spec = Tile.copies((6, 10), (2, 2), 1, Noise(std=0.1), key=5)

    def everything(w: torch.Tensor, b: torch.Tensor, key: int) -> list[torch.Tensor]:
        out = torch.empty(12, 20)
        ops.tile_(out, w * 2, 2, 2, noise_std=0.1, key=key)
        rule = torch.empty(12, 20)
        ops.tile_rules_([rule], [w + 1], [spec])
        copy = torch.empty(5, 3)
        ops.replicate_([copy], [b], [0], 0.5)
        normals = torch.empty(9)
        ops.normal_(normals, key, 1)
        grown = ops.tile(w, 2, 3, "diagonal", snr_db=10.0, key=key)
        return [out + 1, rule, copy, normals, grown, *ops.replicate([b, b], [1, 0], 2.0), ops.mean_square([w])]

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    # Keys on both sides of 2^63: the compiler may make a symbol of an integer that changes, and symbols are signed.
    for key in (1, 2**63 - 1, 2**63 + 5, 2**64 - 1):
        for actual, expected in zip(compiled(weight, block, key), everything(weight, block, key), strict=True):
            assert_same_bits(actual, expected)


def test_compile_with_gradients() -> None:
    def loss(w: torch.Tensor) -> torch.Tensor:
        return (ops.tile(w, 2, 2, noise_std=0.1, key=3) ** 2).sum() + ops.replicate([w], [0, 0], 3.0)[1].sum()

    weight, other = (data((6, 10)).requires_grad_() for _ in range(2))
    loss(weight).backward()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(other).backward()
    assert_same_bits(other.grad, weight.grad)


def test_meta_and_fake_tensors_have_the_shapes() -> None:
    weight = torch.empty(6, 10, device="meta")
    assert ops.tile(weight, 2, 3, dtype=torch.bfloat16).shape == (12, 30)
    assert ops.replicate([weight], [0, 0])[1].device.type == "meta"
    with torch._subclasses.FakeTensorMode():
        fake = torch.empty(6, 10)
        out = torch.empty(12, 20)
        ops.tile_(out, fake, 2, 2)
        assert ops.tile(fake, 2, 2).shape == out.shape

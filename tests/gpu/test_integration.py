"""The ops on GPU tensors inside PyTorch: schema checks, torch.compile, gradients, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Noise, Tile
from tests.gpu.device import BACKENDS, DEVICE, NAMESPACES
from tests.ops.tensors import POISON, assert_same_bits, data
from tests.ops.test_integration import samples

pytestmark = pytest.mark.parametrize("backend", BACKENDS)
NAMES = ["tile_", "tile", "tile_rules_", "replicate_", "replicate", "mean_square", "normal_"]


def there(tensor: Tensor) -> Tensor:
    """The same leaf on the device."""
    return tensor.detach().to(DEVICE).requires_grad_(tensor.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str, backend: str) -> None:
    op = getattr(getattr(torch.ops, NAMESPACES[backend]), name).default
    for sample in tree_map_only(Tensor, there, samples(name)):
        torch.library.opcheck(op, sample)


def everything(weight: Tensor, block: Tensor, key: int, backend: str) -> list[Tensor]:
    """Every op among operations that a compiler would fuse."""
    spec = Tile.copies((6, 10), (2, 2), 1, Noise(std=0.1), key=5)
    out, rule, copy, normals = (torch.empty(size, device=weight.device) for size in ((12, 20), (12, 20), (5, 3), (9,)))
    ops.tile_(out, weight * 2, 2, 2, noise_std=0.1, key=key, backend=backend)
    ops.tile_rules_([rule], [weight + 1], [spec], backend=backend)
    ops.replicate_([copy], [block], [0], 0.5, backend=backend)
    ops.normal_(normals, key, 1, backend=backend)
    grown = ops.tile(weight, 2, 3, "diagonal", snr_db=10.0, key=key, backend=backend)
    copies = ops.replicate([block, block], [1, 0], 2.0, backend=backend)
    return [out + 1, rule, copy, normals, grown, *copies, ops.mean_square([weight], backend=backend)]


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_compile_full_graph(backend: str, compiler: str) -> None:
    weight, block = there(data((6, 10))), there(data((5, 3)))
    compiled = torch.compile(everything, fullgraph=True, backend=compiler)
    for key in (1, 2**63 + 5):
        expected = everything(weight.cpu(), block.cpu(), key, "eager")
        for actual, right in zip(compiled(weight, block, key, backend), expected, strict=True):
            assert_same_bits(actual.cpu(), right)


@pytest.mark.usefixtures("cuda")
def test_compile_with_cuda_graphs(backend: str) -> None:
    compiled = torch.compile(
        lambda w: ops.tile(w, 2, 2, snr_db=10.0, key=3, backend=backend) + 1, fullgraph=True, mode="reduce-overhead"
    )
    for seed in range(4):  # warm-up, capture, replays
        weight = data((40, 30), seed=seed)
        expected = ops.tile(weight, 2, 2, snr_db=10.0, key=3, backend="eager") + 1
        assert_same_bits(compiled(weight.to(DEVICE)).cpu(), expected)


@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
def test_gradcheck(variant: str, backend: str) -> None:
    weight = there(data((3, 4), torch.float64).requires_grad_())
    for n_out, n_in, std in ((2, 2, 0.1), (3, 2, None)):

        def grow(w: Tensor, arguments: tuple = (n_out, n_in, variant, std)) -> Tensor:
            return ops.tile(w, *arguments, key=4, backend=backend)

        assert torch.autograd.gradcheck(grow, weight)
    blocks = [there(data(shape, torch.float64).requires_grad_()) for shape in ((3, 2), (4,))]
    assert torch.autograd.gradcheck(
        lambda *args: ops.replicate(args, [0, 1, 0], [1.0, 0.5, -2.0], 0.2, 0.1, 7, backend=backend), blocks
    )


def test_gradient_sums_in_float32(backend: str) -> None:
    weight = there(data((8, 9), torch.bfloat16).requires_grad_())
    upstream = there(data((16, 18), torch.bfloat16))
    ops.tile(weight, 2, 2, snr_db=10.0, key=1, backend=backend).backward(upstream)
    expected = upstream.float().reshape(2, 8, 2, 9).sum((0, 2)) / 2
    assert_same_bits(weight.grad, expected.to(torch.bfloat16))


def test_memory_that_is_shared_is_refused(backend: str) -> None:
    memory = torch.full((200,), POISON, device=DEVICE)
    weight = memory[:24].view(4, 6)
    for start in (0, 23):
        with pytest.raises(GrowthError, match="overlaps an input"):
            ops.tile_(memory[start : start + 96].view(8, 12), weight, 2, 2, backend=backend)
    with pytest.raises(GrowthError, match="share memory"):
        ops.tile_(torch.ones(1, 12, device=DEVICE).expand(8, 12), weight, 2, 2, backend=backend)
    with pytest.raises(GrowthError, match="two outputs overlap"):
        ops.replicate_([memory[30:54].view(4, 6), memory[50:74].view(4, 6)], [weight], [0, 0], backend=backend)
    assert (memory == POISON).all()
    ops.tile_(memory[24:120].view(8, 12), weight, 2, 2, backend=backend)
    assert (memory[24:120] == POISON / 2).all() and (memory[120:] == POISON).all()


@pytest.mark.usefixtures("cuda")
def test_a_backend_of_another_device_is_refused(backend: str) -> None:
    weight = data((4, 6))
    with pytest.raises(GrowthError, match="backend 'cpu' was asked for, but the tensors are on cuda"):
        ops.tile(weight.to(DEVICE), 2, 2, backend="cpu")
    with pytest.raises(GrowthError, match=f"backend '{backend}' was asked for, but the tensors are on cpu"):
        ops.tile(weight, 2, 2, backend=backend)


@pytest.mark.usefixtures("cuda")
def test_any_device_has_a_default(backend: str) -> None:
    weight = data((4, 6)).to(DEVICE)
    assert_same_bits(ops.tile(weight, 2, 2, noise_std=0.1), ops.tile(weight, 2, 2, noise_std=0.1, backend=backend))


def test_more_axes_than_kernel_parameters_hold(backend: str) -> None:
    block = data((2,) * 10).permute(*range(9, -1, -2), *range(8, -1, -2)).to(DEVICE)
    out = torch.full(block.shape, POISON, device=DEVICE)
    if backend == "triton":
        ops.replicate_([out], [block], [0], 0.5, backend=backend)
        assert_same_bits(out, block * 0.5)
    else:
        with pytest.raises(GrowthError, match="make it contiguous first"):
            ops.replicate_([out], [block], [0], 0.5, backend=backend)
        assert (out == POISON).all()

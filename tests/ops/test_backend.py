"""Which implementation runs: forced and unforced, on the right device and on the wrong one, and CUDA without a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Noise, Tile, triton_launch
from growkernels.ops.backends import cpu, cuda, extension, registry, triton
from tests import emulated
from tests.ops.tools import data

W = data((4, 6))


@pytest.fixture
def all_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every backend can run, and CUDA tensors have a default one, whatever this machine has: no kernel is called."""
    for name, registered in registry.BACKENDS.items():
        monkeypatch.setitem(registry.BACKENDS, name, registered._replace(why_not=""))
    monkeypatch.setitem(registry.DEFAULTS, "cuda", "cuda")


def call_all(device: str, forced: str | None) -> dict[str, object]:
    """Every op on tensors of a device: what it returns, by name."""
    weight, block = torch.empty(6, 10, device=device, dtype=torch.bfloat16), torch.empty(7, device=device)
    out = torch.empty(12, 20, device=device)
    spec = Tile.copies((6, 10), (2, 2), 1, Noise(std=0.1), key=5)
    blocks, outs = [weight, block], [torch.empty(7, device=device), torch.empty(6, 10, device=device)]
    return {
        "tile": ops.tile(weight, 2, 3, snr_db=10.0, key=1, backend=forced),
        "tile_": ops.tile_(out, weight, 2, 2, noise_std=0.1, key=1, backend=forced),
        "tile_rules_": ops.tile_rules_([out, out.clone()], [weight, weight], [spec] * 2, backend=forced),
        "replicate": ops.replicate(blocks, [1, 0, 1], backend=forced),
        "replicate_": ops.replicate_(outs, blocks, [1, 0], 0.5, 0.1, 0.1, 3, backend=forced),
        "mean_square": ops.mean_square([weight, block], backend=forced),
        "normal_": ops.normal_(out, 1, 2, 3, backend=forced),
    }


def described(result: object) -> object:
    """Shapes, dtypes and devices."""
    if isinstance(result, torch.Tensor):
        return tuple(result.shape), result.dtype, result.device.type
    return [described(entry) for entry in result] if isinstance(result, list) else result


@pytest.mark.parametrize("forced", [None, "cuda", "triton", "eager"])
@pytest.mark.usefixtures("all_run")
def test_fake_cuda_tensors_have_the_shapes_dtypes_and_devices(forced: str | None) -> None:
    with FakeTensorMode():
        results = {name: described(result) for name, result in call_all("cuda", forced).items()}
    nothing = dict.fromkeys(("tile_", "tile_rules_", "replicate_", "normal_"))
    vector, matrix = ((7,), torch.float32, "cuda"), ((6, 10), torch.bfloat16, "cuda")
    assert results == nothing | {
        "tile": ((12, 30), torch.bfloat16, "cuda"),
        "replicate": [vector, matrix, vector],
        "mean_square": ((2,), torch.float64, "cuda"),
    }


@pytest.mark.skipif(extension.EXTENSION is None, reason=extension.MISSING)
@pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING)
def test_each_backend_that_takes_cpu_tensors_returns_what_the_fake_one_does() -> None:
    with FakeTensorMode():
        expected = {name: described(result) for name, result in call_all("cpu", "eager").items()}
    for forced in (None, "cpu", "eager", "emulated"):
        assert {name: described(result) for name, result in call_all("cpu", forced).items()} == expected


@pytest.mark.parametrize("forced", ["cuda", "triton"])
@pytest.mark.usefixtures("all_run")
def test_a_backend_for_gpus_refuses_cpu_tensors(monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    message = f"backend '{forced}' was asked for, but the tensors are on cpu; move them to cuda, or choose another"
    with pytest.raises(GrowthError, match=message):
        ops.tile(W, 2, 2, backend=forced)
    monkeypatch.setattr(registry, "FORCED", forced)
    with pytest.raises(GrowthError, match=message):
        ops.replicate([W], [0])


@pytest.mark.parametrize("forced", ["cpu", "emulated"])
@pytest.mark.usefixtures("all_run")
def test_a_backend_for_cpus_refuses_cuda_tensors(forced: str) -> None:
    with FakeTensorMode(), pytest.raises(GrowthError, match="the tensors are on cuda; move them to cpu"):
        ops.mean_square([torch.empty(3, device="cuda")], backend=forced)


def test_a_backend_that_cannot_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = registry.BACKENDS["cuda"]._replace(why_not="there is no nvcc; install one")
    monkeypatch.setitem(registry.BACKENDS, "cuda", missing)
    message = "backend 'cuda' was asked for, but there is no nvcc; install one, or choose backend 'eager'"
    with pytest.raises(GrowthError, match=message):
        ops.tile(W, 2, 2, backend="cuda")
    ops.tile(W, 2, 2, backend="eager")


def test_why_a_backend_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda_of_build, why in ((None, "the extension was built without CUDA; run"), ("sm_90", "")):
        built = SimpleNamespace(build_info=lambda found=cuda_of_build: {"cuda": found})
        monkeypatch.setattr(cuda, "EXTENSION", built)
        assert cuda.CUDA.why_not().startswith(why) and bool(why) == bool(cuda.CUDA.why_not())
    for module, record in ((cpu, cpu.CPU), (cuda, cuda.CUDA)):
        monkeypatch.setattr(module, "EXTENSION", None)
        monkeypatch.setattr(module, "MISSING", "the compiled extension was not built")
        assert record.why_not().startswith(
            "the compiled extension was not built; install a C++ compiler, then run `pip"
        )
    monkeypatch.setattr(triton, "find_spec", lambda name: None)
    assert triton.TRITON.why_not() == "triton is not installed; install it (`pip install triton`)"


def test_devices_that_nothing_serves_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(registry.DEFAULTS, "cuda", raising=False)
    with FakeTensorMode():
        with pytest.raises(GrowthError, match=r"no fused kernel for CUDA tensors in this installation; run .* nvcc"):
            ops.tile(torch.empty(2, 2, device="cuda"), 2, 2)
        with pytest.raises(GrowthError, match="no fused kernel for xpu tensors; move them to the CPU or pass"):
            ops.tile(torch.empty(2, 2, device="xpu"), 2, 2)
        assert ops.tile(torch.empty(2, 2, device="cuda"), 2, 2, backend="eager").shape == (4, 4)


@pytest.mark.parametrize("name", ["tpu", "CPU", "growkernels", " "])
def test_unknown_backends_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(GrowthError, match=f"unknown backend '{name}' .*; choose 'cpu', 'cuda', 'triton', 'eager' or"):
        ops.normal_(torch.empty(3), 1, 2, backend=name)
    monkeypatch.setattr(registry, "FORCED", name)
    with pytest.raises(GrowthError, match=f"unknown backend '{name}'"):
        ops.normal_(torch.empty(3), 1, 2)


@pytest.mark.usefixtures("all_run")
def test_tensors_on_several_devices_are_refused() -> None:
    spec = Tile.identity((4, 6))
    with FakeTensorMode():
        here, there = torch.empty(4, 6), torch.empty(4, 6, device="cuda")
        for pair in ([here, there], [there, here]):
            message = f"one tensor is on {pair[0].device}, another on {pair[1].device}; put them on one device"
            with pytest.raises(GrowthError, match=message):
                ops.replicate(pair, [0])
            with pytest.raises(GrowthError, match=message):
                ops.mean_square(pair)
            with pytest.raises(GrowthError, match=message):
                ops.tile_rules_([torch.empty_like(weight) for weight in pair], pair, [spec] * 2)
            with pytest.raises(GrowthError, match=message):
                ops.replicate_([torch.empty_like(block) for block in pair], pair, [0, 1])


@pytest.mark.parametrize(
    ("capability", "installed", "refused"),
    [((9, 0), "3.6.0", False), ((10, 0), "3.6.0", True), ((12, 0), "3.6.0+git1", True), ((10, 0), "3.7.1", False)],
)
def test_a_triton_that_fuses_is_refused(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], installed: str, refused: bool
) -> None:
    monkeypatch.setattr(triton_launch, "version", lambda name: installed)
    why = triton_launch.fuses.__wrapped__(*capability)
    assert (f"Triton {installed} fuses" in why and "3.7 or later" in why) if refused else why == ""

"""Which implementation runs: forced and unforced, on the right device and on the wrong one, and CUDA without a GPU."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import TileSpec
from growkernels.ops.backends import backend, triton
from tests.ops.tools import data

W = data((4, 6))
needs_extension = pytest.mark.skipif(backend.EXTENSION is None, reason="the compiled extension is not built")


def call_all(device: str, forced: str | None) -> dict[str, object]:
    """Every op on tensors of a device: what it returns, by name."""
    weight, block = torch.empty(6, 10, device=device, dtype=torch.bfloat16), torch.empty(7, device=device)
    out = torch.empty(12, 20, device=device)
    spec = TileSpec((0, 6, 2, 1), (0, 10, 2, 1), 2.0, noise_std=0.1, key=5)
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
def test_fake_cuda_tensors_have_the_shapes_dtypes_and_devices(
    monkeypatch: pytest.MonkeyPatch, forced: str | None
) -> None:
    # What this machine has does not matter: no kernel runs.
    monkeypatch.setattr(backend, "CUDA_BACKEND", "cuda")
    monkeypatch.setattr(backend, "why_not", lambda name: "")
    with FakeTensorMode():
        results = {name: described(result) for name, result in call_all("cuda", forced).items()}
    nothing = dict.fromkeys(("tile_", "tile_rules_", "replicate_", "normal_"))
    vector, matrix = ((7,), torch.float32, "cuda"), ((6, 10), torch.bfloat16, "cuda")
    assert results == nothing | {
        "tile": ((12, 30), torch.bfloat16, "cuda"),
        "replicate": [vector, matrix, vector],
        "mean_square": ((2,), torch.float64, "cuda"),
    }


@needs_extension
def test_each_backend_that_takes_cpu_tensors_returns_what_the_fake_one_does() -> None:
    with FakeTensorMode():
        expected = {name: described(result) for name, result in call_all("cpu", "eager").items()}
    for forced in (None, "cpu", "eager", "emulated"):
        assert {name: described(result) for name, result in call_all("cpu", forced).items()} == expected


@pytest.mark.parametrize("forced", ["cuda", "triton"])
def test_a_backend_for_gpus_refuses_cpu_tensors(monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    monkeypatch.setattr(backend, "why_not", lambda name: "")
    monkeypatch.setitem(backend._DEVICES, forced, ("cuda",))
    message = f"backend '{forced}' was asked for, but the tensors are on cpu; move them to cuda, or choose another"
    with pytest.raises(GrowthError, match=message):
        ops.tile(W, 2, 2, backend=forced)
    monkeypatch.setattr(backend, "FORCED", forced)
    with pytest.raises(GrowthError, match=message):
        ops.replicate([W], [0])


@pytest.mark.parametrize("forced", ["cpu", "emulated"])
def test_a_backend_for_cpus_refuses_cuda_tensors(monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    monkeypatch.setattr(backend, "why_not", lambda name: "")
    with FakeTensorMode(), pytest.raises(GrowthError, match="the tensors are on cuda; move them to cpu"):
        ops.mean_square([torch.empty(3, device="cuda")], backend=forced)


def test_backends_that_are_not_there_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "CUDA_BACKEND", "triton")
    if backend.EXTENSION is not None:
        with pytest.raises(GrowthError, match=r"'cuda' was asked for, but the extension was built without CUDA; build"):
            ops.tile(W, 2, 2, backend="cuda")
    monkeypatch.setattr(backend, "TRITON_INSTALLED", False)
    with pytest.raises(GrowthError, match=r"triton is not installed; install it \(`pip install triton`\), or choose"):
        ops.tile(W, 2, 2, backend="triton")
    monkeypatch.setattr(backend, "EXTENSION", None)
    monkeypatch.setattr(backend, "EXTENSION_ERROR", "no such file")
    for name in ("cpu", "cuda", "emulated"):
        with pytest.raises(GrowthError, match=r"the compiled extension did not load \(no such file\); install a C\+\+"):
            ops.tile(W, 2, 2, backend=name)
    ops.tile(W, 2, 2, backend="eager")


def test_devices_that_nothing_serves_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "CUDA_BACKEND", None)
    with FakeTensorMode():
        with pytest.raises(
            GrowthError, match="no fused kernel for CUDA tensors in this installation; build where nvcc"
        ):
            ops.tile(torch.empty(2, 2, device="cuda"), 2, 2)
        with pytest.raises(GrowthError, match="no fused kernel for xpu tensors; move them to the CPU or pass"):
            ops.tile(torch.empty(2, 2, device="xpu"), 2, 2)
        assert ops.tile(torch.empty(2, 2, device="cuda"), 2, 2, backend="eager").shape == (4, 4)


@pytest.mark.parametrize("name", ["tpu", "CPU", "growkernels", " "])
def test_unknown_backends_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(GrowthError, match=f"unknown backend '{name}' .*; choose 'cpu', 'cuda', 'triton' or 'eager'"):
        ops.normal_(torch.empty(3), 1, 2, backend=name)
    monkeypatch.setattr(backend, "FORCED", name)
    with pytest.raises(GrowthError, match=f"unknown backend '{name}'"):
        ops.normal_(torch.empty(3), 1, 2)


def test_tensors_on_several_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "CUDA_BACKEND", "cuda")
    spec = TileSpec((0, 4, 1, 1), (0, 6, 1, 1))
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
    monkeypatch.setattr(triton, "version", lambda name: installed)
    why = triton.fuses.__wrapped__(*capability)
    assert (f"Triton {installed} fuses" in why and "3.7 or later" in why) if refused else why == ""

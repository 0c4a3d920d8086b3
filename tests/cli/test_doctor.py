"""The doctor: what it reports of a sound installation, and what it says where something is missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import growkernels
from growkernels import doctor
from growkernels.ops.backends import backend
from tests.cli.support import json_of, run


def test_json_names_versions_backend_and_machine() -> None:
    data = json_of(run("doctor", "--json"))
    assert data["versions"]["growkernels"] == growkernels.__version__
    assert data["versions"]["torch"] == torch.__version__
    assert data["machine"]["torch_threads"] == torch.get_num_threads()
    assert data["backend"]["cpu_tensors"]["active"] in ("cpu", "eager") and data["backend"]["cpu_tensors"]["why"]
    assert data["backend"]["cuda_tensors"]["active"] == backend.CUDA_BACKEND and data["backend"]["cuda_tensors"]["why"]
    assert data["backend"]["noise_version"] == 1


def test_text_fits_80_columns_and_names_the_backend() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "cpu tensors" in result.stdout and "cuda tensors" in result.stdout and torch.__version__ in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_without_the_extension_it_says_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "EXTENSION", None)
    monkeypatch.setattr(backend, "EXTENSION_ERROR", "no such file: _C")
    monkeypatch.setattr(backend, "FORCED", None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    findings = doctor.examine()
    active = findings.backend["cpu_tensors"]
    assert active["active"] == "eager" and "no such file: _C" in active["why"]
    text = " ".join(findings.remedies)
    assert "No C++ compiler" in text and "slow eager reference" in text and "install" in text


def extension(cuda: str | None) -> SimpleNamespace:
    built = {"version": growkernels.__version__, "cuda": cuda}
    return SimpleNamespace(__file__="_C.so", build_info=lambda: built, isa=lambda: "scalar")


@pytest.mark.parametrize(
    ("forced", "cpu", "cuda", "words"),
    [
        ("eager", "eager", "eager", "unset it"),
        ("cuda9", None, None, "cannot run; unset it: unknown backend 'cuda9'"),
        (
            "cpu",
            None,
            None,
            "cannot run; unset it: backend 'cpu' was asked for, but the compiled extension did not load",
        ),
        ("cuda", None, "cuda", "All is well"),
        ("triton", None, None, "triton is not installed"),
    ],
)
def test_forced_backends(
    monkeypatch: pytest.MonkeyPatch, forced: str, cpu: str | None, cuda: str | None, words: str
) -> None:
    monkeypatch.setattr(backend, "EXTENSION", None if forced == "cpu" else extension("sm_90"))
    monkeypatch.setattr(backend, "CUDA_BACKEND", "cuda")
    monkeypatch.setattr(backend, "TRITON_INSTALLED", False)
    monkeypatch.setattr(backend, "FORCED", forced)
    findings = doctor.examine()
    assert (findings.backend["cpu_tensors"]["active"], findings.backend["cuda_tensors"]["active"]) == (cpu, cuda)
    assert words in " ".join([*findings.remedies, "All is well"])


@pytest.mark.parametrize(
    ("cuda", "chosen", "capability", "why", "remedy"),
    [
        ("sm_80, sm_90", "cuda", (9, 0), "the extension has kernels for sm_80, sm_90", None),
        ("sm_80, sm_90", "cuda", (8, 9), "the extension has kernels for sm_80, sm_90", None),
        ("sm_80, sm_90", "cuda", (12, 0), "the extension has kernels for sm_80, sm_90", None),
        (
            "sm_80, sm_90",
            "cuda",
            (7, 5),
            "the extension has kernels for sm_80, sm_90",
            "do not run on GPU: install triton",
        ),
        (None, "triton", (9, 0), "the extension was built without CUDA", None),
        (None, None, (9, 0), "no fused kernel for CUDA tensors in this installation", "CUDA tensors cannot be grown"),
    ],
)
def test_what_runs_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    chosen: str | None,
    capability: tuple[int, int],
    why: str,
    remedy: str | None,
) -> None:
    monkeypatch.setattr(backend, "EXTENSION", extension(cuda))
    monkeypatch.setattr(backend, "CUDA_BACKEND", chosen)
    monkeypatch.setattr(backend, "FORCED", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    findings = doctor.examine()
    assert findings.machine["cuda_device"] == "GPU"
    assert findings.backend["cuda_tensors"]["active"] == chosen and why in findings.backend["cuda_tensors"]["why"]
    text = " ".join(findings.remedies)
    assert remedy in text if remedy else "GPU" not in text and "CUDA" not in text

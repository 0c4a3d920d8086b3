"""The doctor: what it reports of a sound installation, and what it says where something is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType, SimpleNamespace

import pytest
import torch

import growkernels
from growkernels import doctor
from growkernels.ops.backends import registry
from tests.cli.support import json_of, run


def test_json_names_versions_backend_and_machine() -> None:
    data = json_of(run("doctor", "--json"))
    assert data["versions"]["growkernels"] == growkernels.__version__
    assert data["versions"]["torch"] == torch.__version__
    assert data["machine"]["torch_threads"] == torch.get_num_threads()
    assert data["backend"]["cpu_tensors"]["active"] in ("cpu", "eager") and data["backend"]["cpu_tensors"]["why"]
    assert (
        data["backend"]["cuda_tensors"]["active"] == registry.DEFAULTS.get("cuda")
        and data["backend"]["cuda_tensors"]["why"]
    )
    assert data["backend"]["backends"].keys() >= {"cpu", "cuda", "triton", "eager"}
    assert data["backend"]["backends"]["eager"] == "available"
    assert data["backend"]["noise_version"] == 1


def test_text_fits_80_columns_and_names_the_backend() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "cpu tensors" in result.stdout and "cuda tensors" in result.stdout and torch.__version__ in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.fixture
def installation(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the doctor find an installation: whether there is an extension, what it has for CUDA, and which backends run."""

    def install(
        built: bool,
        cuda: str | None = None,
        forced: str | None = None,
        why_not: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        info = {"version": growkernels.__version__, "cuda": cuda}
        extension = SimpleNamespace(__file__="_C.so", build_info=lambda: info, isa=lambda: "scalar") if built else None
        monkeypatch.setattr(doctor, "EXTENSION", extension)
        monkeypatch.setattr(doctor, "MISSING", "" if built else "the compiled extension was not built")
        monkeypatch.setattr(registry, "FORCED", forced)
        for name in ("cpu", "cuda", "triton"):
            found = registry.BACKENDS[name]._replace(why_not=why_not.get(name, ""))
            monkeypatch.setitem(registry.BACKENDS, name, found)
        defaults = {"cpu": "eager" if "cpu" in why_not else "cpu"}
        if runs := [name for name in ("cuda", "triton") if name not in why_not]:
            defaults["cuda"] = runs[0]
        monkeypatch.setattr(registry, "DEFAULTS", defaults)

    return install


def test_without_the_extension_it_says_why_and_what_to_do(
    installation: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installation(False, why_not=dict.fromkeys(("cpu", "cuda"), "it was not built"))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    findings = doctor.examine()
    assert findings.backend["cpu_tensors"] == {"active": "eager", "why": "the compiled extension was not built"}
    assert findings.backend["backends"]["cpu"] == "it was not built"
    text = " ".join(findings.remedies)
    assert "No C++ compiler" in text
    assert "slow eager reference: the compiled extension was not built. To build the kernels, run `pip install" in text
    assert "`pip install --no-deps --no-cache-dir --force-reinstall .` in the source tree (with -v to see why" in text


def test_a_package_whose_backend_failed_is_named(
    installation: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installation(True)
    monkeypatch.setattr(registry, "FAILED", {"npu": "its entry point 'npu:NPU' failed (ImportError: no driver)"})
    findings = doctor.examine()
    assert findings.backend["backends"]["npu"] == "its entry point 'npu:NPU' failed (ImportError: no driver)"
    assert "Backend npu is left out: its entry point 'npu:NPU' failed (ImportError: no driver)." in findings.remedies


@pytest.mark.parametrize(
    ("forced", "why_not", "cpu", "cuda", "words"),
    [
        ("eager", {}, "eager", "eager", "unset it"),
        ("cuda9", {}, None, None, "cannot run; unset it: unknown backend 'cuda9'"),
        ("cpu", {"cpu": "it is gone"}, None, None, "unset it: backend 'cpu' was asked for, but it is gone"),
        ("cuda", {}, None, "cuda", "All is well"),
        ("triton", {"triton": "triton is not installed"}, None, None, "triton is not installed"),
    ],
)
def test_forced_backends(
    installation: Callable[..., None],
    forced: str,
    why_not: dict[str, str],
    cpu: str | None,
    cuda: str | None,
    words: str,
) -> None:
    installation(True, "sm_90", forced, why_not)
    findings = doctor.examine()
    assert (findings.backend["cpu_tensors"]["active"], findings.backend["cuda_tensors"]["active"]) == (cpu, cuda)
    assert words in " ".join([*findings.remedies, "All is well"])


@pytest.mark.parametrize(
    ("cuda", "why_not", "chosen", "capability", "why", "remedy"),
    [
        ("sm_80, sm_90", (), "cuda", (9, 0), "the extension has kernels for sm_80, sm_90", None),
        ("sm_80, sm_90", (), "cuda", (8, 9), "the extension has kernels for sm_80, sm_90", None),
        ("sm_80, sm_90", (), "cuda", (12, 0), "the extension has kernels for sm_80, sm_90", None),
        ("sm_80, sm_90", (), "cuda", (7, 5), "the extension has kernels for", "do not run on GPU: install triton"),
        (None, ("cuda",), "triton", (9, 0), "the extension was built without CUDA", None),
        (None, ("cuda", "triton"), None, (9, 0), "no fused kernel for CUDA tensors", "CUDA tensors cannot be grown"),
    ],
)
def test_what_runs_on_a_gpu(
    installation: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    why_not: tuple[str, ...],
    chosen: str | None,
    capability: tuple[int, int],
    why: str,
    remedy: str | None,
) -> None:
    installation(True, cuda, why_not=dict.fromkeys(why_not, "it is not there"))
    monkeypatch.setattr(doctor, "cuda_device", lambda: ("GPU", capability))
    findings = doctor.examine()
    assert findings.machine["cuda_device"] == "GPU" and findings.machine["cuda_capability"] == capability
    assert findings.backend["cuda_tensors"]["active"] == chosen and why in findings.backend["cuda_tensors"]["why"]
    text = " ".join(findings.remedies)
    assert remedy in text if remedy else "GPU" not in text and "CUDA" not in text

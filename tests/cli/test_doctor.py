"""The doctor: what it reports of a sound installation, and what it says where something is missing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import growkernels
from growkernels import doctor
from growkernels.ops import backend
from tests.cli.support import json_of, run


def test_json_names_versions_backend_and_machine() -> None:
    data = json_of(run("doctor", "--json"))
    assert data["versions"]["growkernels"] == growkernels.__version__
    assert data["versions"]["torch"] == torch.__version__
    assert data["machine"]["torch_threads"] == torch.get_num_threads()
    assert data["backend"]["active"] in ("cpu", "eager") and data["backend"]["why"]
    assert data["backend"]["noise_version"] == 1


def test_text_fits_80_columns_and_names_the_backend() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "active" in result.stdout and torch.__version__ in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_without_the_extension_it_says_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "EXTENSION", None)
    monkeypatch.setattr(backend, "EXTENSION_ERROR", "no such file: _C")
    monkeypatch.setattr(backend, "FORCED", None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    findings = doctor.examine()
    assert findings.backend["active"] == "eager" and "no such file: _C" in findings.backend["why"]
    text = " ".join(findings.remedies)
    assert "No C++ compiler" in text and "slow eager reference" in text and "install" in text


@pytest.mark.parametrize(
    ("forced", "words"), [("eager", "unset it"), ("cuda9", "is unknown"), ("cpu", "cannot run without")]
)
def test_forced_backends(monkeypatch: pytest.MonkeyPatch, forced: str, words: str) -> None:
    built = {"version": growkernels.__version__}
    extension = SimpleNamespace(__file__="_C.so", build_info=lambda: built, isa=lambda: "scalar")
    monkeypatch.setattr(backend, "EXTENSION", None if forced == "cpu" else extension)
    monkeypatch.setattr(backend, "FORCED", forced)
    findings = doctor.examine()
    assert findings.backend["active"] == forced
    assert words in " ".join(findings.remedies)

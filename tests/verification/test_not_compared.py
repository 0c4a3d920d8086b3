"""What stock transformers cannot load or run: said in the report; what stops the user's load is found before the work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

import growkernels
from growkernels import GrowthError
from growkernels.errors import VerificationFailed
from growkernels.verification import logits
from tests.end_to_end.support import saved
from tests.families import make_model


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return saved(tmp_path, "llama")


def test_an_attention_of_a_package_that_is_not_here(src: Path, tmp_path: Path) -> None:
    """It says nothing about the weights: they are compared by the attention that is here, and the grown config is silent."""
    edit(src / "config.json", lambda config: config.update(_attn_implementation="flash_attention_2"))
    report = growkernels.grow_checkpoint(src, tmp_path / "dst", width=2, verify_logits=True)
    assert report.verification.logits.passed and report.verification.not_run == ""
    assert "_attn_implementation" not in json.loads((tmp_path / "dst" / "config.json").read_text())
    transformers.LlamaForCausalLM.from_pretrained(tmp_path / "dst")
    assert growkernels.verify(src, tmp_path / "dst", logits=True).passed


def test_a_source_that_transformers_does_not_load_is_not_compared(tmp_path: Path) -> None:
    _, model = make_model("llama")
    model.save_pretrained(tmp_path / "src", max_shard_size="20KB")
    edit(tmp_path / "src" / "model.safetensors.index.json", lambda index: index.pop("metadata"))
    report = growkernels.grow_checkpoint(tmp_path / "src", tmp_path / "dst", width=2, verify_logits=True)
    verification = report.verification
    assert verification.passed and verification.slices.passed and verification.logits is None
    assert "stock transformers cannot load or run the source: KeyError: 'metadata'" in verification.not_run
    assert any("outputs not compared: stock transformers" in line for line in verification.lines())
    assert json.loads((tmp_path / "dst" / "growkernels.json").read_text())["verification"]["not_run"]
    transformers.LlamaForCausalLM.from_pretrained(tmp_path / "dst")


@pytest.mark.parametrize("error", [MemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_fails_no_verification(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    load = logits.load_model

    def failing(folder: Path, *more: Any) -> Any:
        if folder != src:
            raise error
        return load(folder, *more)

    monkeypatch.setattr(logits, "load_model", failing)
    report = growkernels.grow_checkpoint(src, tmp_path / "dst", width=2, verify_logits=True)
    assert report.verification.logits is None and "the grown model" in report.verification.not_run


def test_a_target_that_fails_where_the_source_does_not_has_failed(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = logits.load_model

    def failing(folder: Path, *more: Any) -> Any:
        if folder != src:
            raise ValueError("mismatched sizes")
        return load(folder, *more)

    monkeypatch.setattr(logits, "load_model", failing)
    with pytest.raises(VerificationFailed, match="run the grown model: ValueError: mismatched sizes"):
        growkernels.grow_checkpoint(src, tmp_path / "dst", width=2, verify_logits=True)
    assert not (tmp_path / "dst").exists()


REFUSED = ['{"max_new_tokens": -1}', '{"cache_implementation": "none of them"}', "[]", "[" * 100_000]


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30])
def test_a_generation_config_that_transformers_refuses_is_found_before_the_work(
    src: Path, tmp_path: Path, text: str
) -> None:
    (src / "generation_config.json").write_text(text)
    for call in (
        lambda: growkernels.plan(src, width=2),
        lambda: growkernels.grow_checkpoint(src, tmp_path / "dst", width=2),
        lambda: growkernels.load_grown(src, width=2),
    ):
        with pytest.raises(GrowthError, match=r"generation_config\.json is refused by transformers"):
            call()
    assert not (tmp_path / "dst").exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_generation_config_that_transformers_does_without(src: Path, tmp_path: Path, text: str) -> None:
    """Stock loading takes the default for what is no JSON, and so does every way to the grown model."""
    (src / "generation_config.json").write_text(text)
    transformers.LlamaForCausalLM.from_pretrained(src)
    assert growkernels.grow_checkpoint(src, tmp_path / "dst", width=2, verify_logits=True).verification.logits.passed
    assert isinstance(growkernels.load_grown(src, width=2), transformers.LlamaForCausalLM)


def test_a_model_that_does_not_generate_takes_any(tmp_path: Path) -> None:
    src = saved(tmp_path, "bert")
    (src / "generation_config.json").write_text(REFUSED[0])
    transformers.BertForMaskedLM.from_pretrained(src)
    assert growkernels.grow_checkpoint(src, tmp_path / "dst", width=2, verify_logits=True).verification.logits.passed

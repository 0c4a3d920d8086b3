"""A type that comes after the table: grown if a twin and then the checkpoint itself confirm what was derived, else refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, LlamaConfig, LlamaForCausalLM
from transformers.models.auto import modeling_auto
from transformers.models.llama.modeling_llama import LlamaMLP

import growkernels
from growkernels.errors import GrowthError, VerificationFailed
from growkernels.layouts import Family, checks, classes, families, trial
from growkernels.verification import logits
from tests.coverage import twins


class NextConfig(LlamaConfig):
    model_type = "next"


class NextForCausalLM(LlamaForCausalLM):
    """A decoder under another name: all that generic rules need."""

    config_class = NextConfig


class _ScaledMlp(LlamaMLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.hidden_size / 128


class ScaledForCausalLM(NextForCausalLM):
    """Its feed-forward networks depend on the width in a way that no generic rule knows."""

    def __init__(self, config: NextConfig) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = _ScaledMlp(config)


class LateForCausalLM(NextForCausalLM):
    """The same, but only where the model is wider than a twin is."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        width = self.config.hidden_size
        output.logits = output.logits * (width / 128 if width > 100 else 1.0)
        return output


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """Makes a checkpoint of a class that transformers has from now on, and the table has not."""
    kept = dict(families.FAMILIES)
    checks._usual_tasks.cache_clear()

    def save(kind: type[NextForCausalLM]) -> Path:
        # There are two of it where it is imported for the first time by a test.
        for module in {id(part.transformers): part.transformers for part in (classes, trial, logits, twins)}.values():
            monkeypatch.setattr(module, kind.__name__, kind, raising=False)
        monkeypatch.setitem(CONFIG_MAPPING._extra_content, "next", NextConfig)
        monkeypatch.setitem(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "next", kind.__name__)
        config = NextConfig(
            hidden_size=128,
            num_attention_heads=16,
            num_key_value_heads=8,
            intermediate_size=160,
            num_hidden_layers=2,
            vocab_size=200,
            tie_word_embeddings=True,
        )
        config.architectures = [kind.__name__]
        monkeypatch.setitem(twins.CAUSAL, "next", kind.__name__)
        twins.make_model("next", config).float().save_pretrained(tmp_path / "source")
        return tmp_path / "source"

    yield save
    families.FAMILIES.clear()
    families.FAMILIES.update(kept)
    checks._usual_tasks.cache_clear()


def test_new_type_is_grown_and_compared(saved, tmp_path):
    source = saved(NextForCausalLM)
    report = growkernels.grow_checkpoint(source, tmp_path / "wide", width=2, depth=2)
    claim = next(claim for claim in report.plan.claims if claim.part == "layout")
    assert "next is not in the table" in claim.reason and "checked on a twin" in claim.reason
    report = growkernels.grow_checkpoint(source, tmp_path / "wider", width=3)
    assert report.plan.preserves_function
    assert report.verification.logits.passed and report.verification.logits.comparisons[0].bound is not None


@pytest.mark.parametrize("skipped", [{"no_verify": True}, {"verify_logits": False}])
def test_comparison_cannot_be_left_out(saved, tmp_path, skipped):
    source = saved(NextForCausalLM)
    with pytest.raises(GrowthError, match=r"comparison .* cannot be left out.*register_family.*Family\('next'\)"):
        growkernels.grow_checkpoint(source, tmp_path / "wide", width=2, **skipped)
    assert not (tmp_path / "wide").exists()
    growkernels.register_family(Family("next"))
    report = growkernels.grow_checkpoint(source, tmp_path / "wide", width=2, **skipped)
    assert [claim.part for claim in report.plan.claims] == ["width"]


def test_live_growth_is_left_to_those_who_declare(saved):
    source = saved(NextForCausalLM)
    with pytest.raises(GrowthError, match="grow its checkpoint"):
        growkernels.grow_model(NextForCausalLM.from_pretrained(source), width=2)
    with pytest.raises(GrowthError, match="grow its checkpoint"):
        growkernels.load_grown(source, width=2)


def test_refusal_names_where_outputs_first_differ_and_how_to_declare(saved, tmp_path):
    source = saved(ScaledForCausalLM)
    words = r"first differs from it at model\.layers\.0\.mlp.*register_family\(Family\('next', \.\.\.\)\)"
    with pytest.raises(GrowthError, match=words):
        growkernels.grow_checkpoint(source, tmp_path / "wide", width=2)


def test_what_only_the_checkpoint_shows_fails_its_comparison(saved, tmp_path):
    source = saved(LateForCausalLM)
    with pytest.raises(VerificationFailed, match="OUTSIDE the bound"):
        growkernels.grow_checkpoint(source, tmp_path / "wide", width=2)
    assert not (tmp_path / "wide").exists()


def test_other_options_of_a_confirmed_type_are_tried_anew(saved, monkeypatch):
    source = saved(NextForCausalLM)
    growkernels.plan(source, width=2)
    tried = []
    shrunk = trial.shrunk
    monkeypatch.setattr(trial, "shrunk", lambda family, config: tried.append(config) or shrunk(family, config))
    growkernels.plan(source, width=2)
    assert tried == []
    text = (source / "config.json").read_text()
    (source / "config.json").write_text(text.replace('"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e-05'))
    growkernels.plan(source, width=2)
    assert [config["rms_norm_eps"] for config in tried] == [1e-05]

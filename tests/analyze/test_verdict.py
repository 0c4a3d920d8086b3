"""Clones without noise, with noise, trained on, and models from scratch: each is recognized, on models trained here."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import growkernels
from growkernels.analyze import analyze
from tests.analyze.conftest import llama
from tests.families import make_model


@pytest.mark.parametrize(
    ("name", "origin", "copies"),
    [
        ("clean", "noise-free clone", 2),
        ("clean-trained", "noise-free clone", 2),
        ("noisy", "noisy clone", 2),
        ("quiet", "noisy clone", 2),
        ("diagonal", "noisy clone", 2),
        ("bfloat16", "noisy clone", 2),
        ("three", "noisy clone", 3),
        ("both", "noisy clone", 2),
        ("ffn", "noise-free clone", 2),
        ("noisy-trained", "clone trained on", 2),
        ("quiet-trained", "clone trained on", 2),
        ("diagonal-trained", "clone trained on", 2),
        ("src", "no clone", 1),
        ("fresh", "no clone", 1),
        ("scratch", "no clone", 1),
        ("deep", "no clone", 1),
    ],
)
def test_where_a_checkpoint_comes_from(models: Path, name: str, origin: str, copies: int) -> None:
    analysis = analyze(models / name, spectra=False)
    assert analysis.verdict.origin == origin, analysis.verdict
    assert analysis.verdict.locked == (origin == "noise-free clone")
    found = {max(entry.copies) for entry in analysis.symmetry if entry.found}
    assert found == ({copies} if copies > 1 else set())


def test_symmetry_lock_is_found_and_the_source_shows_that_training_did_not_break_it(models: Path) -> None:
    (lock,) = analyze(models / "clean-trained", models / "src", spectra=False).findings
    assert lock.startswith("symmetry lock: all copies are equal to the bit") and "copies stayed equal" in lock
    (fresh,) = analyze(models / "clean", models / "src", spectra=False).findings
    assert fresh.startswith("symmetry lock") and "stayed equal." not in fresh
    assert not analyze(models / "noisy-trained", models / "src", spectra=False).findings


def test_cosines_are_those_of_the_noise(models: Path) -> None:
    """10 dB of noise e on W/2: output copies share W/2, input copies are W/2 + e and W/2 - e."""
    by_kind = {entry.kind: entry for entry in analyze(models / "noisy", spectra=False).symmetry}
    entry = by_kind["model.layers.{}.mlp.up_proj.weight"]
    # (1 - r) / (1 + r) with r = 0.1; both means run over 3072 pairs of entries or more, of a spread below 0.1.
    assert entry.cosine == pytest.approx(0.9 / 1.1, abs=5 * 0.1 / 3072**0.5)
    assert by_kind["model.embed_tokens.weight"].distance == 0
    assert entry.pattern == "all copies alike" and entry.copies == (2, 2)
    other = {entry.pattern for entry in analyze(models / "diagonal", spectra=False).symmetry if entry.copies == (2, 2)}
    assert other == {"diagonal"}


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen3", "gemma", "bert"])
def test_fused_and_transposed_matrices(tmp_path: Path, family: str) -> None:
    _, model = make_model(family)
    model.save_pretrained(tmp_path / "src")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        growkernels.grow_checkpoint(tmp_path / "src", tmp_path / "wide", width=2, noise_snr_db=None, no_verify=True)
    analysis = analyze(tmp_path / "wide", tmp_path / "src", spectra=False)
    assert analysis.layout_known and analysis.verdict.origin == "noise-free clone"
    found = [entry for entry in analysis.symmetry if entry.found]
    assert max(entry.distance for entry in (*found, *analysis.vectors)) == 0
    assert {entry.kind for entry in found} >= {entry.kind for entry in analysis.symmetry if entry.layer is not None}
    assert analysis.comparison is not None and not analysis.comparison.unmatched
    for change in analysis.comparison.changes:
        # The copies hold the source: float32 sums of squares are off by parts in a million at these sizes.
        assert change.apart < 1e-5 and change.changed < 2e-3, change
    assert not analyze(tmp_path / "src").symmetry[0].found


def test_a_family_without_a_layout_is_analyzed_all_the_same(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "mamba", hidden_size=32, state_size=4, num_hidden_layers=2, vocab_size=97, architectures=["MambaForCausalLM"]
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    analysis = analyze(tmp_path)
    assert analysis.verdict.origin == "no clone" and analysis.layers == 2 and len(analysis.spectra) > 8


def test_heads_and_rows_that_are_alike_in_any_model_are_no_copies(tmp_path: Path) -> None:
    """Heads share a structure by rotary frequency, and rows of tokens that never occur share their mean."""
    model = llama(64)
    with torch.no_grad():
        for layer in model.model.layers:
            query, output = layer.self_attn.q_proj.weight, layer.self_attn.o_proj.weight
            query.add_(query[:8].repeat(8, 1).clone())
            output.add_(output[:, :8].repeat(1, 8).clone())
        model.lm_head.weight.mul_(0.1).add_(model.lm_head.weight[:1].clone())
    model.save_pretrained(tmp_path)
    assert analyze(tmp_path, spectra=False).verdict.origin == "no clone"

"""Spectra, duplicate and dead parts, experts: against matrices whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from growkernels.analyze import analyze, spectrum
from growkernels.analyze.blocks import compare_blocks
from growkernels.analyze.spectrum import effective_rank, singular_values
from tests.analyze.conftest import llama


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_blocks_against_numpy(n_out: int, n_in: int, rows: int, columns: int, transposed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (n_in * columns, n_out * rows) if transposed else (n_out * rows, n_in * columns)
    matrix = torch.randn(shape, generator=generator)
    matrix = matrix.t() if transposed else matrix
    found = compare_blocks(matrix, n_out, n_in)
    blocks = matrix.double().numpy().reshape(n_out, rows, n_in, columns)

    def mean_cosine(parts: list[np.ndarray]) -> float:
        values = [
            (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
            for i, a in enumerate(parts)
            for j, b in enumerate(parts)
            if i != j
        ]
        return sum(values) / len(values)

    # Sums of at most 225 products in float32, and of their roots.
    bound = 225 * torch.finfo(torch.float32).eps
    assert found.norm == pytest.approx(float(np.linalg.norm(blocks)), rel=bound)
    if n_out > 1:
        assert found.outputs is not None
        assert found.outputs.cosine == pytest.approx(mean_cosine(list(blocks)), abs=bound)
    if n_in > 1:
        assert found.inputs is not None
        assert found.inputs.cosine == pytest.approx(mean_cosine(list(blocks.transpose(2, 0, 1, 3))), abs=bound)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
    whole = compare_blocks(matrix, 2, 2)
    monkeypatch.setattr("growkernels.analyze.blocks.CACHED", 512)
    parts = compare_blocks(matrix, 2, 2)
    assert whole.outputs is not None and parts.outputs is not None
    assert parts.outputs.cosine == pytest.approx(whole.outputs.cosine, abs=6144 * 2**-23)
    assert parts.sum_distance == pytest.approx(whole.sum_distance, rel=6144 * 2**-23)


def known(values: list[float], rows: int, columns: int) -> torch.Tensor:
    """A matrix with these singular values."""
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64))[0]
    return (left * torch.tensor(values, dtype=torch.float64)) @ right.T


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)])
def test_singular_values_that_are_known(shape: tuple[int, int]) -> None:
    expected = [4.0, 2.0, 1.0, 0.5]
    values, energy, method, error, rows = singular_values(known(expected, *shape))
    assert method == "exact" and rows == shape[0] and energy == pytest.approx(21.25, rel=1e-12)
    # An eigenvalue of the Gram matrix is off by some units of float64 times the largest one, 16.
    assert values[:4] == pytest.approx(expected, abs=16 * error**2)
    assert max(values[4:]) <= 4 * error
    # Four equal singular values are four directions.
    assert effective_rank([2.0] * 4 + [0.0] * 26, 16.0, 30) == (pytest.approx(4), pytest.approx(4))


def test_randomized_bounds_hold_the_exact_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = known([0.9**i for i in range(120)], 160, 120).float()
    exact = singular_values(matrix)
    monkeypatch.setattr(spectrum, "_EXACT", 64)
    monkeypatch.setattr(spectrum, "_RANK", 40)
    values, energy, method, error, rows = singular_values(matrix)
    assert (method, rows, len(values)) == ("randomized", 160, 40)
    # The energy beyond 40 values is 0.81^40.
    assert error == pytest.approx(0.81**40, rel=0.05)
    low, high = effective_rank(values, energy, 120)
    rank = effective_rank(exact[0], exact[1], 120)[0]
    assert low <= rank <= high and high < 1.5 * low
    # The decomposition is seeded, and leaves torch's own generator as it was.
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    assert singular_values(matrix)[0] == values and torch.rand(1) == first


def test_clones_have_half_the_rank(models: Path) -> None:
    ranks = {
        name: np.mean([entry.rank_share for entry in analyze(models / name).spectra if entry.layer is not None])
        for name in ("clean", "noisy", "noisy-trained", "scratch", "clean-trained")
    }
    assert ranks["clean"] < 0.5 and ranks["clean-trained"] < 0.5
    assert min(ranks["noisy"], ranks["noisy-trained"], ranks["scratch"]) > 0.6


def test_dead_and_locked_units_and_rows(tmp_path: Path) -> None:
    llama(32).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gate, up, down = (weights[f"model.layers.1.mlp.{name}_proj.weight"] for name in ("gate", "up", "down"))
    gate[3], up[3] = 0, 0  # dead
    up[5], down[:, 5] = 0, 0  # dead
    down[:, 7] = 0  # silent
    for matrix, copy in ((gate[11], gate[10]), (up[11], up[10]), (down[:, 11], down[:, 10])):
        matrix.copy_(copy)  # locked
    gate[13] = gate[12]  # equal in one place: trains
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    analysis = analyze(tmp_path, spectra=False)
    first, second = analysis.units
    assert (first.count, first.dead, first.silent, first.locked) == (96, 0, 0, 0)
    assert (second.dead, second.silent, second.locked) == (2, 1, 1)
    rows = {entry.name: entry for entry in analysis.rows}
    assert set(rows) == {f"model.layers.1.mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    entry = rows["model.layers.1.mlp.gate_proj.weight"]
    assert (entry.dead_outputs, entry.equal_outputs, entry.dead_inputs, entry.equal_inputs) == (1, 2, 0, 0)
    texts = " ".join(analysis.findings)
    assert "2 feed-forward units have zeros in two places" in texts and "1 feed-forward units equal another" in texts


def test_equal_experts(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "mixtral",
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=97,
        num_local_experts=4,
        architectures=["MixtralForCausalLM"],
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert not any("experts" in text for text in analyze(tmp_path, spectra=False).findings)
    for name, tensor in weights.items():
        if ".1." in name and "experts" in name and "experts.3." in name:
            tensor.copy_(weights[name.replace("experts.3.", "experts.0.")])
        elif name.startswith("model.layers.1.") and "experts" in name and tensor.dim() == 3:
            tensor[3] = tensor[0]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    analysis = analyze(tmp_path, spectra=False)
    assert [(entry.count, entry.distinct) for entry in analysis.experts] == [(4, 4), (4, 3)]
    assert any("of 4 experts in layer 1 only 3 differ" in text for text in analysis.findings)


def test_layers_of_different_sizes(tmp_path: Path) -> None:
    """As in models that were pruned, whose families have no layout here."""
    llama(32).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in tensors:
        if name.startswith("model.layers.1.mlp") and tensors[name].ndim == 2:
            tensors[name] = tensors[name][:31, :31].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "pruned"}))
    assert analyze(tmp_path).verdict is not None

"""Experts that are split compute what they did, with as many parameters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import growkernels
from growkernels.errors import GrowthError
from tests.end_to_end.experts import MODELS, error, grown_model, load_wide, saved_model

#: Float64 sums in another order, a hundred in a row.
EXACT = 1e-11
SPLIT = (
    "mixtral",
    "qwen3_moe",
    "qwen3_moe whole softmax",
    "qwen2_moe",
    "deepseek_v3",
    "deepseek_v3 unnormalized",
    "glm4_moe one group",
    "ernie4_5_moe",
)


@pytest.mark.parametrize("slices", [2, 4])
@pytest.mark.parametrize("name", SPLIT)
def test_function_is_preserved(name: str, slices: int, sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, name)
    plan = grown_model(source, tmp_path / "grown", expert_split=slices)
    assert plan.preserves_function
    assert error(source, tmp_path / "grown") <= EXACT


def test_slices_are_ranges_of_the_features(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "mixtral")
    grown_model(source, tmp_path / "grown", expert_split=3)
    small, large = (load_file(path / "model.safetensors") for path in (source, tmp_path / "grown"))
    name = "model.layers.0.block_sparse_moe.experts.{}.{}.weight"
    for expert in range(4):
        parts = [[large[name.format(n * 4 + expert, part)] for n in range(3)] for part in ("w1", "w3", "w2")]
        assert torch.equal(torch.cat(parts[0]), small[name.format(expert, "w1")])
        assert torch.equal(torch.cat(parts[1]), small[name.format(expert, "w3")])
        assert (torch.cat(parts[2], 1) - 3 * small[name.format(expert, "w2")]).abs().max() <= 1e-15


def test_where_the_config_has_a_factor_weights_are_kept(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "deepseek_v3")
    plan = grown_model(source, tmp_path / "grown", expert_split=2)
    assert all(rule.divisor == 1 for rule in plan.rules)
    [claim] = plan.claims
    assert claim.holds == "exactly"
    config = json.loads((tmp_path / "grown" / "config.json").read_text())
    wanted = {
        "n_routed_experts": 8,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 10,
        "n_shared_experts": 2,
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 5.0,
    }
    assert {key: config[key] for key in wanted} == wanted


def test_split_then_copied_and_checked(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "mixtral")
    report = growkernels.grow_checkpoint(source, tmp_path / "split", expert_split=3, dtype="float32")
    assert report.verification is not None
    assert report.verification.passed
    grown_model(tmp_path / "split", tmp_path / "copied", expert_copies=2, noise_snr_db=None)
    assert error(tmp_path / "split", tmp_path / "copied") <= EXACT


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a dense model": ("llama", {"expert_split": 2}, "it is dense"),
    "experts in one tensor": ("gpt_oss", {"expert_split": 2}, "holds all experts in one tensor"),
    "a size that it does not divide": ("mixtral", {"expert_split": 5}, "a divisor of intermediate_size, which is 36"),
    "a wider model": ("mixtral", {"expert_split": 2, "width": 2}, "grow in two steps"),
    "copies too": ("mixtral", {"expert_split": 2, "expert_copies": 2}, "both say what becomes of the experts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, sources: Path, tmp_path: Path) -> None:
    name, options, reason = REFUSED[case]
    with pytest.raises(GrowthError, match=re.escape(reason)):
        grown_model(saved_model(sources, name), tmp_path / "grown", **options)


def test_a_key_that_sizes_other_layers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"num_experts": 4, "moe_topk": 2, "moe_intermediate_size": None}
    monkeypatch.setitem(
        MODELS, "hunyuan", ("hunyuan_v1_moe", {**changes, "num_shared_expert": 1, "use_mixed_mlp_moe": True})
    )
    with pytest.raises(GrowthError, match="by the same key as its experts"):
        grown_model(saved_model(tmp_path, "hunyuan"), tmp_path / "grown", expert_split=2)


def test_live_stacks_are_refused(sources: Path) -> None:
    model = load_wide(saved_model(sources, "mixtral"))
    with pytest.raises(GrowthError, match="save it, and grow the checkpoint"):
        growkernels.grow_model(model, expert_split=2)

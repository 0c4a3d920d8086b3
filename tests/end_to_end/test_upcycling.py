"""Dense models become models of experts that compute the same, in another class of transformers."""

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
from tests.end_to_end.experts import MODELS, as_wide, error, grown_model, load_wide, saved_model

DENSE = {
    "llama": "MixtralForCausalLM",
    "llama tied": "MixtralForCausalLM",
    "mistral": "MixtralForCausalLM",
    "qwen3": "Qwen3MoeForCausalLM",
    "qwen2": "Qwen2MoeForCausalLM",
    "olmo2": "FlexOlmoForCausalLM",
}
#: Float64 sums in another order, a hundred in a row. A post-norm would cancel a common factor, but for its eps.
EXACT = 1e-11


OPTIONS: dict[str, dict[str, Any]] = {
    "coarse": {"moe": 4},
    "coarse, three of five": {"moe": 5, "top_k": 3},
    "granular": {"moe": 8, "granularity": 2},
    "granular, two groups": {"moe": 12, "granularity": 3, "top_k": 6},
    "deeper": {"moe": 4, "layers": "0,1,1", "depth_operator": "gstack"},
}


@pytest.mark.parametrize("options", [name for name in OPTIONS if name != "deeper"])
@pytest.mark.parametrize("name", DENSE)
def test_function_is_preserved(name: str, options: str, sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, name)
    plan = grown_model(source, tmp_path / "grown", **OPTIONS[options])
    assert plan.preserves_function
    assert type(load_wide(tmp_path / "grown")).__name__ == DENSE[name]
    assert error(source, tmp_path / "grown") <= EXACT


@pytest.mark.parametrize("granularity", [1, 2])
def test_a_shared_expert_is_the_dense_network(granularity: int, sources: Path, tmp_path: Path) -> None:
    """Whatever the router, and how many are chosen: the others put out nothing yet, and can learn."""
    source = saved_model(sources, "qwen2")
    grown_model(source, tmp_path / "grown", moe=6, granularity=granularity, top_k=3, shared=True)
    model = load_wide(tmp_path / "grown")
    assert error(source, model) <= EXACT
    assert (model.config.shared_expert_intermediate_size, model.config.moe_intermediate_size) == (36, 36 // granularity)
    model(input_ids=torch.arange(12)[None], labels=torch.arange(12)[None]).loss.backward()
    stacks = [one for name, one in model.named_parameters() if name.endswith("experts.down_proj")]
    assert all(stack.grad.abs().max() > 0 for stack in stacks)


def test_routers_are_drawn_once_for_a_group(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "llama")
    grown_model(source, tmp_path / "grown", moe=8, granularity=4, seed=3)
    grown_model(source, tmp_path / "again", moe=8, granularity=4, seed=3)
    grown_model(source, tmp_path / "other", moe=8, granularity=4, seed=4)
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("grown", "again", "other")]
    rows = files[0]["model.layers.0.block_sparse_moe.gate.weight"]
    assert torch.equal(rows, rows[[0, 0, 0, 0, 4, 4, 4, 4]])
    assert not torch.equal(rows[0], rows[4])
    # 96 distinct normals of std 0.02: their standard deviation is within a third of it.
    assert 0.013 < float(rows.std()) < 0.027
    assert all(torch.equal(files[0][name], value) for name, value in files[1].items())
    assert not torch.equal(files[2]["model.layers.0.block_sparse_moe.gate.weight"], rows)
    assert not torch.equal(files[0]["model.layers.1.block_sparse_moe.gate.weight"], rows)


def test_reinit_redraws_the_same_features_everywhere(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "llama")
    plan = grown_model(source, tmp_path / "grown", moe=4, reinit=0.5)
    assert not plan.preserves_function
    assert 0.01 < error(source, tmp_path / "grown") < 3
    small, large = (load_file(path / "model.safetensors") for path in (source, tmp_path / "grown"))
    redrawn = []
    for expert in range(4):
        name = f"model.layers.0.block_sparse_moe.experts.{expert}."
        rows = [
            (large[f"{name}{part}.weight"] != small[f"model.layers.0.mlp.{dense}.weight"]).any(axis)
            for part, dense, axis in (("w1", "gate_proj", 1), ("w3", "up_proj", 1), ("w2", "down_proj", 0))
        ]
        assert torch.equal(rows[0], rows[1])
        assert torch.equal(rows[0], rows[2])
        assert int(rows[0].sum()) == 18
        old, new = (weights[key][rows[0]] for weights, key in
                    ((small, "model.layers.0.mlp.up_proj.weight"), (large, f"{name}w3.weight")))  # fmt: skip
        # 432 normals: the standard deviation to a sixth, the mean to a quarter of it.
        assert abs(float(new.std() / old.std()) - 1) < 0.17
        assert abs(float(new.mean() - old.mean())) < 0.25 * float(old.std())
        redrawn.append(tuple(rows[0].tolist()))
    assert len(set(redrawn)) == 4


def test_deeper_too(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "llama")
    grown_model(source, tmp_path / "deep", layers="0,1,1")
    grown_model(source, tmp_path / "both", layers="0,1,1", moe=4)
    assert error(tmp_path / "deep", tmp_path / "both") <= EXACT


def test_what_classes_have_by_default_is_written(sources: Path, tmp_path: Path) -> None:
    """Mixtral's own epsilon and rotary base are others than Llama's, whose config leaves them out."""
    grown_model(saved_model(sources, "llama"), tmp_path / "grown", moe=4)
    config = json.loads((tmp_path / "grown" / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-6
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    assert (config["num_local_experts"], config["num_experts_per_tok"], config["dtype"]) == (4, 2, "float64")
    assert config.get("sliding_window") is None
    grown_model(saved_model(sources, "mistral"), tmp_path / "window", moe=4)
    assert json.loads((tmp_path / "window" / "config.json").read_text())["sliding_window"] == 5


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_loaded_verified_and_grown_again(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "qwen3")
    report = growkernels.grow_checkpoint(source, tmp_path / "grown", moe=6, granularity=3, dtype="float32")
    assert report.verification is not None
    assert report.verification.passed
    assert growkernels.verify(source, tmp_path / "grown").passed
    loaded, stored = growkernels.load_grown(source, moe=6, granularity=3), load_wide(tmp_path / "grown")
    assert type(loaded) is type(stored)
    assert error(source, as_wide(loaded)) <= EXACT
    grown_model(tmp_path / "grown", tmp_path / "more", expert_copies=2)
    assert error(tmp_path / "grown", tmp_path / "more") <= 1e-6  # of float32 weights, noise rounded to them


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a mixture": ("mixtral", {"moe": 4}, "mixtral has no class of experts"),
    "one expert": ("llama", {"moe": 1}, "at least 2 experts"),
    "more for a token than there are": ("llama", {"moe": 4, "top_k": 5}, "top_k is 5; expected 1 to 4"),
    "a granularity that does not divide the ffn": (
        "llama",
        {"moe": 10, "granularity": 5},
        "divisor of the ffn size 36",
    ),
    "a granularity that does not divide the experts": ("llama", {"moe": 6, "granularity": 4}, "number of experts 6"),
    "parts of groups": ("llama", {"moe": 12, "granularity": 4, "top_k": 6}, "off by 18 to 25 %"),
    "a shared expert where there is none": ("llama", {"moe": 4, "shared": True}, "mixtral has no shared expert"),
    "redrawn slices": ("llama", {"moe": 4, "granularity": 2, "reinit": 0.5}, "cannot be had at once"),
    "a wider model": ("llama", {"moe": 4, "width": 2}, "grow in two steps"),
    "all redrawn": ("llama", {"moe": 4, "reinit": 1.0}, "above 0 and below 1"),
    "noise": ("llama", {"moe": 4, "expert_noise_db": 40}, "noise on cloned experts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, sources: Path, tmp_path: Path) -> None:
    name, options, reason = REFUSED[case]
    with pytest.raises(GrowthError, match=re.escape(reason)):
        grown_model(saved_model(sources, name), tmp_path / "grown", **options)


@pytest.mark.parametrize("bias", ["mlp_bias", "attention_bias"])
def test_biases_that_experts_do_not_have(bias: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "biased", ("llama", {bias: True}))
    with pytest.raises(GrowthError, match="bias"):
        grown_model(saved_model(tmp_path, "biased"), tmp_path / "grown", moe=4)


def test_windows_that_the_target_cannot_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    monkeypatch.setitem(MODELS, "qwen3 window", ("qwen3", window))
    monkeypatch.setitem(MODELS, "qwen2 window", ("qwen2", window))
    with pytest.raises(GrowthError, match="sliding windows"):
        grown_model(saved_model(tmp_path, "qwen3 window"), tmp_path / "grown", moe=4)
    source = saved_model(tmp_path, "qwen2 window")
    grown_model(source, tmp_path / "kept", moe=4)
    assert error(source, tmp_path / "kept") <= EXACT


def test_live_models_keep_their_class(sources: Path) -> None:
    model = load_wide(saved_model(sources, "llama"))
    with pytest.raises(GrowthError, match="cannot become one: save it"):
        growkernels.grow_model(model, moe=4)
    assert model.config.model_type == "llama"


def test_a_router_that_cannot_learn_is_warned_of(sources: Path) -> None:
    source = saved_model(sources, "llama")
    assert any("the router gets no gradient" in text for text in growkernels.plan(source, moe=4, top_k=1).warnings)
    assert not growkernels.plan(source, moe=4).warnings


def test_states_of_optimizers_stay_behind(tmp_path: Path) -> None:
    source = saved_model(tmp_path, "llama")
    torch.save({"state": {}, "param_groups": []}, source / "optimizer.pt")
    with pytest.raises(GrowthError, match="other tensors than the optimizer has states of"):
        growkernels.grow_checkpoint(source, tmp_path / "grown", moe=4, optimizer=True)
    assert not (tmp_path / "grown").exists()

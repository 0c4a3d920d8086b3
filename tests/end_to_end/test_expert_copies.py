"""Cloned experts compute what one of each did, and train apart."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

import growkernels
from growkernels.errors import GrowthError
from growkernels.plans.summary import summarize
from growkernels.report.picture import _matrices_of_one_layer, draw_plan
from tests.end_to_end.experts import MODELS, as_wide, error, grown_model, load_wide, saved_model
from tests.optim import support

MIXTURES = [name for name, (_, changes) in MODELS.items() if "experts" in str(changes)]
#: Float64 sums in another order, a hundred in a row.
EXACT = 1e-11
OPTIONS: dict[str, dict[str, Any]] = {
    "two": {"expert_copies": 2},
    "three": {"expert_copies": 3},
    "plain": {"expert_copies": 2, "noise_snr_db": None},
}
#: Files that hold all experts in one tensor, or all of them along one axis of it.
STACKS = ("gpt_oss", "llama4_text", "dbrx")


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", MIXTURES)
def test_function_is_preserved(name: str, options: str, sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, name)
    plan = grown_model(source, tmp_path / "grown", **OPTIONS[options])
    assert plan.preserves_function
    assert error(source, tmp_path / "grown") <= EXACT


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_copies_differ_and_sum_to_their_number_of_sources(count: int, sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "mixtral")
    grown_model(source, tmp_path / "grown", expert_copies=count)
    small, large = (load_file(path / "model.safetensors") for path in (source, tmp_path / "grown"))
    name = "model.layers.1.block_sparse_moe.experts.{}.{}.weight"
    for expert in range(4):
        copies = [large[name.format(copy * 4 + expert, "w2")] for copy in range(count)]
        wanted = small[name.format(expert, "w2")]
        # Ten decibels below the weights, and as many roundings as copies.
        assert (torch.stack(copies).sum(0) / count - wanted).abs().max() <= 1e-15 * count
        for copy in copies:
            assert 0.2 < float((copy - wanted).square().mean() / wanted.square().mean()) * 10 < 5
        assert all(not torch.equal(a, b) for n, a in enumerate(copies) for b in copies[:n])
        for part in ("w1", "w3"):
            assert all(torch.equal(large[name.format(copy * 4 + expert, part)], small[name.format(expert, part)])
                       for copy in range(count))  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_copies_in_one_tensor_differ_too(name: str, sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, name)
    grown_model(source, tmp_path / "grown", expert_copies=2)
    large = load_file(tmp_path / "grown" / "model.safetensors")
    lasts = [value for key, value in large.items() if key.endswith(("down_proj", "mlp.w2"))]
    assert len(lasts) == 2
    for last in lasts:
        first, second = last.chunk(2)
        assert 0.1 < float((first - second).norm() / first.norm()) < 2


def test_what_the_config_says(sources: Path, tmp_path: Path) -> None:
    wanted = {
        "mixtral": {"num_local_experts": 12, "num_experts_per_tok": 6, "router_aux_loss_coef": 0.001 / 3},
        "deepseek_v3": {"n_routed_experts": 12, "num_experts_per_tok": 6, "n_group": 6, "topk_group": 3},
        "deepseek_v3 unnormalized": {"routed_scaling_factor": 2.5 / 3, "n_shared_experts": 1},
        "glm4_moe one group": {"n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0},
    }
    for name, values in wanted.items():
        grown_model(saved_model(sources, name), tmp_path / name, num_experts=12)
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert {key: config[key] for key in values} == values


@pytest.mark.parametrize("noise", [None, 10.0])
def test_with_depth_and_width(noise: float | None, sources: Path, tmp_path: Path) -> None:
    """The width's own noise cancels inside each expert; deeper layers hold copies too."""
    source = saved_model(sources, "mixtral")
    grown_model(source, tmp_path / "wide", width=2, expert_copies=2, noise_snr_db=noise)
    assert error(source, tmp_path / "wide") <= EXACT
    grown_model(source, tmp_path / "deep", depth=2, expert_copies=2, noise_snr_db=noise)
    grown_model(source, tmp_path / "deep-first", depth=2)
    assert error(tmp_path / "deep-first", tmp_path / "deep") <= EXACT


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mixtral", {"expert_copies": 2}),
        ("deepseek_v3", {"expert_copies": 3}),
        ("gpt_oss", {"expert_copies": 2}),
        ("mixtral", {"expert_split": 2}),
        ("llama", {"moe": 4}),
        ("olmo2", {"moe": 4, "granularity": 2}),
        ("qwen2", {"moe": 4, "shared": True}),
    ],
)
def test_new_layers_that_change_nothing(name: str, options: dict[str, Any], sources: Path, tmp_path: Path) -> None:
    """All that writes the stream is zero in them, whatever experts it is of."""
    source = saved_model(sources, name)
    plan = grown_model(source, tmp_path / "grown", num_layers=4, depth_operator="llama_pro", **options)
    assert plan.preserves_function
    assert error(source, tmp_path / "grown") <= EXACT


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v3", "gpt_oss"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_live_models_grow_alike(name: str, sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, name)
    before = load_wide(source)
    model = growkernels.grow_model(load_wide(source), expert_copies=2)
    assert error(before, as_wide(model)) <= EXACT
    model.save_pretrained(tmp_path / "saved")
    assert error(before, tmp_path / "saved") <= EXACT
    grown_model(source, tmp_path / "grown", expert_copies=2)
    loaded, stored = growkernels.load_grown(source, expert_copies=2), load_wide(tmp_path / "grown")
    for (key, one), (other, two) in zip(loaded.named_parameters(), stored.named_parameters(), strict=True):
        assert key == other
        assert torch.equal(one.double(), two), key


def test_grow_checks_itself(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "mixtral")
    report = growkernels.grow_checkpoint(source, tmp_path / "grown", expert_copies=2, dtype="float32")
    assert report.verification is not None
    assert report.verification.passed
    assert growkernels.verify(source, tmp_path / "grown").passed
    [claim] = [claim for claim in report.plan.claims if claim.part == "experts"]
    assert claim.holds == "up to rounding"


def test_published_noise_changes_the_function(sources: Path, tmp_path: Path) -> None:
    source = saved_model(sources, "mixtral")
    plan = grown_model(source, tmp_path / "grown", expert_copies=2, expert_noise_db=40)
    assert not plan.preserves_function
    assert 1e-4 < error(source, tmp_path / "grown") < 0.2
    small, large = (load_file(path / "model.safetensors") for path in (source, tmp_path / "grown"))
    name = "model.layers.0.block_sparse_moe.experts.{}.w1.weight"
    assert torch.equal(large[name.format(2)], small[name.format(2)])
    change = large[name.format(6)] - small[name.format(2)]
    # 864 normals: their mean square is within a fifth of 1e-4 of that of the weights.
    assert abs(float(change.square().mean() / small[name.format(2)].square().mean()) - 1e-4) < 2e-5


def test_without_noise_it_warns(sources: Path, tmp_path: Path) -> None:
    plan = grown_model(saved_model(sources, "mixtral"), tmp_path / "grown", expert_copies=2, noise_snr_db=None)
    assert any("Symmetry lock" in text for text in plan.warnings)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a dense model": ("llama", {"expert_copies": 2}, "it is dense. Give moe"),
    "a part of the experts": ("mixtral", {"num_experts": 6}, "only whole copies of all"),
    "as many": ("mixtral", {"num_experts": 4}, "only whole copies of all"),
    "a number and a ratio": ("mixtral", {"num_experts": 8, "expert_copies": 2}, "both say what becomes of the experts"),
    "half a copy": ("mixtral", {"expert_copies": 1.5}, "expected a whole number"),
    "learned growth": ("mixtral", {"expert_copies": 2, "depth": 2, "depth_operator": "ligo"}, "ligo cannot grow"),
    "noise that nobody reads": ("mixtral", {"depth": 2, "expert_noise_db": 40}, "noise on cloned experts"),
    "noise and width": ("mixtral", {"expert_copies": 2, "width": 2, "expert_noise_db": 40}, "grow in two steps"),
    "uneven width": (
        "mixtral",
        {"expert_copies": 2, "width": 2, "width_operator": "net2net"},
        "with hypercloning by a ratio",
    ),
    "averages": ("mixtral", {"expert_copies": 2, "num_layers": 3, "depth_operator": "average"}, "averages of layers"),
    "what only moe reads": ("mixtral", {"expert_copies": 2, "top_k": 2}, "which only moe reads"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, sources: Path, tmp_path: Path) -> None:
    name, options, reason = REFUSED[case]
    with pytest.raises(GrowthError, match=re.escape(reason)):
        grown_model(saved_model(sources, name), tmp_path / "grown", **options)


def test_routers_that_are_not_exact_are_refused_with_the_error(sources: Path, tmp_path: Path) -> None:
    for model_type, reason in (("phimoe", "error 1.1"), ("lfm2_moe", "error 4e-7")):
        changes = {"num_local_experts": 4, "num_experts": 4, "num_dense_layers": 0, "moe_intermediate_size": 20}
        if model_type == "lfm2_moe":
            changes["layer_types"] = ["full_attention"] * 2
        MODELS[model_type] = model_type, changes
        with pytest.raises(GrowthError, match=reason):
            grown_model(saved_model(sources, model_type), tmp_path / model_type, expert_copies=2)
        del MODELS[model_type]


@pytest.mark.parametrize("noise", [None, 10.0])
def test_noise_lets_copies_train_apart(noise: float | None, sources: Path, tmp_path: Path) -> None:
    grown_model(saved_model(sources, "mixtral"), tmp_path / "grown", expert_copies=2, noise_snr_db=noise)
    model = load_wide(tmp_path / "grown").train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    ids = torch.randint(51, (4, 16), generator=torch.Generator().manual_seed(0))
    for _ in range(10):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    layer = model.model.layers[0].mlp
    for weight in (layer.experts.gate_up_proj, layer.gate.weight):
        first, second = weight.detach().chunk(2)
        gap = float((first - second).norm() / first.norm())
        # Ten steps of at most 1e-3 on weights of about 0.2; without noise, sums in another order.
        assert gap > 1e-3 if noise else gap < 1e-12


def test_a_plan_counts_the_experts_of_a_token(sources: Path) -> None:
    """Rows stand for all experts; operations are those of the experts that a token is sent to."""
    summary = summarize(growkernels.plan(saved_model(sources, "mixtral"), expert_copies=2))
    rows = {row.name: row for row in summary.rows}
    assert len(rows) == 13
    up = rows["model.layers.{}.block_sparse_moe.experts.*.w3.weight"]
    assert (up.count, up.parameters, up.flops_per_token) == (16, 16 * 36 * 24, 2 * 16 * 36 * 24 // 2)
    attention = 2 * 2 * (24 * 24 * 2 + 12 * 24 * 2)
    experts, router, head = 2 * 2 * 3 * 36 * 24 * 2, 2 * 2 * 4 * 24, 2 * 51 * 24
    assert summary.source.flops_per_token == attention + experts + router + head
    assert summary.target.flops_per_token == attention + 2 * experts + 2 * router + head


def test_noise_that_a_format_cannot_hold_is_warned_of(sources: Path) -> None:
    source = saved_model(sources, "mixtral")
    small = growkernels.plan(source, expert_copies=2, expert_noise_db=80, dtype="bfloat16").warnings
    assert any("below the rounding of bfloat16" in text for text in small)
    assert not growkernels.plan(source, expert_copies=2, expert_noise_db=40, dtype="bfloat16").warnings


@pytest.mark.parametrize("name", ["mixtral", "deepseek_v3"])
def test_training_goes_on_as_the_source(name: str, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies take 1/M of the moments and 1/M^2 of their squares, by the rule of any copies: the losses stay the same."""

    def batch(step: int) -> torch.Tensor:
        return torch.randint(0, 51, (2, 10), generator=torch.Generator().manual_seed(1000 + step))

    def make(model: PreTrainedModel) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

    monkeypatch.setattr(support, "batch", batch)
    source = saved_model(sources, name)
    model, optimizer, other, twin = support.twins(make, load_wide(source))
    _, _, control, its = support.twins(make, load_wide(source))
    support.disturb(control)
    as_wide(support.quiet_growth(other, twin, expert_copies=2))
    steps = range(support.BEFORE, support.BEFORE + 20)
    wanted = support.train(model, optimizer, steps)
    assert support.gap(support.train(control, its, steps), wanted) < 1e-12
    assert support.gap(support.train(other, twin, steps), wanted) < 1e-12


def test_a_picture_shows_one_expert_and_its_copies(sources: Path, tmp_path: Path) -> None:
    plan = growkernels.plan(saved_model(sources, "mixtral"), expert_copies=2)
    shown = [
        (matrix.rule.target.rpartition(".experts.")[2], matrix.tile.noise) for matrix in _matrices_of_one_layer(plan)
    ]
    experts = [(name, noise and noise.share) for name, noise in shown if name[0].isdigit()]
    assert experts == [("0.w1.weight", None), ("0.w2.weight", (0, 2)), ("4.w2.weight", (1, 2)), ("0.w3.weight", None)]
    draw_plan(plan, tmp_path / "plan.png")
    draw_plan(growkernels.plan(saved_model(sources, "llama"), moe=8, granularity=4), tmp_path / "granular.png")

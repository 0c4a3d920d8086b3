"""LearnedGrowth: gradients, the fit, its bits, its memory, and what comes of it."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

import growkernels
from growkernels import GrowthError, LearnedGrowth, ops
from growkernels.executors.learned import expand_rule, expand_rules, pull_back
from growkernels.verification.learned import learned_error, learned_places
from growkernels.verification.logits import load_model
from tests.families import make_model
from tests.learning.support import TIES, saved

BOTH = {"depth": 2, "width": 2}
IDS = torch.arange(4)[None]


def batches(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    """Rising runs of tokens, which can be learned."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        tokens = (torch.randint(97, (4, 1), generator=generator) + torch.arange(24)) % 97
        found.append({"input_ids": tokens, "labels": tokens})
    return found


@pytest.mark.parametrize("family", TIES)
def test_gradients_are_those_of_the_whole_graph(family: str, tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, family), **BOTH)
    batch = batches(1)[0]
    growth.fit([batch], steps=1)  # its gradients are kept until the next step; the matrices have moved since
    growth._loss_and_gradients(batch)
    weights = {
        name: expand_rule(grown.how, [growth.source.tensor(one) for one in grown.sources], growth.matrices)
        for name, grown in growth._learned.items()
    }
    # Those that a step trains through differ from these by rounding, and the loss is curved.
    leaves = {name: weight.requires_grad_() for name, weight in growth._grown().items()}
    functional_call(growth._model, leaves, kwargs=batch).loss.backward()
    terms: dict[str, list[Tensor]] = defaultdict(list)
    names = list(growth.matrices)
    for name, weight in weights.items():
        if leaves[name].grad is not None:
            found = torch.autograd.grad(weight, list(growth.matrices.values()), leaves[name].grad, allow_unused=True)
            for matrix, gradient in zip(names, found, strict=True):
                if gradient is not None:
                    terms[matrix].append(gradient.double())
    assert {name for name, matrix in growth.matrices.items() if matrix.grad is not None} == terms.keys()
    for name, parts in terms.items():
        # The same terms, added up in float32 in another order: each sum rounds once.
        bound = len(parts) * 2**-24 * sum(part.abs() for part in parts)
        assert ((growth.matrices[name].grad - sum(parts)).abs() <= bound).all(), name


@pytest.mark.parametrize(
    ("family", "options"),
    [
        *((family, BOTH) for family in TIES),
        ("llama", {"depth": 3, "width_operator": "hypercloning"}),
        ("llama", {"layers": "0-1,1,0", "width": 2, "depth_operator": "gstack"}),
        ("qwen3", {"width": 2}),
    ],
    ids=str,
)
def test_a_step_trains_through_the_formula(family: str, options: dict, tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, family), **options)
    growth.fit(batches(1), steps=1)
    grown = growth._grown()
    assert grown.keys() == growth._learned.keys()
    matrices = growth.materialise().matrices
    for name, made in growth._learned.items():
        sources = growth._sources(made)
        chosen = learned_places(made.how, random.Random(0))
        fraction, _, place, _ = learned_error(made.how, sources, grown[name], matrices, *chosen)
        assert fraction <= 1, (name, place)


def test_a_step_grows_layers_together_and_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    expand_many, calls = ops.expand_many, []

    def watched(expansions: list[ops.Expansion], dtype: torch.dtype) -> list[Tensor]:
        calls.extend(expansion.target_layers for expansion in expansions)
        return expand_many(expansions, dtype)

    monkeypatch.setattr(ops, "expand_many", watched)
    growth.fit(batches(1), steps=1)
    # Nine kinds of tensor in four layers; embedding, last norm and head. Gradients take the values of what whole heads
    # multiply, which q, k, v and o have, and of nothing else.
    assert sorted(calls) == [1] * (3 + 4 * 4) + [4] * 9


def test_a_step_holds_one_gradient_of_a_grown_weight_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    run, pull_back = growth._run, growth._pull_back
    leaves: dict[str, Tensor] = {}
    most = []

    def watch_run(weights: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
        leaves.update(weights)
        return run(weights, batch)

    def watch_pull_back(rule: object, weight: Tensor) -> None:
        most.append(sum(leaf.grad is not None for leaf in leaves.values()))
        pull_back(rule, weight)

    monkeypatch.setattr(growth, "_run", watch_run)
    monkeypatch.setattr(growth, "_pull_back", watch_pull_back)
    growth.fit(batches(1), steps=1)
    assert len(most) == len(leaves) > 30
    assert set(most) == {1}
    assert all(leaf.grad is None for leaf in leaves.values())


def test_executors_give_the_same_bits_under_autocast(tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    batch, plan = batches(1)[0], growth.materialise()
    grown = growkernels.load_grown(tmp_path / "llama-plain-False", plan=plan)
    with torch.autocast("cpu", torch.bfloat16):
        same(growkernels.load_grown(tmp_path / "llama-plain-False", plan=plan), grown)
        with torch.no_grad():
            assert growth.loss(batch) == float(grown(**batch, use_cache=False).loss)


def test_a_fit_follows_autocast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth, plain = (LearnedGrowth(saved(tmp_path, "llama"), **BOTH) for _ in range(2))
    growth._load_weights()
    rule = growth._learned["model.layers.3.mlp.up_proj.weight"]
    gradient = torch.randn(rule.how.shape, generator=torch.Generator().manual_seed(2))
    # What is rounded first gives the same, but that the gradients of what is cast are rounded too.
    rounded = {
        name: matrix.detach().bfloat16().float() if name in ("hidden", "ffn") else matrix.detach()
        for name, matrix in growth.matrices.items()
    }
    rounded = {name: matrix.requires_grad_() for name, matrix in rounded.items()}
    sources = [weight.bfloat16().float() for weight in growth._sources(rule)]
    pull_back(rule.how, sources, rounded, gradient.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        pull_back(rule.how, growth._sources(rule), growth.matrices, gradient)
    assert torch.equal(growth.matrices[rule.how.mix].grad, rounded[rule.how.mix].grad)
    for name in ("hidden", "ffn"):
        assert torch.equal(growth.matrices[name].grad, rounded[name].grad.bfloat16().float())
    run, cached = growth._run, []

    def watched(*arguments: object) -> Tensor:
        growth._model.register_forward_pre_hook(lambda *_: cached.append(torch.is_autocast_cache_enabled()))
        return run(*arguments)

    monkeypatch.setattr(growth, "_run", watched)
    with torch.autocast("cpu", torch.bfloat16):
        losses = growth.fit(batches(1), steps=1)
    assert losses != plain.fit(batches(1), steps=1)
    # A cache would keep copies of the weights of every step.
    assert cached == [False]


def test_autocast_casts_nothing_where_layers_are_only_mixed(tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), depth=2)
    growth._load_weights()
    rule = growth._learned["model.layers.3.mlp.up_proj.weight"]
    gradient = torch.randn(rule.how.shape, generator=torch.Generator().manual_seed(2))
    found = []
    for enabled in (False, True):
        matrices = {name: matrix.detach().requires_grad_() for name, matrix in growth.matrices.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            grown = expand_rules([rule.how], growth._sources(rule), matrices)
            pull_back(rule.how, growth._sources(rule), matrices, gradient)
        found.append((grown.detach(), matrices[rule.how.mix].grad))
    for plain, cast in zip(*found, strict=True):
        assert torch.equal(plain, cast)


@pytest.mark.parametrize("options", [BOTH, {"depth": 2}, {"width": 2, "width_init": "normal"}], ids="-".join)
def test_a_fit_lowers_the_loss(options: dict, tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **options)
    held_out = batches(1, seed=9)[0]
    before = growth.loss(held_out)
    assert len(growth.fit(batches(12), steps=12, lr=5e-3)) == 12
    assert growth.loss(held_out) < before


def test_only_the_operator_learns(tmp_path: Path) -> None:
    _, model = make_model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    growth = LearnedGrowth(model, **BOTH)
    start = {name: matrix.detach().clone() for name, matrix in growth.matrices.items()}
    growth.fit(batches(2), steps=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not torch.equal(matrix, start[name]) for name, matrix in growth.matrices.items())


def test_the_same_seed_gives_the_same_bits(tmp_path: Path) -> None:
    source = saved(tmp_path, "qwen3")
    first, second, other = (LearnedGrowth(source, seed=seed, **BOTH) for seed in (3, 3, 4))
    losses = [growth.fit(batches(3), steps=3) for growth in (first, second, other)]
    assert losses[0] == losses[1] != losses[2]
    assert first.materialise().matrices == second.materialise().matrices != other.materialise().matrices


def test_a_fit_gone_on_with_gives_the_bits_of_one_without_a_pause(tmp_path: Path) -> None:
    source, data = saved(tmp_path, "gpt2"), batches(6)
    whole = LearnedGrowth(source, **BOTH)
    losses = whole.fit(data, steps=6, warmup=2)
    part = LearnedGrowth(source, **BOTH)
    part.fit(data[:3], steps=6, warmup=2)
    part.save(tmp_path / "half")
    resumed = LearnedGrowth.load(tmp_path / "half", source)
    assert resumed.step == 3
    left = iter([*data[3:], data[0]])
    resumed.fit(left, steps=6, warmup=2)
    assert len(list(left)) == 1
    assert resumed.losses == losses == whole.losses
    assert resumed.materialise().matrices == whole.materialise().matrices
    assert resumed.fit(data, steps=6, warmup=2) == []


def test_every_executor_runs_what_was_learned(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama", "tied")
    growth = LearnedGrowth(source, **BOTH)
    growth.fit(batches(2), steps=2)
    plan, batch = growth.materialise(), batches(1, seed=5)[0]
    report = growkernels.grow_checkpoint(source, tmp_path / "target", plan=plan)
    assert report.verification.passed
    assert report.plan.matrices == plan.matrices
    assert growkernels.verify(source, tmp_path / "target").passed
    stored, unmatched = load_model(tmp_path / "target", torch.float32)
    assert not unmatched
    with torch.no_grad():
        assert float(stored(**batch, use_cache=False).loss) == growth.loss(batch)
    live, _ = load_model(source, torch.float32)
    same(growkernels.grow_model(live, plan=plan), stored)
    same(growkernels.load_grown(source, plan=plan), stored)


def same(first: PreTrainedModel, second: PreTrainedModel) -> None:
    """Equal parameters."""
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_sources_of_other_dtypes_are_fitted_and_verified(dtype: torch.dtype, tmp_path: Path) -> None:
    _, model = make_model("qwen3")
    model.to(dtype).save_pretrained(tmp_path / "source")
    growth = LearnedGrowth(tmp_path / "source", **BOTH)
    growth.fit(batches(1), steps=1)
    assert growth._weights["model.norm.weight"].dtype == dtype
    report = growkernels.grow_checkpoint(
        tmp_path / "source", tmp_path / "target", plan=growth.materialise(), verify_logits=False
    )
    assert report.verification.passed


def test_a_changed_element_or_matrix_is_found(tmp_path: Path) -> None:
    source, target = saved(tmp_path, "llama"), tmp_path / "target"
    growkernels.grow_checkpoint(
        source, target, depth_operator="ligo", width_operator="ligo", verify_logits=False, **BOTH
    )
    assert growkernels.verify(source, target, logits=False).passed
    tensors = load_file(target / "model.safetensors")
    name = "model.layers.3.mlp.up_proj.weight"
    tensors[name][-1, -1] += 1e-4  # both ends are always looked at
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    found = growkernels.verify(source, target, logits=False)
    assert not found.passed
    assert any(f"{name}[79, 63]" in line for line in found.lines())
    matrices = load_file(target / "growkernels.safetensors")
    matrices["hidden"][0, 0] += 1e-6
    save_file(matrices, target / "growkernels.safetensors")
    with pytest.raises(GrowthError, match="was altered: its matrices"):
        growkernels.verify(source, target, logits=False)
    (target / "growkernels.safetensors").unlink()
    with pytest.raises(GrowthError, match=r"has no growkernels\.safetensors"):
        growkernels.verify(source, target, logits=False)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batches": []}, "no batches"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": 0.0}, r"lr is 0\.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"steps": 2, "warmup": 3}, "warmup is 3 and steps 2"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr": "1e-3"}, "lr is '1e-3'"),
        ({"lr": True}, "lr is True"),
        ({"steps": True}, "steps is True"),
        ({"steps": "10"}, "steps is '10'"),
        ({"warmup": True}, "warmup is True"),
        ({"on_step": 5}, "on_step is 5; expected a function"),
        ({"batches": 5}, "batches is 5; expected one batch after the other"),
        ({"batches": None}, "batches is None"),
        (
            {"batches": {"input_ids": IDS, "labels": IDS}},
            r"a single batch; expected one after the other: give \[batch\]",
        ),
        ({"batches": [None]}, "a batch is NoneType"),
        ({"batches": [{"input_ids": IDS.to("meta"), "labels": IDS}]}, "tensors with values"),
        ({"batches": [{"input_ids": IDS, "labels": IDS, "past_key_values": IDS}]}, "past_key_values"),
        ({"steps": 1.5}, r"steps is 1\.5"),
        ({"batches": [IDS]}, "a batch is Tensor"),
        ({"batches": [{"input_ids": [[1, 2]]}]}, "a dictionary of tensors"),
        ({"batches": [{"input_ids": IDS}]}, "need labels"),
        ({"batches": [{"input_ids": IDS[:0], "labels": IDS[:0]}]}, r"input_ids \[0, 4\] torch.int64"),
        ({"batches": [{"input_ids": IDS.float(), "labels": IDS}]}, r"input_ids \[1, 4\] torch.float32"),
        ({"batches": [{"input_ids": IDS + 96, "labels": IDS}]}, "below its vocab_size"),
        ({"batches": [{"input_ids": IDS, "labels": IDS[:, 1:]}]}, r"labels \[1, 3\]"),
        ({"batches": [{"input_ids": IDS, "labels": IDS * 0 - 100}]}, "labels to learn from"),
    ],
)
def test_a_fit_that_cannot_be_meant_is_refused(settings: dict, words: str, tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    with pytest.raises(GrowthError, match=words):
        growth.fit(**{"batches": batches(1), **settings})
    assert growth.step == 0


def test_a_loss_that_is_not_finite_stops_the_fit(tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    with pytest.raises(GrowthError, match="at step 2; use a smaller learning rate"):
        growth.fit(batches(2), steps=2, lr=1e30)
    assert growth.step == 1


def test_no_more_batches_are_no_fit(tmp_path: Path) -> None:
    growth = LearnedGrowth(saved(tmp_path, "llama"), **BOTH)
    left = iter(batches(1))
    assert len(growth.fit(left, steps=3)) == 1
    with pytest.raises(GrowthError, match="no batches to fit on, with 1 of 3 steps taken"):
        growth.fit(left, steps=3)
    assert growth.step == 1


def test_a_class_without_a_loss_is_refused() -> None:
    _, model = make_model("llama", architecture="LlamaModel")
    with pytest.raises(GrowthError, match="LlamaModel gives no loss for input_ids, labels; batches need labels"):
        LearnedGrowth(model, **BOTH).fit(batches(1), steps=1)


def test_what_is_no_model_of_transformers_is_refused() -> None:
    with pytest.raises(GrowthError, match="Linear is no model of transformers"):
        LearnedGrowth(torch.nn.Linear(2, 2), **BOTH)


def test_nothing_learned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match="nothing is learned"):
        LearnedGrowth(saved(tmp_path, "llama"), depth=2, depth_operator="gstack", width_operator="hypercloning")


def test_fitting_does_not_heed_no_grad(tmp_path: Path) -> None:
    growth, other = (LearnedGrowth(saved(tmp_path, "llama"), **BOTH) for _ in range(2))
    with torch.no_grad():
        losses = growth.fit(batches(2), steps=2)
    assert losses == other.fit(batches(2), steps=2)

"""A model grown in memory is, to the bit and the attribute, what stock transformers loads from the grown checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

import growkernels
from growkernels.executors.sinks.module import ModuleSink
from growkernels.verification.logits import compare, load_model, outputs
from tests.end_to_end.support import grown, saved, tokens
from tests.families import FAMILIES, make_model, variants
from tests.live.support import assert_same_bits, assert_same_model

#: What plans warn of is tested with the plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

GROWTHS: dict[str, dict[str, Any]] = {
    "wide": {"width": 2},
    "deep": {"depth": 2},
    "both, noise-free": {"width": 2, "depth": 2, "noise_snr_db": None},
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def check(sources: Path, tmp_path: Path, family: str, variant: str, options: dict[str, Any]) -> PreTrainedModel:
    """Grow a model in place, and straight from its checkpoint; compare both with the grown checkpoint, and return it."""
    source = saved(sources, family, variant)
    model = load_model(source, torch.float32)[0]
    wanted = load_model(grown(source, tmp_path / "grown", **options), torch.float32)[0]
    ids = tokens(model)
    before = outputs(model, ids)
    assert growkernels.grow_model(model, **options) is model
    assert_same_model(model, wanted)
    assert_same_model(growkernels.load_grown(source, **options), wanted)
    after = outputs(model, ids)
    for name, value in outputs(wanted, ids).items():
        assert torch.equal(after[name], value), name
        if "depth" not in options and "layers" not in options:
            assert compare(name, torch.float32, before[name], value, None).error <= 1e-4
    return model


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_checkpoints_model(family: str, growth: str, sources: Path, tmp_path: Path) -> None:
    check(sources, tmp_path, family, "plain", GROWTHS[growth])


@pytest.mark.parametrize(("family", "variant"), [pair for pair in variants() if pair[1] != "plain"])
def test_so_is_every_variant(family: str, variant: str, sources: Path, tmp_path: Path) -> None:
    options = {"width": 2 if variant == "mqa" else 3, "ffn": 2, "layers": "0,0-1,1", "variant": "diagonal"}
    check(sources, tmp_path, family, variant, options)


@pytest.mark.parametrize(("family", "variant"), [("llama", "tied"), ("gemma", "plain"), ("gpt2", "plain")])
def test_untied_on_request(family: str, variant: str, sources: Path, tmp_path: Path) -> None:
    model = check(sources, tmp_path, family, variant, {"width": 2, "untie": True})
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight


@pytest.mark.parametrize(("family", "dtype"), [("gemma", "bfloat16"), ("gpt2", "float16")])
def test_half_precision_and_a_change_of_it(family: str, dtype: str, sources: Path, tmp_path: Path) -> None:
    for number, (stored, options) in enumerate([(dtype, {}), ("float32", {"dtype": dtype})]):
        source = saved(sources, family, dtype=getattr(torch, stored))
        target = grown(source, tmp_path / str(number), width=2, depth=2, **options)
        model = load_model(source, getattr(torch, stored))[0]
        growkernels.grow_model(model, width=2, depth=2, **options)
        assert_same_model(model, load_model(target, getattr(torch, dtype))[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_generates_and_is_saved_and_loaded_by_stock_transformers(family: str, tmp_path: Path) -> None:
    _, model = make_model(family)
    growkernels.grow_model(model, width=2, depth=2)
    if model.can_generate():
        ids = model.generate(tokens(model, 1, 5), max_new_tokens=4, do_sample=False)
        assert ids.shape == (1, 9)
    model.save_pretrained(tmp_path)
    assert_same_model(model, load_model(tmp_path, torch.float32)[0])


def test_each_parameter_keeps_its_dtype() -> None:
    _, model = make_model("llama")
    model.bfloat16()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = parameter.data.float()
    growkernels.grow_model(model, width=2, depth=2)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == (torch.float32 if "norm" in name else torch.bfloat16), name


def test_buckets_do_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [make_model("qwen3")[1] for _ in range(3)]
    for model, size in zip(models, (ModuleSink.bucket, 10_000, 1), strict=True):
        monkeypatch.setattr(ModuleSink, "bucket", size)
        growkernels.grow_model(model, width=2, depth=2)
    for model in models[1:]:
        assert_same_model(model, models[0])


def test_grown_twice(tmp_path: Path) -> None:
    """The grown model is one like any other: it can be grown again."""
    _, model = make_model("llama", tie_word_embeddings=True)
    ids = tokens(model)
    before = outputs(model, ids)["logits"]
    growkernels.grow_model(growkernels.grow_model(model, width=2), width=2, seed=1)
    assert (outputs(model, ids)["logits"] - before).abs().max() <= 1e-4 * before.abs().max()
    assert model.config.hidden_size == 128


def test_a_plan_in_place_of_options(tmp_path: Path) -> None:
    make_model("llama")[1].save_pretrained(tmp_path)
    plan = growkernels.plan(tmp_path, width=2, depth=2)
    (_, model), (_, other) = make_model("llama"), make_model("llama")
    assert_same_model(growkernels.grow_model(model, plan=plan), growkernels.grow_model(other, width=2, depth=2))
    with pytest.raises(growkernels.GrowthError, match="plan and width both say what to grow"):
        growkernels.grow_model(model, plan=plan, width=2)


def test_learned_matrices_fill_the_model_as_they_fill_a_checkpoint(tmp_path: Path) -> None:
    options = {"width_operator": "ligo", "depth_operator": "ligo", "width": 2, "depth": 2}
    _, model = make_model("llama")
    model.save_pretrained(tmp_path / "source")
    growkernels.grow_checkpoint(tmp_path / "source", tmp_path / "grown", no_verify=True, **options)
    wanted = load_model(tmp_path / "grown", torch.float32)[0]
    assert_same_model(growkernels.load_grown(tmp_path / "source", **options), wanted)
    assert_same_model(growkernels.grow_model(model, **options), wanted)


def test_nothing_global_changes() -> None:
    _, model = make_model("gpt2")
    state = torch.get_rng_state()
    growkernels.grow_model(model, width=2, depth=2)
    assert_same_bits(torch.get_rng_state(), state, "generator")
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_can_be_trained_wherever_it_was_grown(mode: Any) -> None:
    _, model = make_model("llama")
    with mode():
        growkernels.grow_model(model, width=2, depth=2)
    ids = tokens(model)
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_progress_counts_every_byte() -> None:
    _, model = make_model("llama")
    calls: list[tuple[str, int, int]] = []
    growkernels.grow_model(model, width=2, on_progress=lambda *now: calls.append(now))
    total = sum(parameter.nbytes for parameter in model.parameters())
    assert calls == [("growing", total, total)]

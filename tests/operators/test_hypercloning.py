"""HyperCloning by algebra: every rule of every family, with noise as large as the weights, keeps what it stands for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from growkernels.errors import GrowthError
from growkernels.layouts import Axis, ModelLayout, Part
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Plan, Rule
from tests.families import variants
from tests.operators.support import Arrays, Source, execute, make_source

WIDTHS = [{"width": 2}, {"ffn": 2}, {"width": 3, "ffn": 2}, {"width": 2, "ffn": 3}]
#: Sums of a few hundred float64 products of numbers near 1 against sums of the same numbers in another order.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
@pytest.mark.parametrize(("family", "name"), variants())
def test_every_tensor_keeps_its_function(family, name, variant, width):
    source = make_source(family, name)
    for untie in {False, source.layout.tied_head}:
        plan = source.plan(variant=variant, untie=untie, **width)
        grown = execute(plan, source.weights)
        special = {rule.target for rule in plan.rules if rule.kind == "head"} | set(source.layout.head_norm)
        if source.layout.embedding_scaled:
            special |= {rule.target for rule in plan.rules if rule.kind == "embedding"}
        for rule in plan.rules:
            if rule.target not in special:
                check_rule(rule, source.weights[rule.source], grown[rule.target])
        if source.layout.head_name is not None:
            check_head(source, plan, grown)


def check_rule(rule: Rule, source: np.ndarray, grown: np.ndarray) -> None:
    """A product of copies gives copies of the product; everything else is copied."""
    assert grown.shape == rule.spec.shape
    tile = rule.how
    if tile.sum_axis is None:
        np.testing.assert_array_equal(grown, source[np.ix_(*[axis.indices() for axis in tile.axes])])
        return
    output, inputs = tile.axes[1 - tile.sum_axis], tile.axes[tile.sum_axis]
    old, new = np.moveaxis(source, tile.sum_axis, 1), np.moveaxis(grown, tile.sum_axis, 1)
    x = np.random.default_rng(1).standard_normal(inputs.source_size)
    np.testing.assert_allclose(new @ x[inputs.indices()], (old @ x)[output.indices()], **CLOSE)


def check_head(source: Source, plan: Plan, grown: Arrays) -> None:
    """The embedding gives copies of the source's stream, and the head the source's logits for every token."""
    layout = source.layout
    copies = plan.config.get("hidden_size", plan.config.get("n_embd")) // layout.sizes["hidden"]
    old, new = stream(layout, source.weights, 1), stream(layout, grown, copies)
    np.testing.assert_allclose(new, np.tile(old, (1, copies)), **CLOSE)
    old_head = layout.ties.get(layout.head_name, layout.head_name)
    expected = logits(layout, old, source.weights, old_head)
    np.testing.assert_allclose(logits(layout, new, grown, plan.tied_head or layout.head_name), expected, **CLOSE)


def stream(layout: ModelLayout, weights: Arrays, copies: int) -> np.ndarray:
    """What the layers read for every token, positions left out."""
    names = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
    embedding = next(value for name, value in weights.items() if name.endswith(names))
    return embedding * np.sqrt(layout.sizes["hidden"] * copies) if layout.embedding_scaled else embedding


def logits(layout: ModelLayout, x: np.ndarray, weights: Arrays, head: str) -> np.ndarray:
    """Norm (without its mean, which the copies share) and head."""
    x = x / np.sqrt((x**2).mean(axis=1, keepdims=True))
    for name in layout.head_norm:
        if name.endswith("weight"):
            x = x * (weights[name] + layout.norm_offset)
    for name in layout.head_norm:
        if name.endswith("bias"):
            x = x + weights[name]
    return x @ weights[head].T


def rules(plan: Plan) -> dict[str, Rule]:
    return {rule.target: rule for rule in plan.rules}


def test_multi_query_attention_keeps_its_one_key_value_head():
    plan = make_source("llama", "mqa").plan(width=3, variant="diagonal")
    layer = rules(plan)
    assert layer["model.layers.0.self_attn.k_proj.weight"].spec.shape == (8, 96)
    assert layer["model.layers.0.self_attn.q_proj.weight"].spec.shape == (96, 96)
    assert plan.config["num_key_value_heads"] == 1 and plan.config["num_attention_heads"] == 12


def test_one_head_is_no_multi_query_attention():
    plan = make_source("llama", num_attention_heads=1, num_key_value_heads=1).plan(width=2)
    assert plan.config["num_key_value_heads"] == 2


def test_noise_goes_on_projections_inside_layers_that_sum_over_copies():
    def noisy(family, name="plain", **options):
        return {
            rule.group.partition("{}.")[2] for rule in make_source(family, name).plan(**options).rules if rule.how.noise
        }

    attention = {f"self_attn.{name}_proj.weight" for name in "qkvo"}
    ffn = {f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}
    assert noisy("llama", width=2) == attention | ffn
    assert noisy("llama", ffn=2) == {"mlp.down_proj.weight"}
    assert noisy("llama", width=2, ffn=1) == (attention | ffn) - {"mlp.down_proj.weight"}
    assert noisy("llama", width=2, noise_snr_db=None) == set()
    assert noisy("llama", depth=2) == set()
    assert "" not in noisy("bert", "pretraining", width=2)


@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
def test_a_head_is_divided_in_either_variant(variant):
    tile = rules(make_source("llama").plan(width=3, variant=variant))["lm_head.weight"].how
    assert (tile.divisor, tile.diagonal, tile.noise) == (3.0, False, None)


def test_gemma_ties_by_the_square_root():
    plan = make_source("gemma").plan(width=4)
    embedding, norm = rules(plan)["model.embed_tokens.weight"], rules(plan)["model.norm.weight"]
    assert (embedding.divisor, norm.divisor, norm.how.shift) == (2.0, 2.0, -0.5)
    assert rules(plan)["model.layers.0.input_layernorm.weight"].how.shift == 0


def test_gemma_untied_leaves_the_norm_alone():
    plan = make_source("gemma").plan(width=4, untie=True)
    by_name = rules(plan)
    assert (by_name["model.norm.weight"].divisor, by_name["model.norm.weight"].how.shift) == (1.0, 0.0)
    assert by_name["lm_head.weight"].divisor == 4.0 and by_name["model.embed_tokens.weight"].divisor == 2.0
    assert by_name["lm_head.weight"].source == "model.embed_tokens.weight"
    assert plan.config["tie_word_embeddings"] is False and plan.tied_head is None


def test_bert_untied_gets_its_bias_too():
    by_name = rules(make_source("bert").plan(width=2, untie=True))
    assert by_name["cls.predictions.decoder.bias"].source == "cls.predictions.bias"
    assert by_name["cls.predictions.decoder.weight"].kind == "head"


def test_a_tied_head_without_a_norm_to_divide_is_refused_and_may_be_untied():
    layout = make_source("llama", "tied").layout
    bare = replace(
        layout,
        head_norm=(),
        tensors={name: tensor for name, tensor in layout.tensors.items() if name != "model.norm.weight"},
    )
    with pytest.raises(GrowthError, match=r"tied to the embedding.*--untie"):
        make_plan(bare, GrowthOptions(width=2))
    assert make_plan(bare, GrowthOptions(ffn=2)).tied_head == "model.embed_tokens.weight"
    assert rules(make_plan(bare, GrowthOptions(width=2, untie=True)))["lm_head.weight"].divisor == 2


def test_inputs_that_would_be_copied_unevenly_are_refused():
    layout = make_source("llama").layout
    name = "model.layers.0.mlp.down_proj.weight"
    mixed = Axis((Part("heads", 32), Part("ffn", 8)))
    tensor = replace(layout.tensors[name], axes=(layout.tensors[name].axes[0], mixed))
    layout = replace(layout, tensors={**layout.tensors, name: tensor})
    with pytest.raises(GrowthError, match=r"heads \| ffn.*2 times and others 3 times"):
        make_plan(layout, GrowthOptions(width=2, ffn=3))
    assert make_plan(layout, GrowthOptions(width=2))

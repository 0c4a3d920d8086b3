"""Plans of depth and width together: which tensor comes from where, in which order, with which key, and what is claimed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growkernels.errors import GrowthError
from growkernels.layouts import discover
from growkernels.operators import DEPTH_OPERATORS, GrowthOptions, make_plan
from growkernels.plans import Noise, Plan, noise_key
from tests.families import variants
from tests.layouts.support import class_shapes
from tests.operators.support import make_source


@pytest.mark.parametrize(("family", "name"), variants())
def test_the_target_is_what_its_class_wants(family, name):
    source = make_source(family, name)
    for options in ({"depth": 2}, {"width": 2, "layers": "1,0-1"}, {"width": 3, "ffn": 2, "depth": 2, "untie": True}):
        plan = source.plan(**options)
        # The class calls a GPT-NeoX head otherwise than files do, which is where the name of a new head comes from.
        shapes = {rule.target.replace("embed_out", "lm_head"): rule.spec.shape for rule in plan.rules}
        assert shapes == class_shapes(plan.config)


@settings(max_examples=30)
@given(st.sampled_from(["llama", "gpt2"]), st.lists(st.integers(0, 1), min_size=1, max_size=5), st.booleans())
def test_layer_i_draws_on_layer_index_i(family, index, wide):
    width = {"width": 2} if wide else {}
    if not wide and index == [0, 1]:
        return
    plan = make_source(family).plan(layers=",".join(map(str, index)), **width)
    assert plan.layer_index == tuple(index)
    inside = [rule for rule in plan.rules if rule.layer is not None]
    assert [rule.layer for rule in inside] == sorted(rule.layer for rule in inside)
    for rule in inside:
        assert rule.target == rule.group.format(rule.layer)
        assert rule.source == rule.group.format(index[rule.layer])
        assert wide or rule.is_copy
    assert {r.target for r in plan.rules if r.layer is None} == {r.source for r in plan.rules if r.layer is None}


def test_the_order_is_that_of_the_file_with_the_layers_in_theirs():
    targets = [rule.target for rule in make_source("llama").plan(depth=6, width=2).rules]
    layers = [int(name.split(".")[2]) for name in targets if ".layers." in name]
    assert targets[:2] == ["lm_head.weight", "model.embed_tokens.weight"] and targets[-1] == "model.norm.weight"
    assert layers == sorted(layers) and max(layers) == 11


def test_every_noisy_tensor_has_the_key_of_its_own_name():
    plan = make_source("llama").plan(depth=2, width=2, seed=5)
    keys = {rule.target: rule.how.key for rule in plan.rules if rule.how.noise}
    assert keys == {name: noise_key(5, name) for name in keys}
    assert len(set(keys.values())) == len(keys) == 4 * 7
    assert all(rule.how.noise in (None, Noise(10.0)) for rule in plan.rules)


def test_stacking_orders():
    def order(name, **options):
        return [layer.source for layer in DEPTH_OPERATORS[name].layers(3, GrowthOptions(**options))]

    assert order("gstack", depth=2) == order("gstack", num_layers=6) == [0, 1, 2, 0, 1, 2]
    assert order("interpolate", depth=2) == order("interpolate", num_layers=6) == [0, 0, 1, 1, 2, 2]
    # Of a number between, the last copy is whole, and repeats are spread.
    assert order("gstack", num_layers=8) == [0, 1, 2, 0, 1, 0, 1, 2]
    assert order("interpolate", num_layers=5) == [0, 0, 1, 1, 2]
    assert make_source("llama").plan(depth=2, depth_operator="interpolate").layer_index == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 2, "depth_operator": "sun"}, "depth_operator is 'sun'; expected one of gstack, interpolate"),
        ({"width": 2, "width_operator": "wider"}, "width_operator is 'wider'; expected one of hypercloning"),
        ({"num_layers": 2}, "nothing to grow: num_layers 2 is the model as it is"),
        ({"num_layers": 1}, "num_layers 1 is less than the source's 2 layers"),
        ({"layers": "0-1"}, "nothing to grow: layers '0-1' is the model as it is"),
        ({"layers": "0-2"}, "layer 2 is not in the source, which has layers 0 to 1"),
        ({"depth": 2, "depth_init": "interpolate"}, "or choose depth_operator ligo."),
        ({"width": 2, "width_operator": "ligo", "variant": "diagonal"}, "or choose width_operator hypercloning."),
        ({"width": 2, "width_init": "normal"}, "or choose width_operator ligo."),
        ({"width": 2, "init_noise": 0}, "or choose depth_operator ligo or width_operator ligo."),
        ({"depth": 9000}, "depth 9000 asks for 18000 layers"),
        ({"depth": 10**9}, "more than 10,000 are taken for a mistake"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(GrowthError) as error:
        make_source("llama").plan(**options)
    assert message in str(error.value)


def test_dtypes():
    kept = make_source("llama", dtype="bfloat16").plan(width=2)
    cast = make_source("llama", dtype="float32").plan(width=2, dtype="bfloat16")
    assert {rule.spec.dtype for rule in kept.rules} == {rule.spec.dtype for rule in cast.rules} == {"bfloat16"}
    assert cast.config["dtype"] == "bfloat16"


def held(plan: Plan) -> dict[str, str]:
    return {claim.part: claim.holds for claim in plan.claims}


def reason(plan: Plan, part: str) -> str:
    return next(claim.reason for claim in plan.claims if claim.part == part)


@pytest.mark.parametrize(
    ("dtype", "options", "claims"),
    [
        ("float32", {"width": 2, "noise_snr_db": None}, {"width": "exactly"}),
        ("bfloat16", {"width": 4, "noise_snr_db": None}, {"width": "exactly"}),
        ("bfloat16", {"width": 2, "noise_snr_db": None, "dtype": "float32"}, {"width": "exactly"}),
        (
            "float32",
            {"width": 3, "noise_snr_db": None, "variant": "diagonal", "untie": True},
            {"width": "up to rounding"},
        ),
        ("float32", {"width": 3, "noise_snr_db": None}, {"width": "up to rounding"}),
        ("float16", {"width": 2, "noise_snr_db": None}, {"width": "up to rounding"}),
        ("float32", {"width": 2}, {"width": "up to rounding"}),
        (
            "float32",
            {"width": 2, "noise_snr_db": None, "dtype": "bfloat16"},
            {"width": "exactly", "dtype": "up to rounding"},
        ),
        ("bfloat16", {"depth": 2, "dtype": "float16"}, {"depth": "no", "dtype": "up to rounding"}),
        ("float16", {"depth": 2, "dtype": "bfloat16"}, {"depth": "no", "dtype": "up to rounding"}),
        ("float32", {"depth": 2}, {"depth": "no"}),
        ("float32", {"layers": "1,0"}, {"depth": "no"}),
        ("float32", {"depth": 2, "width": 2}, {"depth": "no", "width": "up to rounding"}),
    ],
)
def test_claims(dtype, options, claims):
    plan = make_source("llama", dtype=dtype).plan(**options)
    assert held(plan) == claims
    assert plan.preserves_function == ("depth" not in claims)


def test_reasons_name_what_is_rounded():
    assert "2^-8 relative (division by 3, noise" in reason(
        make_source("llama", dtype="bfloat16").plan(width=3), "width"
    )
    assert "division by 1.41421" in reason(make_source("gemma").plan(width=2, noise_snr_db=None), "width")
    narrowed = make_source("llama", dtype="float32").plan(width=2, dtype="bfloat16")
    assert reason(narrowed, "dtype") == "weights are rounded from float32 to bfloat16"


def warned(plan: Plan, text: str) -> bool:
    return any(text in warning for warning in plan.warnings)


def test_warnings():
    llama, tied, gpt2 = make_source("llama"), make_source("llama", "tied"), make_source("gpt2")
    assert llama.plan(width=2).warnings == llama.plan(depth=2).warnings == ()
    assert warned(llama.plan(width=2, noise_snr_db=None), "Symmetry lock")
    assert warned(llama.plan(ffn=2, noise_snr_db=None), "Symmetry lock")
    assert not llama.plan(depth=2, noise_snr_db=None).warnings
    assert warned(
        tied.plan(width=2), "stays tied to the embedding; the norm before it is divided by 2 in its place (model.norm"
    )
    assert not tied.plan(ffn=2).warnings and not tied.plan(width=2, untie=True).warnings
    assert warned(llama.plan(width=2, untie=True), "nothing to untie")
    assert warned(llama.plan(layers="1"), "Source layers 0 are not used")
    assert warned(llama.plan(layers="1"), "fewer layers (1) than the source (2)")
    assert warned(llama.plan(depth=2, dtype="float16"), "65504")
    assert warned(make_source("bert").plan(width=2), "cls.predictions.transform.dense.weight puts out start equal")
    assert not warned(gpt2.plan(depth=2), "layer's number")
    indexed = make_source("gpt2", scale_attn_by_inverse_layer_idx=True)
    assert warned(indexed.plan(depth=2), "layer's number") and not warned(indexed.plan(width=2), "layer's number")


@pytest.mark.parametrize(("family", "name"), variants())
def test_plans_survive_json(family, name):
    plan = make_source(family, name).plan(width=2, depth=2)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert again == plan and again.digest() == plan.digest()


def test_the_digest_follows_what_the_plan_says():
    source = make_source("llama")
    plans = [
        source.plan(width=2, **more)
        for more in ({}, {"seed": 1}, {"noise_snr_db": 9}, {"variant": "diagonal"}, {"depth": 2})
    ]
    assert len({plan.digest() for plan in plans}) == len(plans)
    assert source.plan(width=2).digest() == plans[0].digest()
    measured = plans[0].with_rules(tuple(r.with_std(0.25) if r.how.noise else r for r in plans[0].rules))
    assert measured.digest() != plans[0].digest()
    assert Plan.from_json(measured.to_json()) == measured


def test_a_tied_head_that_the_file_holds_twice_is_dropped_or_carried():
    source = make_source("llama", "tied")
    tensors = {name: tensor.spec for name, tensor in source.layout.tensors.items()}
    layout = discover(source.layout.config, {"lm_head.weight": tensors["model.embed_tokens.weight"], **tensors})
    tied, untied = (make_plan(layout, GrowthOptions(width=2, untie=untie)) for untie in (False, True))
    assert tied.tied_head == "model.embed_tokens.weight" and set(tied.dropped) == {"lm_head.weight"}
    assert untied.tied_head is None and not untied.dropped
    head = next(rule for rule in untied.rules if rule.target == "lm_head.weight")
    assert (head.kind, head.source, head.divisor) == ("head", "model.embed_tokens.weight", 2.0)


def test_a_tied_tensor_that_the_file_calls_by_the_name_of_the_head():
    source = make_source("llama", "tied")
    names = {"model.embed_tokens.weight": "lm_head.weight"}
    layout = discover(
        source.layout.config, {names.get(n, n): tensor.spec for n, tensor in source.layout.tensors.items()}
    )
    tied, untied = (make_plan(layout, GrowthOptions(width=2, untie=untie)) for untie in (False, True))
    assert tied.tied_head == "lm_head.weight"
    rules = {rule.target: rule for rule in untied.rules}
    embedding, head = rules["model.embed_tokens.weight"], rules["lm_head.weight"]
    assert (embedding.kind, embedding.source, embedding.divisor) == ("embedding", "lm_head.weight", 1.0)
    assert (head.kind, head.source, head.divisor) == ("head", "lm_head.weight", 2.0)

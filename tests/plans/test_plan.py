"""Rules and plans as data."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growkernels.plans import Claim, IndexVector, Noise, Plan, Rule, TensorSpec, Totals

#: `digest` of `small_plan()`: manifests hold it, so that it may only change with the version of a format.
DIGEST = "9fb6609a41581c3a1b0882c918bed21a6d9b4c41f1226264d9bb2cb2a292dd49"


def small_plan() -> Plan:
    rule = Rule(
        target="layers.1.up.weight",
        source="layers.0.up.weight",
        spec=TensorSpec((6, 4), "bfloat16"),
        kind="linear",
        axes=(IndexVector.tile(3, 2), IndexVector.parts([(1, 2), (1, 2)])),
        input_axis=1,
        divisor=2.0,
        noise=Noise(key=2**64 - 1, snr_db=10.0, std=0.125),
        group="layers.{}.up.weight",
        layer=1,
    )
    return Plan(
        rules=(rule,),
        source_config={"hidden_size": 2, "nested": {"β": [1, None, 0.1]}},
        config={"hidden_size": 4},
        layer_index=(0, 0),
        options={"depth": 2, "width": 2, "noise_snr_db": 10.0},
        seed=2**64 - 1,
        claims=(Claim("width", "exactly", "because"),),
        warnings=("beware",),
        dropped={"buffer": "computed"},
        tied_head="embed.weight",
        source_totals=Totals(6, 12, 12, 1),
    )


def test_the_digest_of_a_plan_stays_what_it_is():
    assert small_plan().digest() == DIGEST
    assert Plan.from_json(json.loads(json.dumps(small_plan().to_json(), indent=3))).digest() == DIGEST


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 2**64 - 1),
    st.sampled_from(["all", "diagonal"]),
    st.one_of(st.none(), st.floats(0, 1e30)),
)
def test_rules_survive_json_to_the_bit(divisor, shift, key, structure, std):
    rule = Rule(
        target="a",
        source="b",
        spec=TensorSpec((4, 6), "float32"),
        kind="linear",
        axes=(IndexVector.tile(2, 2), IndexVector.interleave(2, 3)),
        input_axis=1,
        divisor=divisor,
        shift=shift,
        structure=structure,
        noise=Noise(key, None, std),
    )
    assert Rule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


def test_shapes_and_index_vectors_agree():
    with pytest.raises(ValueError, match=r"a: index vectors give \[4\], shape is \(5,\)"):
        Rule("a", "a", TensorSpec((5,), "float32"), "norm", (IndexVector.tile(2, 2),))


def test_only_noisy_rules_take_a_standard_deviation():
    rule = Rule("a", "a", TensorSpec((4,), "float32"), "norm", (IndexVector.tile(2, 2),))
    with pytest.raises(ValueError, match="a takes no noise"):
        rule.with_std(1.0)
    assert small_plan().rules[0].with_std(0.5).noise == Noise(2**64 - 1, 10.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "is_copy"),
    [
        ({}, True),
        ({"divisor": 2.0}, False),
        ({"shift": 1.0}, False),
        ({"noise": Noise(1)}, False),
        ({"divisor": 0.5}, False),
    ],
)
def test_copies(changes, is_copy):
    assert Rule("a", "b", TensorSpec((3,), "float32"), "norm", (IndexVector.identity(3),), **changes).is_copy == is_copy
    assert not Rule("a", "b", TensorSpec((6,), "float32"), "norm", (IndexVector.tile(3, 2),), **changes).is_copy

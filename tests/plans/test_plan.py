"""Rules and plans as data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growkernels.plans import Claim, Fill, IndexVector, Noise, Plan, Rule, Segment, TensorSpec, Tile, Totals

#: `digest` of `small_plan()`: manifests hold it, so that it may only change with the version of a format.
DIGEST = "5395f3b33179e0c26c6c5660ccf718b5fa8a512813a448266822fc71e7188661"


def small_plan() -> Plan:
    axes = IndexVector.tile(3, 2), IndexVector.parts([(1, 2), (1, 2)])
    rule = Rule(
        target="layers.1.up.weight",
        sources=("layers.0.up.weight",),
        spec=TensorSpec((6, 4), "bfloat16"),
        how=Tile(axes, 1, 2.0, noise=Noise(snr_db=10.0, std=0.125), key=2**64 - 1),
        group="layers.{}.up.weight",
        layer=1,
        kind="linear",
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


def plan_of(*rules: Rule) -> Plan:
    return Plan(rules, {}, {}, (0,), {}, 0, ())


def stored(plan: Plan) -> Plan:
    return Plan.from_json(json.loads(json.dumps(plan.to_json())))


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(
    divisor=FLOATS,
    shift=FLOATS,
    key=st.integers(0, 2**64 - 1),
    diagonal=st.booleans(),
    noise=st.none() | st.builds(Noise, st.none() | FLOATS, st.none() | st.floats(0, 1e30)),
    fill=st.tuples(*[st.builds(Fill, FLOATS, st.floats(0, 1e30)) | st.just(Fill.measured())] * 3),
)
def test_rules_survive_json_to_the_bit(
    divisor: float, shift: float, key: int, diagonal: bool, noise: Noise | None, fill: tuple[Fill, Fill, Fill]
) -> None:
    axes = IndexVector.tile(2, 2), IndexVector.interleave(2, 3)
    tile = Tile(axes, 1, divisor, shift, diagonal, noise, fill, key, output_axis=0)
    plan = plan_of(Rule("a", ("b",), TensorSpec((4, 6), "float32"), tile, kind="linear"))
    assert repr(stored(plan).rules[0].how) == repr(tile)  # tells -0.0 from 0.0


def test_each_distinct_tile_is_stored_once() -> None:
    noisy = Tile.copies((2, 3), (2, 2), 1, Noise(10.0))
    rules = [
        Rule(f"t{i}", ("s",), TensorSpec((4, 6), "float32"), replace(noisy, key=i, noise=Noise(10.0, i / 8)))
        for i in range(5)
    ]
    rules.append(Rule("u", ("s",), TensorSpec((4, 6), "float32"), Tile.copies((2, 3), (2, 2), 1)))
    rules.append(Rule("z", (), TensorSpec((4, 6), "float32"), Tile.zeros((4, 6))))
    data = plan_of(*rules).to_json()
    assert len(data["hows"]) == 3
    assert [row["how"] for row in data["rules"]] == [0] * 5 + [1, 2]
    assert [row.get("key") for row in data["rules"]] == [0, 1, 2, 3, 4, None, None]
    assert stored(plan_of(*rules)).rules == tuple(rules)


def test_a_rule_fits_its_shape_and_names_what_it_draws_on() -> None:
    repeated = Tile.copies((2,), (2,))
    with pytest.raises(ValueError, match=r"a: the rule gives \[4\], shape is \[5\]"):
        Rule("a", ("a",), TensorSpec((5,), "float32"), repeated)
    with pytest.raises(ValueError, match="a tile has one source, not 2"):
        Rule("a", ("a", "b"), TensorSpec((4,), "float32"), repeated)
    with pytest.raises(ValueError, match="a: repeat 2 draws on a source, and none is named"):
        Rule("a", (), TensorSpec((4,), "float32"), repeated)
    zeros = Rule("a", ("b",), TensorSpec((4,), "float32"), Tile.zeros((4,)))
    assert zeros.drawn == () and zeros.sources == ("b",)
    assert Rule("a", (), zeros.spec, zeros.how).source == ""


def test_only_noisy_rules_take_a_standard_deviation() -> None:
    rule = Rule("a", ("a",), TensorSpec((4,), "float32"), Tile.copies((2,), (2,)))
    with pytest.raises(ValueError, match="a takes no noise"):
        rule.with_std(1.0)
    assert small_plan().rules[0].with_std(0.5).how.noise == Noise(10.0, 0.5)


@pytest.mark.parametrize(
    ("changes", "is_copy"),
    [
        ({}, True),
        ({"divisor": 2.0}, False),
        ({"shift": 1.0}, False),
        ({"sum_axis": 0, "noise": Noise()}, False),
        ({"axes": (IndexVector.tile(3, 2),)}, False),
        ({"axes": (IndexVector.extend(2, 1),)}, False),
        ({"axes": (IndexVector((Segment(1, 3),)),)}, False),
    ],
)
def test_copies_are_known(changes: dict, is_copy: bool) -> None:
    tile = replace(Tile.identity((3,)), **changes)
    assert Rule("a", ("b",), TensorSpec(tile.shape, "float32"), tile).is_copy == is_copy


def test_what_is_printed_is_short() -> None:
    plan = small_plan()
    assert repr(plan.rules[0]) == (
        "Rule(layers.1.up.weight [6, 4] bfloat16 from layers.0.up.weight: tile 2x2, /2, noise 10 dB)"
    )
    assert repr(plan) == "Plan(1 tensors, 48 bytes, 1 -> 2 layers, function preserved? width: exactly)"

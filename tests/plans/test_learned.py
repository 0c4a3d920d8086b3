"""Learned rules as data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from growkernels.plans import Claim, Learned, LearnedPart, Matrices, Plan, Rule, TensorSpec

HEADS, HIDDEN = LearnedPart("q", 8, 24, block=4), LearnedPart("hidden", 6, 12)


def rule(sources: tuple[str, ...] = ("a.0", "a.1"), axes: tuple = ((HEADS,), (HIDDEN,))) -> Rule:
    learned = Learned("mix a", 1, axes, sum_axis=1 if len(axes) > 1 else None)
    return Rule("b.1", sources, TensorSpec(learned.shape, "float32"), learned, kind="linear")


def plan(matrices: Matrices | None) -> Plan:
    claims = (Claim("width", "no", "learned"),)
    return Plan((rule(),), {}, {}, (0, 1), {}, 0, claims, matrices=matrices)


def matrices(value: float = 0.5) -> Matrices:
    return Matrices({"q": np.full((6, 2), value, np.float32), "hidden": np.full((12, 6), 2, np.float32)})


def test_a_rule_knows_its_sources_and_shapes() -> None:
    mixed = rule()
    assert mixed.sources == mixed.drawn == ("a.0", "a.1")
    assert mixed.how.source_shape == (8, 6)
    assert mixed.how.matrices == {"q": (6, 2), "hidden": (12, 6)}
    assert not mixed.is_copy
    with pytest.raises(ValueError, match=r"the rule gives \[24, 12\]"):
        Rule("b", ("a",), TensorSpec((24, 13), "float32"), mixed.how)
    with pytest.raises(ValueError, match="draws on a source, and none is named"):
        Rule("b", (), mixed.spec, mixed.how)


def test_plans_survive_json_and_name_their_matrices() -> None:
    made = plan(matrices())
    data = json.loads(json.dumps(made.to_json()))
    assert Plan.from_json(data, matrices()) == made
    assert made.is_learned
    for others in (None, matrices(0.25)):
        with pytest.raises(ValueError, match="digest"):
            Plan.from_json(data, others)
    digests = {made.digest(), plan(None).digest(), plan(matrices(0.25)).digest()}
    assert len(digests) == 3
    assert Plan.from_json(plan(None).to_json()) == plan(None)


def test_layers_share_what_differs_in_the_row_alone() -> None:
    layers = [replace(rule(), target=f"b.{row}", how=replace(rule().how, row=row)) for row in range(3)]
    data = plan(None).with_rules(tuple(layers)).to_json()
    assert len(data["hows"]) == 1 and [row["row"] for row in data["rules"]] == [0, 1, 2]
    assert "matrices" not in data
    assert Plan.from_json(data).rules == tuple(layers)


def test_words() -> None:
    assert rule().describe() == "learn 3x2, mix 2"
    assert rule(("a.0",)).describe() == "learn 3x2"
    same = LearnedPart(None, 6, 6)
    assert rule(axes=((same,),)).describe() == "scale, mix 2"


def test_matrices_are_float32_read_only_and_equal_by_bits() -> None:
    values = {"b": np.ones((2, 3), np.float32), "a": np.ones((1, 1), np.float32)}
    held = Matrices(values)
    assert list(held) == ["a", "b"]
    values["b"][0, 0] = 5
    assert held["b"][0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        held["a"][0, 0] = 2
    assert held == Matrices({**held}) != Matrices({"a": held["a"]})
    assert hash(held) == hash(Matrices({**held}))
    # The same bytes under other shapes are other matrices.
    assert held != Matrices({"a": held["a"], "b": np.ones((3, 2), np.float32)})
    for wrong in (np.ones((2, 2)), np.ones(3, np.float32)):
        with pytest.raises(ValueError, match="float32"):
            Matrices({"a": wrong})

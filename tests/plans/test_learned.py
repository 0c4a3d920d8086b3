"""Learned rules as data."""

from __future__ import annotations

import json

import numpy as np
import pytest

from growkernels.plans import Claim, IndexVector, Learned, LearnedPart, Matrices, Plan, Rule, TensorSpec
from growkernels.plans.summary import describe

HEADS, HIDDEN = LearnedPart("q", 8, 24, block=4), LearnedPart("hidden", 6, 12)


def rule(sources: tuple[str, ...] = ("a.0", "a.1"), axes: tuple = ((HEADS,), (HIDDEN,)), **fields: object) -> Rule:
    learned = Learned(sources, "mix a", 1, axes)
    return Rule("b.1", sources[0], TensorSpec(learned.shape, "float32"), "linear", (), learned=learned, **fields)


def plan(matrices: Matrices | None) -> Plan:
    claims = (Claim("width", "no", "learned"),)
    return Plan((rule(input_axis=1),), {}, {}, (0, 1), {}, 0, claims, matrices=matrices)


def matrices(value: float = 0.5) -> Matrices:
    return Matrices({"q": np.full((6, 2), value, np.float32), "hidden": np.full((12, 6), 2, np.float32)})


def test_a_rule_knows_its_sources_and_shapes() -> None:
    mixed = rule(input_axis=1)
    assert mixed.sources == ("a.0", "a.1")
    assert mixed.source_shape == (8, 6)
    assert mixed.learned.matrices == {"q": (6, 2), "hidden": (12, 6)}
    assert mixed.n_in == 1
    assert not mixed.is_copy
    with pytest.raises(ValueError, match=r"learned axes give \(24, 12\)"):
        Rule("b", "a", TensorSpec((24, 13), "float32"), "linear", (), learned=mixed.learned)
    with pytest.raises(ValueError, match="learned axes"):
        Rule("b", "a", mixed.spec, "linear", (IndexVector.tile(8, 3), IndexVector.tile(6, 2)), learned=mixed.learned)


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


def test_what_is_not_learned_has_the_json_that_it_had() -> None:
    copied = Rule("b", "a", TensorSpec((4,), "float32"), "norm", (IndexVector.tile(2, 2),))
    assert "learned" not in copied.to_json()
    assert "matrices" not in plan(None).with_rules((copied,)).to_json()
    assert Rule.from_json(copied.to_json()) == copied


def test_words() -> None:
    assert describe(rule()) == "learn 3x2, mix 2"
    assert describe(rule(("a.0",))) == "learn 3x2"
    same = LearnedPart(None, 6, 6)
    assert describe(rule(axes=((same,),))) == "scale, mix 2"


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

"""Summaries: rows, totals that are those of the model, words, connection rate."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from growkernels.operators import DEPTH_OPERATORS, GrowthOptions
from growkernels.plans import Fill, IndexVector, Noise, Tile
from growkernels.plans.summary import connection_rate, summarize
from tests.families import variants
from tests.operators.support import make_source


def flops_per_token(config: dict) -> tuple[int, int]:
    """Parameters, and 2 per weight of every product, of the class itself."""
    config = dict(config)
    loaded = AutoConfig.for_model(config.pop("model_type"), **config)
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(loaded)
    products = [m for m in model.modules() if isinstance(m, torch.nn.Linear) or type(m).__name__ == "Conv1D"]
    return sum(p.numel() for p in model.parameters()), sum(2 * m.weight.numel() for m in products)


@pytest.mark.parametrize(("family", "name"), variants())
def test_totals_are_those_of_the_models(family, name):
    for untie in (False, True):
        plan = make_source(family, name, dtype="bfloat16").plan(width=2, depth=3, untie=untie)
        summary = summarize(plan)
        for totals, config in ((summary.source, plan.source_config), (summary.target, plan.config)):
            assert (totals.parameters, totals.flops_per_token) == flops_per_token(config)
            assert totals.nbytes == 2 * totals.parameters
        assert (summary.source.layers, summary.target.layers) == (2, 6)
        assert sum(row.count for row in summary.rows) == len(plan.rules)
        assert json.loads(json.dumps(summary.to_json()))["target"]["layers"] == 6


def test_one_row_for_each_kind_of_tensor():
    rows = {row.name: row for row in summarize(make_source("llama", "mqa").plan(width=2, depth=3)).rows}
    up = rows["model.layers.{}.mlp.up_proj.weight"]
    assert (up.count, up.rule, up.source_shape, up.shape) == (6, "tile 2x2, /2, noise 10 dB", (40, 32), (80, 64))
    assert (up.parameters, up.nbytes, up.flops_per_token) == (6 * 5120, 6 * 5120 * 4, 6 * 5120 * 2)
    assert rows["model.layers.{}.self_attn.k_proj.weight"].rule == "tile 1x2, /2, noise 10 dB"
    assert rows["model.norm.weight"].rule == "repeat 2" and rows["model.norm.weight"].flops_per_token == 0
    assert rows["lm_head.weight"].rule == "tile 1x2, /2"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "tile 2x3"),
        ({"divisor": 3.0}, "tile 2x3, /3"),
        ({"divisor": 2**0.5, "shift": 2**-0.5 - 1}, "tile 2x3, /sqrt(2), -0.292893"),
        ({"divisor": 2.5}, "tile 2x3, /2.5"),
        ({"diagonal": True, "noise": Noise(7.5)}, "tile 2x3, diagonal, noise 7.5 dB"),
    ],
)
def test_rules_in_words(changes, words):
    axes = (IndexVector.tile(2, 2), IndexVector.tile(2, 3))
    assert str(Tile(axes, 1, **changes)) == words


@pytest.mark.parametrize(
    ("tile", "words"),
    [
        (Tile.zeros((4, 6)), "zero"),
        (Tile.filled((4,), Fill(0.5)), "0.5"),
        (Tile.filled((4,), Fill(0.0, 0.02)), "normal 0.02"),
        (Tile((IndexVector.extend(4, 2), IndexVector.identity(3))), "tile [1 new]x1, new zero"),
        (Tile((IndexVector.extend(4, 2),), fill=(Fill.measured(),) * 3), "repeat [1 new], new normal as replaced"),
    ],
)
def test_fills_in_words(tile, words):
    assert str(tile) == words


def test_words_for_parts_that_are_copied_differently():
    axes = (IndexVector.parts([(2, 2), (1, 1)]), IndexVector.identity(3))
    assert str(Tile(axes, 1)) == "tile [2 1]x1"
    assert str(Tile(axes[1:])) == "copy"


def order(operator, num_layers, factor):
    options = GrowthOptions(depth=factor, width=2)
    return [layer.source for layer in DEPTH_OPERATORS[operator].layers(num_layers, options)]


@pytest.mark.parametrize(("operator", "percent"), [("gstack", 91), ("interpolate", 30)])
def test_connection_rates_of_the_paper(operator, percent):
    # Both figures fit 8 layers grown three times; 6 layers grown four times would give 87 % and 22 %.
    assert round(100 * connection_rate(order(operator, 8, 3))) == percent


@given(st.integers(1, 12), st.integers(1, 6))
def test_connection_rates_in_closed_form(layers, factor):
    pairs = layers * factor - 1
    expected = {"gstack": factor * (layers - 1), "interpolate": layers - 1}
    for name, kept in expected.items():
        rate = connection_rate(order(name, layers, factor))
        assert rate == (kept / pairs if pairs else None)

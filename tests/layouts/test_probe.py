"""What probing can tell, and how little is built for it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations_with_replacement
from math import atan2

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels.errors import GrowthError
from growkernels.layouts import classes, discover
from growkernels.layouts.families import FAMILIES, HEADS
from growkernels.layouts.probe import TURNS, ways_to_turn
from tests.layouts.support import class_shapes, specs, stored_config

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 11}
#: Without a pinned head_dim, heads turn as hidden does; some classes tie kv heads too.
TABLES = {
    name: tuple(dict.fromkeys(way.values()))
    for name, way in zip(("pinned", "tied", "all tied"), ways_to_turn(True, True), strict=True)
}


@pytest.mark.parametrize("table", TABLES)
@given(sizes=st.lists(st.integers(0, 2**40), min_size=7, max_size=7))
@example([1, 1, 0, 0, 0, 0, 0])
@example([1, 0, 2, 0, 0, 0, 3])
def test_no_sum_of_sizes_grows_as_one_size_does(table, sizes):
    turns = [*TABLES[table], (1, 1)]
    terms = [(size, pair) for size, pair in zip(sizes, turns, strict=False) if size]
    total = sum(size for size, _ in terms)
    grown = tuple(sum(size * pair[probe] for size, pair in terms) for probe in range(2))
    alike = [pair for pair in turns if (total * pair[0], total * pair[1]) == grown]
    assert alike == [pair for _, pair in terms if len(terms) == 1] or not terms


@pytest.mark.parametrize("table", TABLES)
def test_turns_are_corners_of_a_convex_polygon(table):
    """Which is why the test above holds for all sizes: a walk around their middle turns to the same side everywhere."""
    points = [*TABLES[table], (1, 1)]
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    points.sort(key=lambda point: atan2(point[1] - y, point[0] - x))
    for a, b, c in zip(points, points[1:] + points[:1], points[2:] + points[:2], strict=True):
        assert (b[0] - a[0]) * (c[1] - b[1]) > (b[1] - a[1]) * (c[0] - b[0]), b


@pytest.mark.parametrize("table", TABLES)
def test_no_product_of_two_sizes_grows_as_one_size_does(table):
    turns = TABLES[table]
    products = {(a[0] * b[0], a[1] * b[1]) for a, b in combinations_with_replacement(turns, 2)}
    assert len(set(turns)) == len(turns) and not products & set(turns)


def test_heads_stay_whole():
    for hidden, heads, kv_heads in zip(TURNS["hidden"], TURNS["heads"], TURNS["kv_heads"], strict=True):
        assert hidden % heads == 0 and heads % kv_heads == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outputs": {"self_attn.k_proj": HEADS}}, r"k_proj\.weight: axis 0 has 16 entries .*heads times 2.*gives 32"),
        ({"inputs": {"mlp.down_proj": (("hidden", 1), ("kv_heads", 2))}}, r"down_proj\.weight: axis 1 .*gives 48"),
    ],
)
def test_a_declaration_must_predict_every_size(changes, words, monkeypatch):
    """Heads as many as kv heads, and an ffn of another size: only the turned configs tell them apart in the first case."""
    config = stored_config("llama", "LlamaForCausalLM", **SIZES, num_key_value_heads=4)
    tensors = specs(class_shapes(config))
    discover(config, tensors)
    monkeypatch.setitem(FAMILIES, "llama", replace(FAMILIES["llama"], **changes))
    with pytest.raises(GrowthError, match=words):
        discover(config, tensors)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_class_is_built_three_times(family, monkeypatch):
    """Once as it is, and twice with a single layer: planning takes the time of little else."""
    architecture = FAMILIES[family].architectures[0]
    config = stored_config(family, architecture, hidden_size=16, num_attention_heads=2, num_hidden_layers=3)
    tensors = specs(class_shapes(config))
    layers = []

    def build(architecture, config, *rest):
        layers.append(config.num_hidden_layers)
        return original(architecture, config, *rest)

    original = classes.build
    monkeypatch.setattr(classes, "build", build)
    discover(config, tensors)
    assert layers == [3, 1, 1]

"""The language of `--layers`."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels.errors import GrowthError
from growkernels.operators import parse_layers

LAYERS = 12


@st.composite
def specs(draw, depth=2):
    """A spec and the layers that it means."""
    texts, layers = [], []
    for _ in range(draw(st.integers(1, 4))):
        form = draw(st.sampled_from(["layer", "range", "group"] if depth else ["layer", "range"]))
        first = draw(st.integers(0, LAYERS - 1))
        if form == "layer":
            text, meant = f"{first}", [first]
        elif form == "range":
            last = draw(st.integers(first, LAYERS - 1))
            text, meant = f"{first}-{last}", list(range(first, last + 1))
        else:
            inner, members = draw(specs(depth=depth - 1))
            count = draw(st.integers(1, 3))
            text, meant = f"({inner})*{count}", members * count
        texts.append(text)
        layers += meant
    gap = draw(st.sampled_from(["", " "]))
    return f"{gap},{gap}".join(texts), layers


@given(specs())
@example(("3", [3]))
@example(("0-5", [0, 1, 2, 3, 4, 5]))
@example(("(0-2)*2", [0, 1, 2, 0, 1, 2]))
@example((" 0 - 1 , ( 2 , 3 ) * 2 ", [0, 1, 2, 3, 2, 3]))
def test_a_spec_means_its_layers(case):
    spec, layers = case
    assert parse_layers(spec, LAYERS) == tuple(layers)


@st.composite
def paper_specs(draw):
    """A spec in the paper's notation and the layers, from 0, that it means."""
    texts, layers = [], []
    for _ in range(draw(st.integers(1, 4))):
        digits = draw(st.lists(st.integers(1, 9), min_size=1, max_size=4))
        count = draw(st.one_of(st.none(), st.integers(1, 12)))
        texts.append("".join(map(str, digits)) + ("" if count is None else f"*{count}"))
        layers += [digit - 1 for digit in digits] * (count or 1)
    return "paper:" + "-".join(texts), layers


@given(paper_specs())
@example(("paper:12-345*7-6", [0, 1, *[2, 3, 4] * 7, 5]))
@example(("paper:123*7-456", [*[0, 1, 2] * 7, 3, 4, 5]))
@example((" paper: 12 - 3*2 ", [0, 1, 2, 2]))
def test_the_notation_of_the_paper(case):
    spec, layers = case
    assert parse_layers(spec, LAYERS) == tuple(layers)


@pytest.mark.parametrize(
    ("spec", "place", "problem"),
    [
        ("", 0, "expected a layer number"),
        ("0,,1", 2, "expected a layer number"),
        ("0,", 2, "expected a layer number"),
        ("0-", 2, "expected a layer number"),
        ("-3", 0, "expected a layer number"),
        ("0 1", 2, "expected a comma or the end"),
        ("1*2", 1, "expected a comma or the end"),
        ("1.5", 1, "expected a comma or the end"),
        ("0-1)", 3, "expected a comma or the end"),
        ("5-3", 2, "runs backward"),
        ("12", 0, "layer 12 is not in the source, which has layers 0 to 11"),
        ("0-12", 2, "layer 12 is not in the source"),
        ("9999999999", 0, "at most 9 digits"),
        ("(0-3", 4, "expected a comma or )"),
        ("(0-3)", 5, "expected *"),
        ("(0-3)*", 6, "expected a number of repeats"),
        ("(0-3)*0", 6, "repeated 0 times"),
        ("(0-3)*-1", 6, "expected a number of repeats"),
        ("(0-3)*9999", 6, "more than 10000 layers"),
        ("()*2", 1, "expected a layer number"),
        ("٣", 0, "expected a layer number"),
        ("²", 0, "expected a layer number"),
        ("paper:", 6, "expected a digit"),
        ("paper:10", 7, "layer 0 is not in the source, which has layers 1 to 12"),
        ("paper:12--3", 9, "expected a digit"),
        ("paper:12-", 9, "expected a digit"),
        ("paper:12*", 9, "expected a number of repeats"),
        ("paper:12*0", 9, "repeated 0 times"),
        ("paper:1,2", 7, "expected a digit, *, - or the end"),
        ("paper:1*99999", 8, "more than 10000 layers"),
        ("Paper:12", 0, "expected a layer number"),
    ],
)
def test_errors_point_at_the_place(spec, place, problem):
    with pytest.raises(GrowthError) as error:
        parse_layers(spec, LAYERS)
    message, text, pointer = str(error.value).split("\n")
    assert problem in message and f"at character {place + 1};" in message
    assert (text, pointer) == (f"  {spec}", f"  {' ' * place}^")


def test_the_paper_counts_from_one():
    with pytest.raises(GrowthError, match="layer 7 is not in the source, which has layers 1 to 6"):
        parse_layers("paper:12-7", 6)


@given(st.text(alphabet="0123456789,-()* paer:", max_size=12))
def test_any_text_gives_layers_or_a_message(spec):
    with suppress(GrowthError):
        layers = parse_layers(spec, LAYERS)
        assert layers and all(0 <= layer < LAYERS for layer in layers)


def test_deep_nesting_is_a_message_and_no_crash():
    with pytest.raises(GrowthError, match="nested"):
        parse_layers("(" * 5000 + "0", LAYERS)

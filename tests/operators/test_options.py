"""What can be asked of a growth, and what the refusals say."""

from __future__ import annotations

import pytest

from growkernels.errors import GrowthError
from growkernels.operators import GrowthOptions
from tests.operators.support import make_source


@pytest.mark.parametrize("name", ["depth", "width", "ffn"])
@pytest.mark.parametrize("value", ["1.5", 1.5, 0, -2, "two", "", float("nan"), float("inf"), "1e400", True, [2]])
def test_ratios_are_whole(name, value):
    with pytest.raises(GrowthError) as error:
        GrowthOptions(**{name: value})
    assert f"{name} is {value!r}; expected a whole number of at least 1" in str(error.value)
    assert "copied that many times" in str(error.value)


@pytest.mark.parametrize("value", [2, "2", 2.0, " 2 "])
def test_ratios_may_be_text(value):
    assert GrowthOptions(width=value, depth=value, ffn=value) == GrowthOptions(width=2, depth=2, ffn=2)


@pytest.mark.parametrize(
    "options", [{}, {"depth": 1}, {"width": 1}, {"width": 1, "ffn": 1}, {"dtype": "bfloat16"}, {"untie": True}]
)
def test_nothing_to_grow(options):
    with pytest.raises(GrowthError, match="nothing to grow: give depth, layers, width or ffn"):
        GrowthOptions(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"depth": 2, "layers": "0-3"}, "depth 2 and layers '0-3'"),
        ({"depth": 2, "num_layers": 6}, "depth 2 and num_layers 6"),
        ({"num_layers": 6, "layers": "0-3"}, "num_layers 6 and layers '0-3'"),
    ],
)
def test_what_says_the_layers_excludes_each_other(options, named):
    with pytest.raises(GrowthError, match=f"{named} both say"):
        GrowthOptions(**options)


@pytest.mark.parametrize("value", ["1.5", 0, -2, "many", "", float("nan"), True, [2]])
def test_a_number_of_layers_is_whole(value):
    with pytest.raises(GrowthError, match=r"num_layers is .*; expected a whole number of at least 1"):
        GrowthOptions(num_layers=value)


def test_a_number_of_layers_may_be_text():
    assert GrowthOptions(num_layers=" 6 ").target_layers(4) == 6
    assert GrowthOptions(depth=3).target_layers(4) == 12 and GrowthOptions(width=2).target_layers(4) == 4


@pytest.mark.parametrize("value", ["loud", "nan", float("inf"), True])
def test_noise_is_a_finite_number_of_decibels_or_none(value):
    with pytest.raises(GrowthError, match=r"noise_snr_db is .*finite number of decibels"):
        GrowthOptions(width=2, noise_snr_db=value)


@pytest.mark.parametrize(("value", "meant"), [(None, None), (0, 0.0), ("-3.5", -3.5), (40, 40.0), (" Auto", "auto")])
def test_decibels(value, meant):
    assert GrowthOptions(width=2, noise_snr_db=value).noise_snr_db == meant


def test_the_operator_says_what_auto_noise_is():
    assert GrowthOptions(width=2).noise_snr_db == "auto"
    wide = make_source("llama").plan(width=2)
    assert wide == make_source("llama").plan(width=2, noise_snr_db=10) and wide.options["noise_snr_db"] == 10
    assert wide != make_source("llama").plan(width=2, noise_snr_db=None)
    learned = make_source("llama").plan(width=2, width_operator="ligo")
    assert learned.options["noise_snr_db"] is None


@pytest.mark.parametrize("value", [-1, 2**64, 1.0, "1", True])
def test_seeds(value):
    with pytest.raises(GrowthError, match=r"seed is .*expected a whole number from 0"):
        GrowthOptions(width=2, seed=value)


@pytest.mark.parametrize(("name", "value"), [("variant", "random"), ("dtype", "float64"), ("dtype", "int8")])
def test_choices_are_named(name, value):
    with pytest.raises(GrowthError, match=rf"{name} is '{value}'; expected one of "):
        GrowthOptions(width=2, **{name: value})

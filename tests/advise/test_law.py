"""The timing law: the authors' own rows, where it was fitted, where it is cut off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from growkernels.advise.law import LARGEST_SHARE, growth_timing


@pytest.mark.parametrize(
    ("parameters", "tokens", "theirs"),
    [(8e9, 15e12, 6.58e9), (7e9, 2e12, 11.11e9), (13e9, 2e12, 15.84e9), (70e9, 2e12, 42.48e9)],
)
def test_the_rows_of_the_paper(parameters: float, tokens: float, theirs: float) -> None:
    timing = growth_timing(parameters, tokens)
    assert timing.tokens == pytest.approx(theirs, rel=0.01)
    # The authors' own use of the law lies outside of what they fitted it to, and that is said.
    assert len(timing.extrapolated) == 2 and not timing.capped


def test_inside_of_the_fitted_range_nothing_is_warned_of() -> None:
    assert growth_timing(1.1e9, 100e9).extrapolated == ()


def test_a_nonsensical_value_is_capped() -> None:
    timing = growth_timing(124e6, 10e9)
    assert timing.law_tokens == pytest.approx(10.8e9, rel=0.01)
    assert timing.capped and timing.tokens == 10e9 * LARGEST_SHARE


def test_the_cap_is_what_the_law_gives_at_the_corner_of_its_range() -> None:
    tokens = 0.8e20 / (6 * 410e6)
    assert growth_timing(410e6, tokens).law_tokens / tokens == pytest.approx(LARGEST_SHARE, rel=0.05)


@given(st.floats(1, 1e15), st.floats(1, 1e18))
def test_any_target_gets_a_number_that_makes_sense(parameters: float, tokens: float) -> None:
    timing = growth_timing(parameters, tokens)
    assert 0 < timing.tokens <= tokens * LARGEST_SHARE
    assert timing.capped == (timing.tokens < timing.law_tokens)

"""What op tests share: tensors and their exact comparison, and Hypothesis strategies for what the ops take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from growkernels.ops.tile.numbers import RuleNumbers
from tests.ops import rules
from tests.ops.tensors import (
    DTYPES,
    LAYOUTS,
    POISON,
    assert_same_bits,
    data,
    laid_out,
    poisoned,
    with_special,
)

__all__ = [
    "DTYPES",
    "LAYOUTS",
    "POISON",
    "Drawn",
    "assert_same_bits",
    "data",
    "dtypes",
    "keys",
    "laid_out",
    "layouts",
    "poisoned",
    "specs",
    "with_special",
]

T = TypeVar("T")
keys = st.integers(0, 2**64 - 1)
dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(LAYOUTS)


class Drawn:
    """Choices that Hypothesis makes."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(options))


@st.composite
def specs(draw: st.DrawFn, rows: int, cols: int, noise: bool | None = None) -> RuleNumbers:
    """Any rule for a source of this shape."""
    return rules.rule(Drawn(draw), rows, cols, noise)

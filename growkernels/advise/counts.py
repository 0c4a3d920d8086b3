"""Counts as people write them: 8B, 1.5T, 410M, 1e9."""

from __future__ import annotations

import re
from math import isfinite

from growkernels.errors import GrowthError

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}
_COUNT = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([kmgbt]?)", re.IGNORECASE)


def parse_count(value: str | float, name: str) -> float:
    """A positive number from text such as `8B` or `1.5e12`.

    Args:
        value: A number, or digits with an optional exponent and an optional unit: k, M, B (or G), T, each 1000 times the last.
        name: What is counted, for the message.

    Returns:
        The number, at least 1.

    Raises:
        GrowthError: The value is not such a number.

    Example:
        >>> parse_count("410M", "parameters")
        410000000.0
    """
    match = _COUNT.fullmatch(str(value).strip().replace(",", "").replace("_", ""))
    number = float(match[1]) * _UNITS[match[2].lower()] if match and not isinstance(value, bool) else 0.0
    if not isfinite(number) or number < 1:
        raise GrowthError(
            f"{name} is {str(value)[:40]!r}; expected a number of at least 1, such as 8B, 410M or 1.5e12."
        )
    return number


def count_text(value: float) -> str:
    """A count with three digits and its unit, such as `6.58 B`."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        # What would round up to 1000 of a unit is 1 of the next.
        if value >= size * 0.9995:
            return f"{value / size:.4g} {unit}" if value >= size * 1000 else f"{value / size:.3g} {unit}"
    return f"{value:.0f}"

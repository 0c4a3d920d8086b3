"""What the options that grow experts may be, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from growkernels.errors import GrowthError

#: Options that say how the experts grow; at most one of them is given.
GROWS = ("expert_copies", "num_experts", "expert_split", "moe")
#: Every expert has tensors of its own in many files: beyond that, no plan fits into memory.
_MOST = 10_000
#: Options of `moe` alone.
_OF_MOE = ("granularity", "top_k", "shared", "reinit")
_COUNTS = {
    "expert_copies": "how many times the experts are copied",
    "num_experts": "the number of experts of the target",
    "expert_split": "into how many experts each one is split",
    "moe": "the number of experts of the target",
    "granularity": "into how many experts each copy of the feed-forward network is split",
    "top_k": "how many experts a token is sent to",
}


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of experts among `options`, as numbers. Raises GrowthError for what cannot be meant."""
    found: dict[str, Any] = {name: _count(options[name], name) for name in _COUNTS}
    given = [name for name in GROWS if found[name] is not None]
    if len(given) > 1:
        values = " and ".join(f"{name} {found[name]}" for name in given)
        raise GrowthError(f"{values} both say what becomes of the experts; give one of {', '.join(GROWS)}.")
    found["shared"] = options["shared"]
    found["reinit"] = _number(options["reinit"], "reinit", "a share from 0 to 1, such as 0.5")
    found["expert_noise_db"] = _number(
        options["expert_noise_db"], "expert_noise_db", "a number of decibels, such as 40"
    )
    if found["reinit"] is not None and not 0 < found["reinit"] < 1:
        raise GrowthError(f"reinit is {found['reinit']}; expected a share above 0 and below 1, such as 0.5.")
    idle = [name for name in _OF_MOE if found[name] not in (None, False)]
    if idle and "moe" not in given:
        raise GrowthError(f"{idle[0]} is {found[idle[0]]!r}, which only moe reads. Give moe too, or leave it out.")
    if found["expert_noise_db"] is not None and not {"expert_copies", "num_experts"} & {*given}:
        raise GrowthError("expert_noise_db is noise on cloned experts. Give expert_copies too, or leave it out.")
    return found


def grows(options: Mapping[str, Any]) -> bool:
    """Whether the options ask for other experts. One copy, or a split into one, is the model as it is."""
    return any(options[name] not in (None, 1) for name in GROWS) or options["moe"] == 1


def _count(value: object, name: str) -> int | None:
    if value is None:
        return None
    number = _float(value)
    if isinstance(value, bool) or not isfinite(number) or number != int(number) or number < 1:
        raise GrowthError(f"{name} is {value!r}; expected a whole number of at least 1: {_COUNTS[name]}.")
    if number > _MOST:
        raise GrowthError(f"{name} is {number:g}; more than {_MOST:,} are taken for a mistake: {_COUNTS[name]}.")
    return int(number)


def _number(value: object, name: str, expected: str) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    number = _float(value)
    if isinstance(value, bool) or not isfinite(number):
        raise GrowthError(f"{name} is {value!r}; expected {expected}.")
    return number


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")

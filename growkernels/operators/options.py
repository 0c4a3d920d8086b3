"""What a user can ask of a growth."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from growkernels.errors import GrowthError

Variant = Literal["symmetric", "diagonal"]
DTYPES = ("keep", "float32", "bfloat16", "float16")
VARIANTS = ("symmetric", "diagonal")


@dataclass(frozen=True, slots=True)
class GrowthOptions:
    """One growth. Raises GrowthError for what cannot be meant.

    `depth`: how many times the layers; or `layers`: the source layer of every target layer (see `parse_layers`).
    `width`: how many times hidden size, heads, kv heads and, unless `ffn` is given, the ffn size. `noise_snr_db`: noise on the
    copies, in decibels below the weights; None for no noise. `seed`: 0 to 2**64 - 1. `dtype`: of the stored target. `untie`:
    give the target its own LM head.
    """

    depth: int | None = None
    layers: str | None = None
    depth_operator: str = "gstack"
    width: int | None = None
    ffn: int | None = None
    width_operator: str = "hypercloning"
    variant: Variant = "symmetric"
    noise_snr_db: float | None = 10.0
    seed: int = 0
    dtype: str = "keep"
    untie: bool = False

    def __post_init__(self) -> None:
        for name, noun in (("depth", "layer"), ("width", "feature"), ("ffn", "ffn feature")):
            object.__setattr__(self, name, _ratio(getattr(self, name), name, noun))
        if self.depth is not None and self.layers is not None:
            raise GrowthError(
                f"depth {self.depth} and layers {self.layers!r} both say which layers the target has; give one of the two."
            )
        if self.layers is None and all(ratio in (None, 1) for ratio in (self.depth, self.width, self.ffn)):
            raise GrowthError("nothing to grow: give depth, layers, width or ffn, with a ratio of at least 2.")
        _choice(self.variant, "variant", VARIANTS)
        _choice(self.dtype, "dtype", DTYPES)
        object.__setattr__(self, "noise_snr_db", _decibels(self.noise_snr_db))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise GrowthError(f"seed is {self.seed!r}; expected a whole number from 0 to 2**64 - 1.")


def _ratio(value: object, name: str, noun: str) -> int | None:
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not isfinite(number) or number != int(number) or number < 1:
        raise GrowthError(
            f"{name} is {value!r}; expected a whole number of at least 1: every {noun} is copied that many times, "
            f"and each as often as the others, so that {name} 2 doubles. Ratios between whole numbers are not supported."
        )
    return int(number)


def _choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise GrowthError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")


def _decibels(value: object) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not isfinite(number):
        raise GrowthError(
            f"noise_snr_db is {value!r}; expected a finite number of decibels (10 is the paper's), or none for no noise."
        )
    return number

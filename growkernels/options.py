"""The options of a growth: their values and checks, and the keywords by which public functions take them.

A new option is a field of `GrowthOptions`, its keyword beside it, and a row of help in `growkernels.cli.options`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any, Literal, TypedDict, TypeVar, get_args

from growkernels import expert_options
from growkernels.errors import GrowthError
from growkernels.rules.variant import Variant

DepthInit = Literal["stack", "interpolate"]
WidthInit = Literal["tile", "onehot", "normal", "convex"]
DTYPES = ("keep", "float32", "bfloat16", "float16")
SizeSymbol = Literal["hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab"]
VARIANTS: tuple[str, ...] = get_args(Variant)
DEPTH_INITS = ("stack", "interpolate")
WIDTH_INITS = ("tile", "onehot", "normal", "convex")

_MOST_COPIES = 10_000
#: The options that give a size of the target in absolute numbers, and what they size.
SIZES: dict[str, SizeSymbol] = {
    "hidden_size": "hidden",
    "num_heads": "heads",
    "num_kv_heads": "kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "ffn",
    "vocab_size": "vocab",
}
#: The ratio that sizes the same axis, where that is not `width`; empty for none.
RATIO_OF = {"intermediate_size": "ffn", "vocab_size": ""}


@dataclass(frozen=True, slots=True)
class GrowthOptions:
    """One growth. Raises GrowthError for what cannot be meant.

    `depth`: how many times the layers; or `num_layers`: how many in all; or `layers`: the source layer of every target layer
    (see `parse_layers`). `block`: how many layers in a row some depth operators repeat together. `fade`: each of k copies of a
    layer adds 1/k of what the layer added. `width`: how many times hidden size, heads, kv heads and, unless `ffn` is given, the
    ffn size; or `hidden_size`, `num_heads`, `num_kv_heads`, `head_dim`, `intermediate_size`, `vocab_size`: sizes of the target,
    those that are not given as they are. `noise_snr_db`: noise on the copies, in decibels below the weights; None for no noise,
    auto for what the width operator takes by itself (10 for hypercloning and net2net). `noise_after`: share of fresh noise in
    every matrix at the end. `seed`: 0 to 2**64 - 1; where it is not given and the source was grown itself, the one after that
    growth's. `dtype`: of the stored target. `untie`: give the target its own LM head.

    Where learned growth (ligo) starts: `depth_init`, the order of the layers; `width_init`, the rows of a matrix below the
    identity: copies in order (tile), of random features (onehot), normal of std 1/sqrt(target size), or random averages
    (convex); `init_noise`, normal noise on the coefficients, and on the rows of tile and onehot, relative to their length.

    Experts: `expert_copies`, how many times they are copied, or `num_experts`, how many the target has; `expert_split`, into
    how many each is split; `moe`, the number of experts that a dense model gets, each with 1/`granularity` of its ffn, `top_k`
    of them for a token, beside a `shared` one, `reinit` a share of their features drawn anew. `expert_noise_db`: noise on
    copies of experts and routers that does not cancel, in decibels below the weights.
    """

    depth: int | None = None
    num_layers: int | None = None
    layers: str | None = None
    depth_operator: str = "gstack"
    block: int | None = None
    fade: bool = False
    width: int | None = None
    ffn: int | None = None
    hidden_size: int | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None
    width_operator: str = "hypercloning"
    variant: Variant = "symmetric"
    noise_snr_db: float | Literal["auto"] | None = "auto"
    noise_after: float | None = None
    seed: int = 0
    dtype: str = "keep"
    untie: bool = False
    depth_init: DepthInit = "stack"
    width_init: WidthInit = "tile"
    init_noise: float = 0.03
    expert_copies: int | None = None
    num_experts: int | None = None
    expert_split: int | None = None
    moe: int | None = None
    granularity: int | None = None
    top_k: int | None = None
    shared: bool = False
    reinit: float | None = None
    expert_noise_db: float | None = None

    @property
    def noise(self) -> float | None:
        """The noise in decibels, None for none. What auto is, is the width operator's to say: until then it is none."""
        return None if self.noise_snr_db == "auto" else self.noise_snr_db

    def target_layers(self, num_layers: int) -> int:
        """How many layers the target of a source of `num_layers` has, by `depth` or `num_layers`."""
        return self.num_layers or num_layers * (self.depth or 1)

    @classmethod
    def from_keywords(cls, options: Mapping[str, Any]) -> GrowthOptions:
        """Options from a function's keyword arguments. Raises GrowthError for names that are none."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise GrowthError(f"unknown option {', '.join(unknown)}; expected some of {', '.join(known)}")
        return cls(**options)

    def __post_init__(self) -> None:
        for name, noun in (("depth", "layer"), ("width", "feature"), ("ffn", "ffn feature")):
            object.__setattr__(self, name, _ratio(getattr(self, name), name, noun))
        for name in ("num_layers", "block"):
            object.__setattr__(self, name, _count(getattr(self, name), name))
        ways = {"depth": self.depth, "num_layers": self.num_layers, "layers": self.layers}
        given = [f"{name} {value!r}" for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise GrowthError(f"{' and '.join(given)} both say which layers the target has; give one of the two.")
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in expert_options.checked(options).items():
            object.__setattr__(self, name, value)
        for name in self.sizes:
            object.__setattr__(self, name, _count(getattr(self, name), name))
            if (ratio := RATIO_OF.get(name, "width")) and getattr(self, ratio) is not None:
                raise GrowthError(
                    f"{ratio} {getattr(self, ratio)} and {name} {getattr(self, name)} both size one axis; give one of the two."
                )
        sized = self.layers is not None or self.num_layers is not None or self.sizes or self.grows_experts
        if not sized and all(ratio in (None, 1) for ratio in (self.depth, self.width, self.ffn)):
            raise GrowthError(
                "nothing to grow: give depth, layers, width or ffn, with a ratio of at least 2, num_layers or another size, or "
                "what the experts become."
            )
        _choice(self.variant, "variant", VARIANTS)
        _choice(self.dtype, "dtype", DTYPES)
        _choice(self.depth_init, "depth_init", DEPTH_INITS)
        _choice(self.width_init, "width_init", WIDTH_INITS)
        if self.noise_after is not None:
            share = _number(self.noise_after)
            if not 0 < share <= 1:
                raise GrowthError(
                    f"noise_after is {self.noise_after!r}; expected a share above 0 and up to 1 (0.2 is the paper's)."
                )
            object.__setattr__(self, "noise_after", share)
        object.__setattr__(self, "init_noise", _strength(self.init_noise))
        object.__setattr__(self, "noise_snr_db", _decibels(self.noise_snr_db))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise GrowthError(f"seed is {self.seed!r}; expected a whole number from 0 to 2**64 - 1.")

    @property
    def grows_experts(self) -> bool:
        """Whether the target has other experts than the source."""
        return expert_options.grows({field.name: getattr(self, field.name) for field in fields(self)})

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that are given in absolute numbers, by the names of their options."""
        return {name: size for name in SIZES if (size := getattr(self, name)) is not None}


class GrowthKeywordsButDtype(TypedDict, total=False):
    """`GrowthOptions` as keyword arguments, for functions that take a dtype of their own."""

    depth: int | None
    num_layers: int | None
    layers: str | None
    depth_operator: str
    block: int | None
    fade: bool
    width: int | None
    ffn: int | None
    hidden_size: int | None
    num_heads: int | None
    num_kv_heads: int | None
    head_dim: int | None
    intermediate_size: int | None
    vocab_size: int | None
    width_operator: str
    variant: Variant
    noise_snr_db: float | Literal["auto"] | None
    noise_after: float | None
    seed: int
    untie: bool
    depth_init: DepthInit
    width_init: WidthInit
    init_noise: float
    expert_copies: int | None
    num_experts: int | None
    expert_split: int | None
    moe: int | None
    granularity: int | None
    top_k: int | None
    shared: bool
    reinit: float | None
    expert_noise_db: float | None


class GrowthKeywords(GrowthKeywordsButDtype, total=False):
    """`GrowthOptions` as keyword arguments: what editors complete and type checkers check."""

    dtype: str


_Function = TypeVar("_Function", bound=Callable[..., Any])


def spelled_out(**defaults: Any) -> Callable[[_Function], _Function]:
    """Name the options in the signature of a function that takes them as `**options`: for `help` and notebooks.

    defaults: those that the function gives other defaults than `GrowthOptions` does.
    """

    def change(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(field.name, field.default),
                annotation=field.type,
            )
            for field in fields(GrowthOptions)
            if field.name not in signature.parameters
        ]
        function.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        return function

    return change


def _number(value: object) -> float:
    """What a number is, also as text; NaN for what is none."""
    try:
        return float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _count(value: object, name: str, why: str = "") -> int | None:
    if value is None:
        return None
    number = _number(value)
    if not isfinite(number) or number != int(number) or number < 1:
        raise GrowthError(f"{name} is {value!r}; expected a whole number of at least 1{why}.")
    return int(number)


def _ratio(value: object, name: str, noun: str) -> int | None:
    between = (
        "num_layers gives a number between" if name == "depth" else "ratios between whole numbers are not supported"
    )
    why = (
        f"every {noun} is copied that many times, and each as often as the others, so that {name} 2 doubles; {between}"
    )
    ratio = _count(value, name, f": {why}")
    if ratio is not None and ratio > _MOST_COPIES:
        raise GrowthError(f"{name} is {ratio:.6g}; more than {_MOST_COPIES:,} are taken for a mistake: {why}.")
    return ratio


def _choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise GrowthError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")


def _strength(value: object) -> float:
    number = _number(value)
    if not isfinite(number) or number < 0:
        raise GrowthError(f"init_noise is {value!r}; expected a number of at least 0 (0.03 is 3 %, 0 none).")
    return number


def _decibels(value: object) -> float | Literal["auto"] | None:
    if value is None:
        return None
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    number = _number(value)
    if not isfinite(number):
        raise GrowthError(
            f"noise_snr_db is {value!r}; expected a finite number of decibels (HyperCloning's is 10), none, or auto."
        )
    return number

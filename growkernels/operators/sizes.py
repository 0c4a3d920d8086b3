"""The sizes of a target as ratios to the source's: whole copies (`width`, `ffn`), or sizes in absolute numbers."""

from __future__ import annotations

from fractions import Fraction

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Ratio, Symbol
from growkernels.options import SIZES, GrowthOptions


def find_ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """The target's size of each meaning over the source's. Raises GrowthError for what the model cannot grow to."""
    width = options.width or 1
    ffn = width if options.ffn is None else options.ffn
    wanted = options.sizes
    if (max(width, ffn) > 1 or wanted.keys() - {"vocab_size"}) and layout.width_refusal:
        raise GrowthError(
            f"the width of {layout.model_type} cannot grow: {layout.width_refusal}. Grow its depth alone."
        )
    if ffn != width and "ffn" not in layout.sizes:
        raise GrowthError(
            f"ffn is {ffn} and width {width}, and {layout.model_type} has no size of its own for feed-forward networks: leave "
            f"ffn out."
        )
    # A single key and value head stays: every query head reads it.
    kv_heads = 1 if layout.sizes.get("kv_heads") == 1 < layout.sizes["heads"] else width
    ratios: dict[Symbol, Ratio] = {
        "hidden": width,
        "heads": width,
        "kv_heads": kv_heads,
        "inner": width,
        "groups": width,
        "ffn": ffn,
        "experts": 1,
        "layers": 1,
        "vocab": 1,
        "fixed": 1,
    }
    ratios |= {SIZES[name]: _ratio(layout, name, size) for name, size in wanted.items()}
    if "num_heads" in wanted and "num_kv_heads" not in wanted and not layout.keys.get("kv_heads"):
        ratios["kv_heads"] = ratios["heads"]
    if ratios["heads"] > 1 and layout.heads_refusal:
        raise GrowthError(
            f"the width of {layout.model_type} cannot grow: {layout.heads_refusal}. Grow its depth alone, or "
            f"hidden_size and head_dim, both as many times as large, with the heads that it has."
        )
    return ratios


def find_whole_ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """How many copies of each kind of feature the target has. Raises GrowthError for widths that cannot grow."""
    found = find_ratios(layout, options)
    for symbol, ratio in found.items():
        if not isinstance(ratio, int) and symbol not in ("vocab", "head_dim"):
            raise GrowthError(
                f"hypercloning copies every feature equally often, and {symbol} would grow {float(ratio):g} times; give a "
                f"whole multiple of the source's {layout.sizes[symbol]}, or another width_operator, such as net2net."
            )
    return found


def _ratio(layout: ModelLayout, name: str, size: int) -> Ratio:
    symbol = SIZES[name]
    held = layout.sizes.get(symbol)
    if held is None or not (layout.keys.get(symbol) or symbol == "head_dim"):
        raise GrowthError(f"{name} is {size}, and {layout.model_type} has no size of its own for it: leave {name} out.")
    if size < held:
        raise GrowthError(
            f"{name} is {size}, and the source has {held}: a growth does not shrink. Give at least {held}."
        )
    ratio = Fraction(size, held)
    return int(ratio) if ratio.denominator == 1 else ratio

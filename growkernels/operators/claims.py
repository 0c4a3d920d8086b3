"""What a plan says about itself: whether it computes what the source computes, and what its user should know."""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp, log10

from growkernels.layouts.base import ModelLayout, Ratio
from growkernels.operators import noise_after
from growkernels.operators.base import DepthOperator, ExpertGrowth, Layer, Ratios, WidthOperator
from growkernels.operators.dead import dead_units
from growkernels.operators.patterns import pattern_warnings
from growkernels.options import GrowthOptions
from growkernels.plans import Claim, Learned, Rule, Tile

#: Significant bits, and exponent of the smallest normal number.
_FORMATS = {"float64": (53, -1022), "float32": (24, -126), "bfloat16": (8, -126), "float16": (11, -14)}


def make_claims(
    rules: Sequence[Rule],
    layout: ModelLayout,
    layers: Sequence[Layer],
    depth: DepthOperator,
    width: WidthOperator,
    ratios: Ratios,
    options: GrowthOptions,
    experts: ExpertGrowth | None = None,
) -> tuple[Claim, ...]:
    """One claim for each part of the growth: depth, width, experts, dtype, and a layout that only a twin confirmed."""
    claims = []
    if [layer.source for layer in layers] != list(range(layout.num_layers)):
        claims.append(_depth_claim(layers, layout, depth, options))
    if max(ratio for symbol, ratio in ratios.items() if symbol != "vocab") > 1:
        claims.append(_weights_claim("width", width.why, rules) if width.preserves else Claim("width", "no", width.why))
    if ratios["vocab"] > 1:
        claims.append(
            Claim(
                "vocab",
                "exactly",
                "old tokens keep their scores; new ones get the mean of all, which takes probability",
            )
        )
    if experts is not None:
        claims.append(
            _weights_claim("experts", experts.why, rules) if experts.preserves else Claim("experts", "no", experts.why)
        )
    if options.noise_after is not None:
        claims.append(noise_after.claim(options.noise_after))
    narrowed = sorted(
        {
            f"{source} to {rule.spec.dtype}"
            for rule in rules
            for source in _dtypes(rule, layout)
            if _narrows(source, rule)
        }
    )
    if narrowed:
        claims.append(Claim("dtype", "up to rounding", f"weights are rounded from {' and from '.join(narrowed)}"))
    if layout.derived:
        claims.append(
            Claim(
                "layout",
                "up to rounding",
                f"{layout.model_type} is not in the table: what its tensors mean is derived, and checked on a twin",
            )
        )
    return tuple(claims)


def _depth_claim(layers: Sequence[Layer], layout: ModelLayout, depth: DepthOperator, options: GrowthOptions) -> Claim:
    """Layers that change nothing between those of the source in their order preserve the function, whoever puts them there."""
    kept = [layer for layer in layers if not layer.identity]
    old = [layer.source for layer in kept if not (layer.fresh or layer.averaged or layer.divisor > 1)]
    if len(old) == len(kept) and old == list(range(layout.num_layers)) and not depth.mixes:
        if layout.depth_warnings:
            return Claim("depth", "no", f"new layers change nothing, but {'; '.join(layout.depth_warnings)}")
        reason = "what new layers write to the residual stream is zero, and the source's layers keep their order"
        return Claim("depth", "exactly", reason)
    if options.fade:
        return Claim(
            "depth",
            "no",
            "copies of a layer write a part each of what it wrote: the error is of second order in what a layer adds to the "
            "stream, small only where that is little",
        )
    if options.layers is None:
        return depth.claim
    return Claim(
        "depth", "no", "the layers run in an order that they were not trained in; further training recovers it"
    )


def _dtypes(rule: Rule, layout: ModelLayout) -> set[str]:
    """The dtypes of the sources whose values are read."""
    return {layout.tensors[name].spec.dtype for name in rule.drawn}


def _narrows(source: str, rule: Rule) -> bool:
    if rule.spec.dtype not in _FORMATS:
        return False  # no weight, and only copied
    (bits, least), (source_bits, source_least) = (_FORMATS[rule.spec.dtype], _FORMATS[source])
    return bits < source_bits or least > source_least


def _weights_claim(part: str, why: str, rules: Sequence[Rule]) -> Claim:
    """A claim that weights are what keeps the function, as exactly as they are stored."""
    if any(isinstance(rule.how, Learned) for rule in rules):
        return Claim(part, "no", why)
    by_dtype: dict[str, dict[str, None]] = {}
    for rule in rules:
        reasons = by_dtype.setdefault(rule.spec.dtype, {})
        if isinstance(rule.how, Tile):
            reasons.update(dict.fromkeys(_roundings(rule.how, rule.spec.dtype)))
    rounded = [
        f"stored {dtype} values are rounded, to about 2^-{_FORMATS[dtype][0]} relative ({', '.join(reasons)})"
        for dtype, reasons in by_dtype.items()
        if reasons
    ]
    if rounded:
        return Claim(part, "up to rounding", f"{why}; {'; '.join(rounded)}")
    stored = " and ".join(by_dtype)
    return Claim(
        part,
        "exactly",
        f"{why}; no stored {stored} weight is rounded, only sums run in another order at run time",
    )


def _roundings(tile: Tile, dtype: str) -> list[str]:
    """Why stored values of a rule are not exact."""
    reasons = []
    numbers = dict.fromkeys((tile.divisor, *(number for axis in tile.divisors for number in axis)))
    uneven = [number for number in numbers if frexp(number)[0] != 0.5]
    if uneven:
        reasons += [f"division by {number:.6g}" for number in uneven]
    elif list(numbers) != [1] and _FORMATS[dtype][1] > -126:
        reasons.append("divided values may fall below the normal range")
    if tile.shift:
        reasons.append("shift of a norm")
    if tile.noise is not None:
        reasons.append("noise that otherwise cancels")
    return reasons


def make_warnings(
    rules: Sequence[Rule], layout: ModelLayout, layer_index: Sequence[int], ratios: Ratios, options: GrowthOptions
) -> tuple[str, ...]:
    """What the user should know before they train or use the target. `layout` is the target's: untied where asked."""
    warnings = list(layout.notes)
    width = max(ratio for symbol, ratio in ratios.items() if symbol != "vocab")
    tiles = [rule.how for rule in rules if isinstance(rule.how, Tile)]
    copies = any(tile.n_in > 1 for tile in tiles)
    if any(isinstance(rule.how, Learned) for rule in rules):
        warnings += _learned_warnings(width, options)
    elif copies and all(tile.noise is None for tile in tiles):
        remedy = "Use noise (10 dB is the default) unless something else breaks it."
        if options.width_operator not in ("hypercloning", "net2net"):
            remedy = f"{options.width_operator} takes no noise: train with dropout, or take net2net."
        warnings.append(
            "Symmetry lock: without noise the copies of a feature get equal gradients, and without dropout they stay equal for "
            f"ever: the target trains like the source. {remedy}"
        )
    elif copies:
        warnings += _still_equal(rules)
    warnings += [*_lost_noise(rules), *dead_units(rules, layout)]
    if list(layer_index) != list(range(layout.num_layers)):
        warnings += [*layout.depth_warnings, *pattern_warnings(layout, layer_index)]
        unused = sorted({*range(layout.num_layers)} - {*layer_index}) if options.depth_operator != "ligo" else []
        if unused:
            warnings.append(f"Source layers {', '.join(map(str, unused))} are not used.")
        if len(layer_index) < layout.num_layers:
            warnings.append(f"The target has fewer layers ({len(layer_index)}) than the source ({layout.num_layers}).")
    norm = {layout.tensors[name].group for name in layout.head_norm} if layout.tied_head else set()
    scaled = [rule for rule in rules if rule.group in norm and rule.divisor != 1]
    if scaled:
        names = " and ".join(rule.target for rule in scaled)
        warnings.append(
            f"The LM head stays tied to the embedding; the norm before it is divided by {scaled[0].divisor:.6g} in its place "
            f"({names}). Hidden states read after that norm are scaled; --untie divides a head of its own instead."
        )
    if options.dtype == "float16" and any(_dtypes(rule, layout) - {"float16"} for rule in rules):
        warnings.append("float16 holds no number above 65504 and few below 6e-8: larger weights are refused.")
    if options.untie and layout.head_name not in layout.ties:
        warnings.append("The model has no tied LM head, so that there is nothing to untie.")
    return tuple(warnings)


def _learned_warnings(width: Ratio, options: GrowthOptions) -> list[str]:
    if width == 1 or options.init_noise > 0 or options.width_init in ("normal", "convex"):
        return []
    return [
        "Symmetry lock: without noise at the start the copies of a feature get equal gradients, in the operator's training and "
        "in the model's: they stay equal for ever. Use --init-noise (0.03 is the default)."
    ]


def _lost_noise(rules: Sequence[Rule]) -> list[str]:
    """Noise of less than half a step of the format, at a weight of the size that it is measured by."""
    lost: dict[str, float] = {}
    for rule in rules:
        noise = rule.how.noise if isinstance(rule.how, Tile) else None
        if noise is None or noise.snr_db is None or rule.spec.dtype not in _FORMATS:
            continue
        if noise.snr_db > _most_decibels(rule.spec.dtype):
            lost[rule.spec.dtype] = noise.snr_db
    return [
        f"Noise {decibels:g} dB below the weights is less than half a step between {dtype} numbers: most entries of the copies "
        f"are stored as equals. Up to {int(_most_decibels(dtype))} dB can be stored."
        for dtype, decibels in lost.items()
    ]


def _most_decibels(dtype: str) -> float:
    return 20 * (_FORMATS[dtype][0] + 1) * log10(2)


def _still_equal(rules: Sequence[Rule]) -> list[str]:
    grown = [
        rule.target
        for rule in rules
        if rule.kind == "linear" and rule.layer is None and isinstance(rule.how, Tile) and rule.how.n_out > 1
    ]
    if not grown:
        return []
    names = ", ".join(grown)
    warning = (
        f"Noise goes into the layers only: the copies that {names} puts out start equal, and stay equal in training unless "
        "dropout or a tied embedding separates them."
    )
    return [warning]

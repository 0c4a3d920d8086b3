"""Larger heads, their number kept: every tensor of attention, whichever operator grows the rest.

Where nothing turns the features of a head, queries, keys and values stand in n copies inside it; n copies in a score over a
divisor sqrt(n) times as large are made up for by queries divided by sqrt(n). Where pair j of a head turns by the angle of
pair n j of a larger one (RoPE), it goes there, and the pairs between get copies of its queries and no keys: the score stays,
and all of it trains. Keys are multiplied by sqrt(n) for the larger divisor; a norm of theirs sees the same mean square then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import sqrt
from typing import TypeVar

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.heads import HEADS, Role, check_scores, roles_of
from growkernels.operators.base import Ratios
from growkernels.plans import NEW, Fill, IndexVector, Noise, Segment, Tile

_T = TypeVar("_T")
#: A segment, and what its source entries are divided by.
_Divided = tuple[Segment, float]


def check_heads(layout: ModelLayout, ratios: Ratios) -> int:
    """How many times as large heads become. Raises GrowthError where they cannot."""
    copies = ratios.get("head_dim", 1)
    if copies == 1:
        return 1
    if layout.model_type not in HEADS:
        raise GrowthError(
            f"head_dim cannot grow in a {layout.model_type}: what is inside its heads is known of {', '.join(HEADS)}. Give "
            f"num_heads instead."
        )
    if not isinstance(copies, int) or ratios["heads"] != 1 or ratios["kv_heads"] != 1:
        raise GrowthError(
            f"head_dim grows by whole numbers, by itself or with hidden_size, and by {float(copies):g} times with "
            f"{float(ratios['heads']):g} times the heads it does not. Give a multiple of {layout.sizes['head_dim']}, and grow "
            f"heads in another step."
        )
    check_scores(layout)
    return copies


def widen_heads(
    tile: Tile, tensor: TensorLayout, layout: ModelLayout, copies: int, rotary: int, noise_db: float | None
) -> Tile:
    """The tile of a tensor with the features of its heads in `copies` times their number.

    rotary: how many features of a head are turned; noise_db: of noise on copies that a product sums over, None for none.
    """
    scaled = HEADS[layout.model_type].scaled
    for axis in range(len(tensor.axes)):
        roles = roles_of(tensor, axis, layout)
        if not roles:
            continue
        if roles == ("o",):
            heads = layout.sizes["heads"]
            axes = _replaced(tile.axes, axis, IndexVector.tile(tensor.axes[axis].size, copies, heads))
            noise = None if noise_db is None or tensor.layer is None else Noise(noise_db)
            return replace(tile, axes=axes, divisor=tile.divisor * copies, noise=noise)
        if tensor.kind == "norm":
            return _norm(tile, tensor, layout, roles[0], copies, scaled)
        return _projection(tile, axis, _axis(tensor, axis, layout, roles, copies, rotary, scaled))
    return tile


def _axis(
    tensor: TensorLayout,
    axis: int,
    layout: ModelLayout,
    roles: Sequence[Role],
    copies: int,
    rotary: int,
    scaled: bool,
) -> Iterable[_Divided]:
    size, start = layout.sizes["head_dim"], 0
    norms = any(_is_norm_of_keys(other, layout) for other in layout.tensors.values())
    for number, part in enumerate(tensor.axes[axis].parts):
        # Parts one after another, or all of them in every head.
        inside = roles if len(tensor.axes[axis].parts) == 1 else roles[number : number + 1]
        whole = part.size // size if len(inside) == 1 else 1
        for first in range(start, start + part.size, whole * size):
            role = inside[(first - start) // size % len(inside)]
            yield from _heads(role, first, whole, size, copies, rotary, scaled, norms)
        start += part.size


def _heads(
    role: Role, start: int, heads: int, size: int, copies: int, rotary: int, scaled: bool, norms: bool
) -> Iterable[_Divided]:
    """The features of consecutive heads from `start` on."""
    if role == "v" or not rotary:
        divisor = (sqrt(copies) if scaled else copies) if role == "q" else 1.0
        yield Segment(start, heads * size, copies, heads), float(divisor)
        return
    if role == "q" and rotary == size:
        yield Segment(start, heads * size, copies, heads * size), 1.0
        return
    divisor = 1 / sqrt(copies) if role == "k" and (scaled or norms) else 1.0
    for first in range(start, start + heads * size, size):
        left = size - rotary
        if role == "q":
            yield from ((Segment(first, rotary, copies, rotary), 1.0), (Segment(first + rotary, left, copies), 1.0))
            continue
        for feature in range(first, first + rotary):
            yield from ((Segment(feature, 1), divisor), (Segment(NEW, copies - 1), divisor))
        yield from ((Segment(first + rotary, left), divisor), (Segment(NEW, (copies - 1) * left), divisor))


def _projection(tile: Tile, axis: int, found: Iterable[_Divided]) -> Tile:
    kept = [(segment, divisor) for segment, divisor in found if segment.length]
    index, numbers = IndexVector(tuple(segment for segment, _ in kept)), tuple(divisor for _, divisor in kept)
    one, divisors = numbers[0], tile.divisors
    if len(set(numbers)) > 1:
        one, divisors = 1.0, _replaced(divisors or ((),) * len(tile.axes), axis, numbers)
    return replace(
        tile,
        axes=_replaced(tile.axes, axis, index),
        divisor=tile.divisor * one,
        divisors=divisors,
        # No keys between the pairs, neither of old nor of new features of the stream.
        fill=(tile.fill[0], Fill(), Fill()) if index.has_new else tile.fill,
    )


def _norm(tile: Tile, tensor: TensorLayout, layout: ModelLayout, role: Role, copies: int, scaled: bool) -> Tile:
    size, offset = tensor.axes[0].size, layout.norm_offset
    if role == "q":
        return replace(tile, axes=(IndexVector.interleave(size, copies),))
    segments = (s for feature in range(size) for s in (Segment(feature, 1), Segment(NEW, copies - 1)))
    # The factor that keys take for their norm's sake is one too many where scores are not divided by a larger number.
    divisor = 1.0 if scaled else sqrt(copies)
    axes = (IndexVector(tuple(segments)),)
    return replace(tile, axes=axes, divisor=divisor, shift=offset / divisor - offset, fill=(Fill(1.0 - offset),) * 3)


def _is_norm_of_keys(tensor: TensorLayout, layout: ModelLayout) -> bool:
    return tensor.kind == "norm" and roles_of(tensor, 0, layout) == ("k",)


def _replaced(values: tuple[_T, ...], axis: int, value: _T) -> tuple[_T, ...]:
    return (*values[:axis], value, *values[axis + 1 :])

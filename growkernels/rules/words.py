"""Tiles in words, for plans that people read."""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose
from typing import TYPE_CHECKING

from growkernels.rules.index import MEAN, NEW, IndexVector

if TYPE_CHECKING:
    from growkernels.rules.tile import Tile

_NAMES = {NEW: "new", MEAN: "mean"}
#: Parts of an axis that are named one by one.
_MOST_PARTS = 6


def tile_words(tile: Tile) -> str:
    """In words, such as `tile 2x2, /2, noise 10 dB`: copies by axis, divisors, shift, structure, noise, fills."""
    fills = " | ".join(dict.fromkeys(map(str, tile.fill)))
    if any(axis.is_new for axis in tile.axes):
        return fills
    words = [_copies(tile.axes)]
    if tile.divisor != 1:
        words.append(f"/{_number(tile.divisor)}")
    for axis in tile.divisors:
        numbers = dict.fromkeys(map(_number, axis))
        if numbers and list(numbers) != ["1"]:
            words.append(f"/[{' '.join(numbers)}]")
    if tile.shift:
        words.append(f"{tile.shift:+.6g}")
    if tile.diagonal:
        words.append("diagonal")
    if tile.noise is not None:
        words.append("noise" if tile.noise.snr_db is None else f"noise {tile.noise.snr_db:g} dB")
        if tile.noise.share is not None:
            words[-1] += f" shared by {tile.noise.share[1]}"
    if any(s.start == NEW for axis in tile.axes for s in axis.segments):
        words.append(f"new {fills}")
    if tile.blend is not None:
        words.append(f"{tile.blend.share:.0%} noise")
    return ", ".join(words)


def _copies(axes: Sequence[IndexVector]) -> str:
    copies = [_axis_copies(axis) for axis in axes]
    if set(copies) <= {"1"}:
        return "copy"
    return f"repeat {copies[0]}" if len(copies) == 1 else f"tile {'x'.join(copies)}"


def _axis_copies(axis: IndexVector) -> str:
    """Copies of an axis; part by part, as `[2 2 1]`, where the parts are not the same."""
    if axis.uniform:
        return str(axis.copies)
    words = [_NAMES.get(s.start, str(s.copies)) for s in axis.segments]
    return f"[{' '.join(words)}]" if len(words) <= _MOST_PARTS else f"[{' '.join(words[:2])} ..]"


def _number(value: float) -> str:
    root = round(value * value)
    return f"sqrt({root})" if value != round(value) and isclose(value * value, root) else f"{value:g}"

"""Rules as the two flat number lists that cross the op boundary, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from growkernels.errors import GrowthError
from growkernels.ops.tile.spec import TileSpec


def signed(key: int) -> int:
    """An unsigned 64-bit key as the signed integer that op schemas carry; what does not fit stays for the op to refuse."""
    return key - 2**64 if 2**63 <= key < 2**64 else key


def pack(specs: Iterable[TileSpec]) -> tuple[list[int], list[float]]:
    """`layout` and `scalars` of `tile_rules_`; see the schema. Raises GrowthError for axes that are not whole segments."""
    layout: list[int] = []
    scalars: list[float] = []
    for spec in specs:
        rows, cols = spec.rows, spec.cols
        if len(rows) % 4 or len(cols) % 4:
            name, flat = ("rows", rows) if len(rows) % 4 else ("cols", cols)
            raise GrowthError(f"{name} has {len(flat)} numbers; expected (start, length, copies, groups) per segment")
        layout += (len(rows) // 4, *rows, len(cols) // 4, *cols, 1 if spec.diagonal else 0, signed(spec.key))
        column, row, both = spec.fill
        scalars += (spec.divisor, spec.shift, spec.noise_std, *column, *row, *both)
    return layout, scalars


def unpack(layout: Sequence[int], scalars: Sequence[float]) -> list[TileSpec]:
    """The inverse of `pack`; keys stay signed."""
    specs: list[TileSpec] = []
    at = 0
    for start in range(0, len(scalars), 9):
        axes = []
        for _ in range(2):
            end = at + 1 + 4 * layout[at]
            axes.append(tuple(layout[at + 1 : end]))
            at = end
        divisor, shift, std, c0, s0, c1, s1, c2, s2 = scalars[start : start + 9]
        fill = ((c0, s0), (c1, s1), (c2, s2))
        specs.append(TileSpec(axes[0], axes[1], divisor, shift, bool(layout[at]), std, layout[at + 1], fill))
        at += 2
    return specs

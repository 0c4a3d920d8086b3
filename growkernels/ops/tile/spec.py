"""The general rule of `tile` as kernels take it: plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

from growkernels.errors import GrowthError


@dataclass(frozen=True, slots=True)
class TileSpec:
    """`target[r, c] = weight[rows[r], cols[c]] / divisor + shift + noise`, and fills where an index is new.

    `rows` and `cols` are index vectors as flat segments `(start, length, copies, groups)`: `length` source indices from
    `start` in `groups` equal groups, each laid down `copies` times; start -1 marks `length` new indices. A 1-D tensor is one
    row: `rows=(0, 1, 1, 1)`. `diagonal` keeps the column copy equal to the row copy (mod the number of column copies) and
    puts zero elsewhere, before the shift. `noise_std` (in the target's units) adds noise version 1, field 0, over the
    column copies. `fill` holds (constant, std) of the entries old row x new column, new x old, new x new; where std is not
    zero the normals come from fields 3, 2 and 4. `key`: unsigned 64 bits.
    """

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    divisor: float = 1.0
    shift: float = 0.0
    diagonal: bool = False
    noise_std: float = 0.0
    key: int = 0
    fill: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0))

    @property
    def n_in(self) -> int:
        """Number of column copies; the segments with a source must agree where noise or the diagonal depends on it."""
        copies = {c for start, c in zip(self.cols[::4], self.cols[2::4], strict=True) if start >= 0}
        if len(copies) > 1 and (self.noise_std or self.diagonal):
            raise GrowthError(
                f"noise and the diagonal structure need one number of column copies, the segments have {sorted(copies)}; "
                f"grow the parts as separate tensors or without noise"
            )
        return max(copies, default=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the target."""
        rows, cols = (
            sum(length * copies for length, copies in zip(flat[1::4], flat[2::4], strict=True))
            for flat in (self.rows, self.cols)
        )
        return rows, cols

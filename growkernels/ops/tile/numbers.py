"""One rule in matrix form as kernels read it, plain numbers: the Python twin of `Segment` and `RuleNumbers` in csrc."""

from __future__ import annotations

from dataclasses import dataclass

from growkernels.errors import GrowthError
from growkernels.rules.index import IndexVector, Segment
from growkernels.rules.tile import Fill, Noise, Tile


@dataclass(frozen=True, slots=True)
class RuleNumbers:
    """`target[r, c] = weight[rows[r], cols[c]] / divisor + shift + noise`, and fills where an index is new.

    `rows` and `cols` are index vectors as flat segments `(start, length, copies, groups)`, start -1 for new entries; a vector
    is one row. `diagonal` compares the column copy with the row copy, modulo the number of column copies. `noise_std` is in the
    target's units, over the column copies. `fill` holds (constant, std) of the entries old row x new column, new x old, new x
    new, drawn from fields 3, 2 and 4 of the noise. `key`: 64 bits, signed or not.
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

    def tile(self) -> Tile:
        """The rule of the matrix."""
        rows, cols = (
            IndexVector(tuple(Segment(*flat[at : at + 4]) for at in range(0, len(flat), 4)))
            for flat in (self.rows, self.cols)
        )
        noise = Noise(std=self.noise_std) if self.noise_std else None
        column, row, both = (Fill(mean, std) for mean, std in self.fill)
        return Tile((rows, cols), 1, self.divisor, self.shift, self.diagonal, noise, (column, row, both), self.key)

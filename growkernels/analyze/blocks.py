"""Blocks of a matrix compared: how equal the copies of its outputs and of its inputs are, in one pass over the file."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch

from growkernels.analyze.matrices import CACHED

#: Unrelated features are compared in one of so many chunks.
_CONTROLS = 8
#: Differences below this share of the norms are taken entry by entry: products in float32 would cancel.
_CANCELS = 0.05


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike the copies are along one direction.

    Attributes:
        cosine: Mean cosine of the copies, weights flattened.
        chance: The same with one of the two shifted by a feature: what unrelated features have.
        distance: Root mean square difference of neighboring copies, as a share of their norm; 0 if all are equal.
    """

    cosine: float
    chance: float
    distance: float


@dataclass(frozen=True, slots=True)
class BlockStatistics:
    """A matrix of n_out x n_in blocks.

    Attributes:
        n_out: Copies of the outputs.
        n_in: Copies of the inputs.
        outputs: Rows of blocks against each other; None for one.
        inputs: Columns of blocks against each other; None for one.
        diagonal: Each block against the one below and to the right; None unless n_out = n_in.
        sum_distance: How far the sums over the input copies differ between output copies, as a share; None unless both.
        norm: Frobenius norm.
    """

    n_out: int
    n_in: int
    outputs: Likeness | None
    inputs: Likeness | None
    diagonal: Likeness | None
    sum_distance: float | None
    norm: float

    def symmetry(self) -> tuple[str, Likeness] | None:
        """The pattern that fits best and how well: `all copies alike` or `diagonal`; None where nothing is compared."""
        found = [likeness for likeness in (self.outputs, self.inputs) if likeness is not None]
        if not found:
            return None
        alike = min(found, key=lambda likeness: likeness.cosine - likeness.chance)
        alike = Likeness(alike.cosine, alike.chance, max(likeness.distance for likeness in found))
        diagonal = self.diagonal
        # Where all copies are alike, those along a diagonal are too, and differ by less of the noise.
        if diagonal is not None and diagonal.cosine - diagonal.chance > 2 * (alike.cosine - alike.chance):
            return "diagonal", diagonal
        return "all copies alike", alike


def compare_blocks(matrix: torch.Tensor, n_out: int, n_in: int) -> BlockStatistics:
    """Compare the copies of a matrix.

    Args:
        matrix: [n_out * a, n_in * b], any float dtype, any strides; read in chunks, never copied as a whole.
        n_out: Copies of the outputs, each a rows one after the other.
        n_in: Copies of the inputs.

    Returns:
        Cosines and distances, sums in float64 over chunks in float32.
    """
    blocks = matrix.unflatten(1, (n_in, -1)).unflatten(0, (n_out, -1))  # [n_out, a, n_in, b]
    sums = _Sums(n_out, n_in)
    # At least 16 rows a chunk, so that there are others to compare with.
    columns = max(1, min(blocks.shape[3], CACHED // (16 * n_out * n_in)))
    rows = max(1, CACHED // (n_out * n_in * columns))
    number = 0
    for start in range(0, blocks.shape[1], rows):
        for left in range(0, blocks.shape[3], columns):
            piece = blocks[:, start : start + rows, :, left : left + columns].permute(0, 2, 1, 3)
            sums.add(piece.contiguous().float(), control=number % _CONTROLS == 0)
            number += 1
    return sums.result()


class _Sums:
    """Inner products and distances of the blocks, added up over chunks."""

    def __init__(self, n_out: int, n_in: int) -> None:
        self.n_out, self.n_in = n_out, n_in
        count = n_out * n_in
        self.products, self.compared, self.shifted_rows, self.shifted_columns = (
            torch.zeros(count, count, dtype=torch.float64) for _ in range(4)
        )
        self.apart = dict.fromkeys(("outputs", "inputs", "diagonal", "sums"), 0.0)
        self.summed = 0.0

    def add(self, piece: torch.Tensor, control: bool) -> None:
        """One chunk, [n_out, n_in, rows, columns] in float32; of some the products of unrelated features are taken, too."""
        count = self.n_out * self.n_in
        flat = piece.reshape(count, -1)
        products = (flat @ flat.T).double()
        self.products += products
        if control:
            # Features next to each other are as unrelated as any, but share what all have in common, such as a mean.
            self.shifted_rows += (flat @ piece.roll(1, 2).reshape(count, -1).T).double()
            self.shifted_columns += (flat @ piece.roll(1, 3).reshape(count, -1).T).double()
            self.compared += products
        grid = products.reshape(self.n_out, self.n_in, self.n_out, self.n_in)
        if self.n_out > 1:
            self._distance("outputs", _over(grid, 1), piece.flatten(1))
        if self.n_in > 1:
            self._distance("inputs", _over(grid, 0), piece.transpose(0, 1))
        if self.n_out == self.n_in > 1:
            self._diagonal_distance(grid, piece)
        if self.n_out > 1 and self.n_in > 1:
            sums = grid.sum((1, 3))
            self._distance("sums", sums, piece.sum(1) if _near(_cyclic(sums), float(sums.trace())) else piece)
            self.summed += float(sums.trace())

    def _distance(self, name: str, gram: torch.Tensor, parts: torch.Tensor) -> None:
        """Differences of neighbors, from their products, or from themselves where products would cancel."""
        squares = _cyclic(gram)
        if _near(squares, float(gram.trace())):
            squares = sum(float((parts[i - 1] - parts[i]).square().sum()) for i in range(len(parts)))
        self.apart[name] += squares

    def _diagonal_distance(self, grid: torch.Tensor, piece: torch.Tensor) -> None:
        norm = float(torch.einsum("abab->", grid))
        squares = 2 * (norm - _along_diagonal(grid))
        if _near(squares, norm):
            squares = float((piece - piece.roll((-1, -1), (0, 1))).square().sum())
        self.apart["diagonal"] += squares

    def result(self) -> BlockStatistics:
        """The figures of all chunks."""
        n_out, n_in = self.n_out, self.n_in
        totals = (self.products, self.compared, self.shifted_rows, self.shifted_columns)
        k, k_control, by_rows, by_columns = (total.reshape(n_out, n_in, n_out, n_in) for total in totals)
        norm = float(self.products.trace())
        outputs = inputs = diagonal = None
        if n_out > 1:
            outputs = self._likeness("outputs", norm, *(_over(total, 1) for total in (k, k_control, by_rows)))
        if n_in > 1:
            inputs = self._likeness("inputs", norm, *(_over(total, 0) for total in (k, k_control, by_columns)))
        if n_out == n_in > 1:
            chance = _ratio(_along_diagonal(by_rows), float(self.compared.trace()))
            distance = _share(self.apart["diagonal"], norm)
            diagonal = Likeness(_ratio(_along_diagonal(k), norm), chance, distance)
        sums = _share(self.apart["sums"], self.summed) if n_out > 1 and n_in > 1 else None
        return BlockStatistics(n_out, n_in, outputs, inputs, diagonal, sums, sqrt(norm))

    def _likeness(
        self, name: str, norm: float, gram: torch.Tensor, gram_control: torch.Tensor, control: torch.Tensor
    ) -> Likeness:
        pairs = ~torch.eye(len(gram), dtype=torch.bool)
        cosine, chance = (
            float((products / _lengths(of))[pairs].mean()) for products, of in ((gram, gram), (control, gram_control))
        )
        return Likeness(cosine, chance, _share(self.apart[name], norm))


def _lengths(gram: torch.Tensor) -> torch.Tensor:
    lengths = gram.diagonal().clamp(min=0).sqrt()
    return torch.outer(lengths, lengths).clamp(min=torch.finfo(torch.float64).tiny)


def _cyclic(gram: torch.Tensor) -> float:
    """Sum of the squared differences of each part and the next one, the last and the first included."""
    return 2 * float(gram.trace() - (gram * torch.eye(len(gram), dtype=gram.dtype).roll(1, 0)).sum())


def _along_diagonal(grid: torch.Tensor) -> float:
    """Sum of the products of each block with the one below and to the right."""
    n = len(grid)
    return sum(float(grid[a, b, (a + 1) % n, (b + 1) % n]) for a in range(n) for b in range(n))


def _near(squares: float, norm: float) -> bool:
    return squares < _CANCELS * norm


def _over(k: torch.Tensor, axis: int) -> torch.Tensor:
    """Products of whole rows (axis 1) or columns (axis 0) of blocks."""
    return torch.einsum("abcb->ac", k) if axis == 1 else torch.einsum("abad->bd", k)


def _ratio(value: float, of: float) -> float:
    return value / of if of else 0.0


def _share(difference: float, of: float) -> float:
    return sqrt(max(0.0, difference) / of) if of else 0.0

"""Blocks of a matrix compared: how equal the copies of its outputs and of its inputs are, in one pass over the file."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch

from growkernels.analyze.matrices import CHUNK


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
    rows = max(1, CHUNK // matrix.shape[1] // n_out)
    columns = max(1, CHUNK // (n_out * n_in))
    for start in range(0, blocks.shape[1], rows):
        for left in range(0, blocks.shape[3], columns):
            piece = blocks[:, start : start + rows, :, left : left + columns]
            sums.add(piece.permute(0, 2, 1, 3).to(torch.float32, memory_format=torch.contiguous_format).contiguous())
    return sums.result()


class _Sums:
    """Inner products and distances of the blocks, added up over chunks."""

    def __init__(self, n_out: int, n_in: int) -> None:
        self.n_out, self.n_in = n_out, n_in
        count = n_out * n_in
        self.products = torch.zeros(count, count, dtype=torch.float64)
        self.shifted = torch.zeros(count, count, dtype=torch.float64)
        self.apart = dict.fromkeys(("outputs", "inputs", "diagonal", "sums"), 0.0)
        self.summed = 0.0

    def add(self, piece: torch.Tensor) -> None:
        """One chunk, [n_out, n_in, rows, columns] in float32."""
        count = self.n_out * self.n_in
        flat = piece.reshape(count, -1)
        # Both axes: features next to each other are as unrelated as any.
        other = piece.roll((1, 1), (2, 3)).reshape(count, -1)
        self.products += (flat @ flat.T).double()
        self.shifted += (flat @ other.T).double()
        if self.n_out > 1:
            self._distance("outputs", piece, piece.roll(-1, 0))
        if self.n_in > 1:
            self._distance("inputs", piece, piece.roll(-1, 1))
        if self.n_out == self.n_in > 1:
            self._distance("diagonal", piece, piece.roll((-1, -1), (0, 1)))
        if self.n_out > 1 and self.n_in > 1:
            total = piece.sum(1)
            self._distance("sums", total, total.roll(-1, 0))
            self.summed += float(total.square().sum(dtype=torch.float64))

    def _distance(self, name: str, one: torch.Tensor, two: torch.Tensor) -> None:
        self.apart[name] += float((one - two).square().sum(dtype=torch.float64))

    def result(self) -> BlockStatistics:
        """The figures of all chunks."""
        n_out, n_in = self.n_out, self.n_in
        k = self.products.reshape(n_out, n_in, n_out, n_in)
        c = self.shifted.reshape(n_out, n_in, n_out, n_in)
        norm = float(self.products.trace())
        outputs = inputs = diagonal = None
        if n_out > 1:
            outputs = self._likeness(_over(k, 1), _over(c, 1), "outputs", norm)
        if n_in > 1:
            inputs = self._likeness(_over(k, 0), _over(c, 0), "inputs", norm)
        if n_out == n_in > 1:
            diagonal = self._diagonal(k, c, norm)
        sums = _share(self.apart["sums"], self.summed) if n_out > 1 and n_in > 1 else None
        return BlockStatistics(n_out, n_in, outputs, inputs, diagonal, sums, sqrt(norm))

    def _likeness(self, gram: torch.Tensor, control: torch.Tensor, name: str, norm: float) -> Likeness:
        lengths = gram.diagonal().clamp(min=0).sqrt()
        scale = torch.outer(lengths, lengths).clamp(min=torch.finfo(torch.float64).tiny)
        pairs = ~torch.eye(len(gram), dtype=torch.bool)
        cosines, chances = (gram / scale)[pairs], (control / scale)[pairs]
        return Likeness(float(cosines.mean()), float(chances.mean()), _share(self.apart[name], norm))

    def _diagonal(self, k: torch.Tensor, c: torch.Tensor, norm: float) -> Likeness:
        n = self.n_out
        aligned = sum(float(k[a, b, (a + 1) % n, (b + 1) % n]) for a in range(n) for b in range(n))
        chance = sum(float(c[a, b, (a + 1) % n, (b + 1) % n]) for a in range(n) for b in range(n))
        return Likeness(
            aligned / norm if norm else 0.0, chance / norm if norm else 0.0, _share(self.apart["diagonal"], norm)
        )


def _over(k: torch.Tensor, axis: int) -> torch.Tensor:
    """Products of whole rows (axis 1) or columns (axis 0) of blocks."""
    return torch.einsum("abcb->ac", k) if axis == 1 else torch.einsum("abad->bd", k)


def _share(difference: float, of: float) -> float:
    return sqrt(difference / of) if of else 0.0

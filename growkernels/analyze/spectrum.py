"""Singular values and effective rank: exact where the smaller side allows it, else randomized, with bounds."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt

import torch

from growkernels.analyze.matrices import CHUNK, Checkpoint

#: Smaller side up to which all singular values are computed, through the eigenvalues of the Gram matrix in float64.
_EXACT = 4096
#: Singular values, power iterations and largest number of entries of the randomized decomposition.
_RANK, _ITERATIONS, _MOST = 256, 2, 1 << 26
#: Points of a spectrum that are kept.
_POINTS = 64


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of one matrix.

    Attributes:
        name: The tensor.
        kind: Its name with `{}` for the layer.
        layer: The layer's number; None outside.
        shape: [output, input].
        rank: Effective rank exp(-sum p ln p), p = s / sum s (Roy and Vetterli 2007): lowest and highest possible value, the
            same where all singular values are known.
        stable_rank: ||W||_F^2 / s_max^2.
        largest: s_max.
        method: `exact` or `randomized`.
        error: For exact ones the smallest singular value that is resolved, as a share of the largest; for randomized ones the
            share of the energy ||W||_F^2 outside of the computed singular values.
        sampled_rows: Rows that were used, where the matrix is too large for all.
        positions: Where the kept singular values stand, 0 to 1 of the smaller side.
        values: The kept singular values as shares of the largest, from the largest on.
    """

    name: str
    kind: str
    layer: int | None
    shape: tuple[int, int]
    rank: tuple[float, float]
    stable_rank: float
    largest: float
    method: str
    error: float
    sampled_rows: int
    positions: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def rank_share(self) -> float:
        """Effective rank (its middle, where it is only bounded) as a share of the smaller side."""
        return sum(self.rank) / 2 / min(self.shape)


def measure_spectra(checkpoint: Checkpoint) -> list[Spectrum]:
    """The spectrum of every matrix.

    Args:
        checkpoint: What is analyzed.

    Returns:
        One entry for each matrix that is not all zero, in file order.
    """
    found = []
    for weight in checkpoint.matrices:
        values, energy, method, error, rows = singular_values(weight.view)
        if not values[0]:
            continue
        side = min(weight.view.shape)
        keep = torch.linspace(0, len(values) - 1, min(_POINTS, len(values))).round().long().tolist()
        found.append(
            Spectrum(
                weight.name,
                weight.group,
                weight.layer,
                (weight.view.shape[0], weight.view.shape[1]),
                effective_rank(values, energy, side),
                energy / values[0] ** 2,
                values[0],
                method,
                error,
                rows,
                tuple(i / max(1, side - 1) for i in keep),
                tuple(values[i] / values[0] for i in keep),
            )
        )
    return found


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """The product with its transpose over the longer side, float64 [side, side], in chunks of the longer side."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.t()
    total = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64)
    for rows in tall.split(max(1, CHUNK // tall.shape[1])):
        chunk = rows.double()
        total.addmm_(chunk.t(), chunk)
    return total


def singular_values(matrix: torch.Tensor) -> tuple[list[float], float, str, float, int]:
    """Singular values of a matrix, from the largest on.

    Args:
        matrix: [rows, columns], any float dtype; finite.

    Returns:
        The values (256 of them if randomized), the energy (sum of squares of all), `exact` or `randomized`, the error (see
        `Spectrum`), and how many rows were used.
    """
    if min(matrix.shape) <= _EXACT:
        eigenvalues = torch.linalg.eigvalsh(gram(matrix)).flip(0).clamp(min=0)
        # Eigenvalues are off by a few units of float64 times the largest, so that their roots end there.
        floor = sqrt(torch.finfo(torch.float64).eps * len(eigenvalues))
        return eigenvalues.sqrt().tolist(), float(eigenvalues.sum()), "exact", floor, matrix.shape[0]
    step = max(1, -(-matrix.numel() // _MOST))
    rows = matrix[::step].float()
    energy = float(rows.double().square().sum()) if rows.numel() <= CHUNK else _energy(rows)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        values = torch.svd_lowrank(rows, q=_RANK, niter=_ITERATIONS)[1].double()
    left = max(0.0, energy - float(values.square().sum()))
    return values.tolist(), energy, "randomized", left / energy if energy else 0.0, rows.shape[0]


def _energy(rows: torch.Tensor) -> float:
    return sum(float(part.square().sum(dtype=torch.float64)) for part in rows.split(max(1, CHUNK // rows.shape[1])))


def effective_rank(values: list[float], energy: float, side: int) -> tuple[float, float]:
    """Bounds of the effective rank where only the first singular values are known; equal where all are.

    Args:
        values: Singular values, from the largest on.
        energy: Sum of the squares of all of them.
        side: How many there are.

    Returns:
        The rank if the rest of the energy is in as few singular values as can be, and if it is spread evenly over all.
    """
    rest, missing = max(0.0, energy - sum(v * v for v in values)), side - len(values)
    if not missing or not rest:
        rank = _rank(values, 0, 0.0)
        return rank, rank
    last = values[-1]
    few = min(missing, max(1, round(rest / last**2))) if last else missing
    return _rank(values, few, sqrt(rest / few)), _rank(values, missing, sqrt(rest / missing))


def _rank(values: list[float], more: int, each: float) -> float:
    total = sum(values) + more * each
    entropy = -sum(v / total * log(v / total) for v in values if v > 0)
    if more and each > 0:
        entropy -= more * each / total * log(each / total)
    return exp(entropy)

"""A checkpoint beside the source it grew from: what is still the source's, what has changed, and what is new."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from math import sqrt

import torch

from growkernels.analyze.copies import block_of
from growkernels.analyze.layers import Depth, match_layers, sample, sketches
from growkernels.analyze.matrices import CACHED, CHUNK, Checkpoint, Part, Weight, one_thread
from growkernels.analyze.spectrum import gram
from growkernels.errors import GrowthError

#: Share of a source matrix's energy that its directions are to hold; the rest is what any training leaves as noise.
_ENERGY = 0.99
#: Smaller side of a source matrix up to which its directions are computed.
_LARGEST_SIDE = 4096


@dataclass(frozen=True, slots=True)
class Change:
    """One matrix, or part of one, beside the source's.

    Attributes:
        name: The tensor.
        kind: Its name with `{}` for the layer, and the part.
        layer: The layer's number; None outside.
        source: The source's tensor.
        copies: Copies of outputs and inputs, by the shapes.
        apart: Share of the energy in differences between copies: what no noise-free clone has.
        changed: How far the mean of the copies is from the source, as a share of its norm, scale left free.
        new_directions: Share of the energy outside of the source's directions, copied; None where they were not computed.
    """

    name: str
    kind: str
    layer: int | None
    source: str
    copies: tuple[int, int]
    apart: float
    changed: float
    new_directions: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A checkpoint beside its source.

    Attributes:
        source: Its name.
        depth: Which source layer each layer comes from.
        changes: Matrix by matrix.
        unmatched: Tensors that are not whole copies of one of the source's.
    """

    source: str
    depth: Depth
    changes: tuple[Change, ...]
    unmatched: tuple[str, ...]


def compare(checkpoint: Checkpoint, source: Checkpoint, directions: bool) -> Comparison:
    """Compare a checkpoint with the one it grew from.

    Args:
        checkpoint: The large one.
        source: The small one.
        directions: Whether to compute the share of new directions, which takes a decomposition of each source matrix.

    Returns:
        The comparison.

    Raises:
        GrowthError: No tensor of the checkpoint is of whole copies of the source's.
    """
    pieces = {
        (weight.layer, weight.expert, label): (weight, rows, columns)
        for weight in source.matrices
        for label, rows, columns in weight.pieces()
    }
    kinds = {label: found for (_, _, label), found in pieces.items()}

    def folded(weight: Weight, rows: Part, columns: Part) -> torch.Tensor:
        label = next(label for label, r, c in weight.pieces() if (r, c) == (rows, columns))
        if label not in kinds:
            return torch.zeros(0)
        _, theirs_rows, theirs_columns = kinds[label]
        ratio = _ratio(rows, columns, theirs_rows, theirs_columns)
        return torch.zeros(0) if ratio is None else _folded_sample(block_of(weight, rows, columns), *ratio)

    depth = match_layers(sketches(checkpoint, folded), sketches(source, sample))
    changes, unmatched = [], []
    bases: dict[str, _Basis] = {}
    for weight in checkpoint.matrices:
        for label, rows, columns in weight.pieces():
            layer = weight.layer
            origin = layer if layer is None or layer >= len(depth.index) else depth.index[layer]
            found = pieces.get((origin, weight.expert, label))
            ratio = None if found is None else _ratio(rows, columns, found[1], found[2])
            if found is None or ratio is None:
                unmatched.append(weight.name)
                continue
            changes.append(_change(weight, label, block_of(weight, rows, columns), found, ratio, bases, directions))
    if not changes:
        raise GrowthError(
            f"{checkpoint.name} has no matrix that is a whole number of copies of one in {source.name}; name the checkpoint "
            f"that it grew from, or leave the reference out."
        )
    return Comparison(source.name, depth, tuple(changes), tuple(dict.fromkeys(unmatched)))


def _ratio(rows: Part, columns: Part, source_rows: Part, source_columns: Part) -> tuple[int, int] | None:
    n_out, n_in = rows.size // source_rows.size, columns.size // source_columns.size
    whole = n_out * source_rows.size == rows.size and n_in * source_columns.size == columns.size
    return (n_out, n_in) if whole and n_out and n_in else None


def _folded_sample(block: torch.Tensor, n_out: int, n_in: int) -> torch.Tensor:
    blocks = block.unflatten(1, (n_in, -1)).unflatten(0, (n_out, -1))
    sizes = [max(1, blocks.shape[axis] // 256) for axis in (1, 3)]
    chosen = blocks[:, : sizes[0] * 256 : sizes[0], :, : sizes[1] * 256 : sizes[1]]
    return chosen.float().sum((0, 2)).flatten()


def _change(
    weight: Weight,
    label: str,
    block: torch.Tensor,
    found: tuple[Weight, Part, Part],
    ratio: tuple[int, int],
    bases: dict[str, _Basis],
    directions: bool,
) -> Change:
    origin, rows, columns = found
    source = block_of(origin, rows, columns)
    copies = ratio
    if source.shape[0] < source.shape[1]:  # chunks are taken along the longer side
        source, block, ratio = source.t(), block.t(), ratio[::-1]
    basis = None
    if directions and source.shape[1] <= _LARGEST_SIDE:
        key = f"{origin.name} {rows.start} {columns.start}"
        if key not in bases:
            # Neighboring layers rarely share a source; one is kept, so that memory does not grow.
            bases.clear()
            bases[key] = _directions(source)
        basis = bases[key]
    # Without products of matrices more threads only wait for each other.
    with nullcontext() if basis is not None else one_thread():
        sums = _compare(source, block, ratio, basis)
    cosine = sums.inner / sqrt(sums.kept * sums.length) if sums.kept and sums.length else 0.0
    return Change(
        weight.name,
        label,
        weight.layer,
        origin.name,
        copies,
        max(0.0, 1 - sums.kept / sums.energy) if sums.energy else 0.0,
        sqrt(max(0.0, 1 - cosine**2)) if cosine > 0 else 1.0,
        None if basis is None or not sums.energy else max(0.0, 1 - sums.inside / sums.energy),
    )


@dataclass
class _Basis:
    """Right singular vectors of a tall matrix that hold 99 % of its energy, and their singular values."""

    vectors: torch.Tensor
    values: torch.Tensor


@dataclass
class _Energies:
    """Of the whole matrix, of its mean over copies, of the source, their product, and inside of the source's directions."""

    energy: float = 0.0
    kept: float = 0.0
    length: float = 0.0
    inner: float = 0.0
    inside: float = 0.0


def _compare(source: torch.Tensor, block: torch.Tensor, ratio: tuple[int, int], basis: _Basis | None) -> _Energies:
    """One pass over a tall source and what grew from it. Copies are folded into one with the same norm."""
    n_out, n_in = ratio
    blocks = block.unflatten(1, (n_in, -1)).unflatten(0, (n_out, -1))
    sums = _Energies()
    within = None if basis is None else torch.zeros(len(basis.values), source.shape[1])
    step = max(1, (CACHED if basis is None else CHUNK) // (block.shape[1] * n_out))
    for start in range(0, source.shape[0], step):
        part = blocks[:, start : start + step].float()
        origin = source[start : start + step].float()
        fold = part.sum((0, 2)) / sqrt(n_out * n_in)
        sums.energy += float(part.square().sum(dtype=torch.float64))
        sums.kept += float(fold.square().sum(dtype=torch.float64))
        sums.length += float(origin.square().sum(dtype=torch.float64))
        sums.inner += float((origin * fold).sum(dtype=torch.float64))
        if basis is not None and within is not None:
            within.addmm_((origin @ basis.vectors / basis.values).t(), fold)
    if basis is not None and within is not None:
        sums.inside = float((within @ basis.vectors).square().sum(dtype=torch.float64))
    return sums


def _directions(source: torch.Tensor) -> _Basis:
    eigenvalues, vectors = torch.linalg.eigh(gram(source))
    values = eigenvalues.flip(0).clamp(min=torch.finfo(torch.float64).tiny)
    count = int((values.cumsum(0) < _ENERGY * values.sum()).sum()) + 1
    return _Basis(vectors.flip(1)[:, :count].float(), values[:count].sqrt().float())

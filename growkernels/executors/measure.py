"""Checks and measurements of values: finite, in range, equal where the model ties them, mean and std of what is replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import NamedTuple

import numpy as np
import torch

from growkernels.errors import GrowthError
from growkernels.executors.sources.base import Tensors
from growkernels.plans import Fill, Rule, Tile

_PIECE = 1 << 22
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Use(NamedTuple):
    """A source tensor on its way into a target: the dtype that it must fit once it is divided."""

    name: str
    tensor: torch.Tensor
    dtype: torch.dtype
    divisor: float = 1.0


def check_values(
    uses: Sequence[Use], allow_nonfinite: bool = False, otherwise: str = "let them pass with --allow-nonfinite"
) -> None:
    """Raise GrowthError if a finite value over its divisor does not fit, or one is NaN or Inf and may not be.

    otherwise: the alternative to repairing the checkpoint, for the error message.
    """
    filled = [use for use in uses if use.tensor.numel()]
    for use, (low, high) in zip(filled, _ranges([use.tensor for use in filled]), strict=True):
        if not (isfinite(low) and isfinite(high)):
            if not allow_nonfinite:
                raise _nonfinite(use.name, use.tensor, otherwise)
            low, high = _finite_range(use.tensor)
        largest, limit = max(-low, high) / abs(use.divisor), torch.finfo(use.dtype).max
        if largest > limit:
            raise GrowthError(
                f"{use.name} reaches {largest:g} in the target, and {use.dtype} ends at {limit:g}; grow with --dtype "
                f"bfloat16 or float32."
            )


def _ranges(tensors: Sequence[torch.Tensor]) -> list[tuple[float, float]]:
    """Smallest and largest value of each tensor; NaN where it holds one."""
    alike: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for place, tensor in enumerate(tensors):
        alike.setdefault((tensor.device, tensor.dtype), []).append(place)
    ranges = [(0.0, 0.0)] * len(tensors)
    for places in alike.values():
        # Read together: on a GPU every value read by itself would wait for everything before it.
        bounds = torch.stack([torch.stack(torch.aminmax(tensors[place])) for place in places]).tolist()
        for place, (low, high) in zip(places, bounds, strict=True):
            ranges[place] = low, high
    return ranges


def _finite_range(tensor: torch.Tensor) -> tuple[float, float]:
    low = high = 0.0
    for _, piece in _pieces(tensor):
        finite = piece[piece.isfinite()]
        if finite.numel():
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


def _nonfinite(name: str, tensor: torch.Tensor, otherwise: str) -> GrowthError:
    nan = inf = 0
    first = None
    for start, piece in _pieces(tensor):
        bad = ~piece.isfinite()
        if first is None and bad.any():
            first = start + int(bad.nonzero()[0])
        nan += int(piece.isnan().sum())
        inf += int(piece.isinf().sum())
    index = [int(i) for i in torch.unravel_index(torch.tensor(first), tensor.shape)]
    return GrowthError(
        f"{name} has {nan} NaN and {inf} Inf among {tensor.numel()} values, the first at {index}. Repair the "
        f"checkpoint, or {otherwise}."
    )


def check_duplicates(source: Tensors, duplicates: Mapping[str, str]) -> None:
    """Raise GrowthError unless each stored duplicate of a tied tensor equals the other tensor bit for bit.

    duplicates: name -> the tensor that the model's class ties it to.
    """
    for name, original in duplicates.items():
        a, b = source.tensor(name), source.tensor(original)
        if a.dtype == b.dtype and a.shape == b.shape:
            bits = _BITS[a.dtype.itemsize]
            if all(
                torch.equal(x.view(bits), y.view(bits)) for (_, x), (_, y) in zip(_pieces(a), _pieces(b), strict=True)
            ):
                continue
        raise GrowthError(
            f"{name} and {original} differ, but the config ties them. Remove the wrong one, or set "
            f"tie_word_embeddings to false."
        )


def _pieces(tensor: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    flat = tensor.reshape(-1)
    return list(zip(range(0, flat.numel(), _PIECE), flat.split(_PIECE), strict=True)) if flat.numel() else []


def with_fills(rule: Rule, weights: Sequence[torch.Tensor]) -> Rule:
    """The rule with the measured mean and standard deviation of every fill that asks for those of the entries it replaces.

    They are of the source entries that the rule does not draw on, in float64 (the standard deviation over their number),
    rounded to float32: for new inputs of old outputs, the inputs that these outputs no longer have. Raises GrowthError if
    nothing is replaced.
    """
    tile = rule.how
    if not isinstance(tile, Tile) or not tile.is_measured:
        return rule
    weight = weights[0]
    last = len(tile.axes) - 1 if tile.sum_axis is None else tile.sum_axis
    matrix = weight.movedim(last, -1)
    old = [_drawn(axis.indices(), size).to(weight.device) for axis, size in zip(tile.axes, weight.shape, strict=True)]
    columns = old.pop(last)
    rows = torch.ones((), dtype=torch.bool, device=weight.device)
    for axis in old:
        rows = rows.unsqueeze(-1) & axis
    new_columns = tile.axes[last].has_new
    new_rows = any(axis.has_new for number, axis in enumerate(tile.axes) if number != last)
    quadrants = (new_columns, rows, ~columns), (new_rows, ~rows, columns), (new_rows and new_columns, ~rows, ~columns)
    column, row, both = (
        fill if fill.mean is not None else _fill(rule.target, matrix[of_rows][..., of_columns]) if there else Fill()
        for fill, (there, of_rows, of_columns) in zip(tile.fill, quadrants, strict=True)
    )
    return replace(rule, how=replace(tile, fill=(column, row, both)))


def _drawn(indices: np.ndarray, size: int) -> torch.Tensor:
    """Which source indices an axis draws on."""
    found = torch.zeros(size, dtype=torch.bool)
    found[torch.from_numpy(indices[indices >= 0])] = True
    return found


def _fill(target: str, replaced: torch.Tensor) -> Fill:
    wide = replaced.double()
    values = wide[wide.isfinite()].cpu().numpy()  # others were let through on request, and say nothing of the rest
    if not values.size:
        raise GrowthError(f"{target} replaces no entries of its source to measure its fill on; give Fill(mean, std).")
    return Fill(float(np.float32(values.mean())), float(np.float32(values.std())))

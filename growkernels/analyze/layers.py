"""Copies in depth: which layers are alike, and how many neighbors of the source are still neighbors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from growkernels.analyze.copies import block_of
from growkernels.analyze.matrices import Checkpoint, Part, Weight

#: Rows and columns of each matrix that are compared between layers.
_SAMPLE = 256
#: Cosine from which a layer counts as a copy of another one; trained layers that are no copies are near 0.
_COPY = 0.1

Sketch = Callable[[Weight, Part, Part], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Depth:
    """The layers of a checkpoint beside each other, or beside those of a source.

    Attributes:
        likeness: Mean cosine of each layer (rows) with each layer of the source or of itself (columns).
        index: For each layer the one it is a copy of: of the source, or the first of its own kind. None where it is of none.
        connection_rate: Share of neighboring layers that follow each other in `index` (arXiv 2405.15319); None if no layer is a
            copy, or there is one layer only.
    """

    likeness: tuple[tuple[float, ...], ...]
    index: tuple[int | None, ...]
    connection_rate: float | None


def compare_layers(checkpoint: Checkpoint) -> Depth:
    """Compare every layer with every other one.

    Args:
        checkpoint: What is analyzed.

    Returns:
        Likeness, and the first layer that each one is a copy of; layers that are of no other stand for themselves.
    """
    likeness = _likeness(sketches(checkpoint, sample), sketches(checkpoint, sample))
    index: list[int | None] = []
    for layer in range(len(likeness)):
        before = likeness[layer, :layer]
        best = int(before.argmax()) if layer else 0
        root = index[best] if layer and before[best] > _COPY else layer
        index.append(root)
    copied = any(root != layer for layer, root in enumerate(index))
    return Depth(_rows(likeness), tuple(index), connection_rate(index) if copied else None)


def match_layers(ours: dict[str, list[torch.Tensor]], theirs: dict[str, list[torch.Tensor]]) -> Depth:
    """Find the source layer of every layer.

    Args:
        ours: Sketches of the checkpoint's kinds of matrices, one for each layer, folded to the source's width.
        theirs: Those of the source.

    Returns:
        Likeness with the source's layers, and which one each layer comes from.
    """
    likeness = _likeness(ours, theirs)
    index = [int(row.argmax()) if len(row) and row.max() > _COPY else None for row in likeness]
    return Depth(_rows(likeness), tuple(index), connection_rate(index))


def connection_rate(index: Sequence[int | None]) -> float | None:
    """Share of neighboring layers, 0 to 1, of which the second follows the first in the source; None for one layer."""
    pairs = list(pairwise(index))
    kept = sum(one is not None and two == one + 1 for one, two in pairs)
    return kept / len(pairs) if pairs and any(layer is not None for layer in index) else None


def sketches(checkpoint: Checkpoint, sketch: Sketch) -> dict[str, list[torch.Tensor]]:
    """Of each kind of matrix that every layer has (experts left out): one flat sample for each layer."""
    found: dict[str, dict[int, torch.Tensor]] = defaultdict(dict)
    for weight in checkpoint.matrices:
        if weight.layer is None or weight.expert is not None:
            continue
        for label, rows, columns in weight.pieces():
            found[label][weight.layer] = sketch(weight, rows, columns)
    return {
        label: [by_layer[layer] for layer in range(checkpoint.layers)]
        for label, by_layer in found.items()
        if len(by_layer) == checkpoint.layers and len({len(s) for s in by_layer.values()}) == 1
    }


def sample(weight: Weight, rows: Part, columns: Part) -> torch.Tensor:
    """The same few rows and columns of every layer, float32 [at most 65536]."""
    block = block_of(weight, rows, columns)
    return few(block, 0).flatten().float()


def few(block: torch.Tensor, axis: int, count: int = _SAMPLE) -> torch.Tensor:
    """Evenly spaced rows and columns of the last two axes from `axis` on."""
    for side in (axis, axis + 1):
        step = max(1, block.shape[side] // count)
        block = block[(slice(None),) * side + (slice(0, step * count, step),)]
    return block


def _likeness(ours: dict[str, list[torch.Tensor]], theirs: dict[str, list[torch.Tensor]]) -> torch.Tensor:
    total, count = torch.zeros(0, 0), 0
    for label, mine in ours.items():
        other = theirs.get(label, [])
        if not mine or not other or len(mine[0]) != len(other[0]):
            continue
        cosine = _unit(torch.stack(mine)) @ _unit(torch.stack(other)).T
        total = total + cosine if count else cosine
        count += 1
    return (total / max(1, count)).double()


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows, dim=1)


def _rows(matrix: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())

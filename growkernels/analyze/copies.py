"""How many copies a matrix holds of its outputs and inputs, found by trying."""

from __future__ import annotations

from collections import Counter, defaultdict

import torch

from growkernels.analyze.blocks import compare_blocks
from growkernels.analyze.matrices import UNKNOWN, Checkpoint, Part, Weight

#: Numbers of copies that are tried; one that divides another is found through the larger one.
CANDIDATES = (2, 3, 4, 5, 6, 7, 8)
#: Rows and columns of each block that are compared to find the number of copies, and layers of each kind.
_SAMPLE, _LAYERS = 256, 3
#: Cosine above chance from which copies count as related, where the sample is large enough to show it.
RELATED = 0.02
#: For small samples: this many times the spread of a cosine of unrelated entries. Trained matrices have fewer free entries
#: than entries, which widens it.
_SPREADS = 8
#: A larger number of copies is taken if it fits nearly as well: four copies are two pairs of copies, too.
_NEARLY = 0.8

#: Share of the axes that count the same thing which must show the same number of copies.
_MAJORITY = 0.5
#: Axes that are never copied, and those that are copied with the residual stream or not at all: heads at the same place of a
#: rotary embedding are alike in any model.
_NEVER, _ALONE = ("vocab", "fixed"), ("hidden", "ffn")

#: Copies by what an axis counts, see `counted`.
Copies = dict[str, int]


def counted(part: Part) -> str:
    """What a part of an axis counts: its symbol, or its size where the layout is unknown."""
    return part.symbol if part.symbol != UNKNOWN else f"size {part.size}"


def find_copies(checkpoint: Checkpoint) -> Copies:
    """How many copies of hidden features, heads, feed-forward units there are, by a vote over all kinds of matrices.

    Args:
        checkpoint: What is searched.

    Returns:
        For everything that axes count, the number of copies; 1 for none.
    """
    # By size too: layers of a model may differ in it.
    samples: dict[tuple[str, int, int], list[tuple[Weight, Part, Part]]] = defaultdict(list)
    for weight in checkpoint.matrices:
        for label, rows, columns in weight.pieces():
            samples[label, rows.size, columns.size].append((weight, rows, columns))
    votes: dict[str, list[int]] = defaultdict(list)
    for found in samples.values():
        _, rows, columns = found[0]
        for part, number in zip((rows, columns), _best(_spread(found)), strict=True):
            votes[counted(part)].append(number)
    copies = {what: 1 if what in _NEVER else _elected(numbers) for what, numbers in votes.items()}
    if checkpoint.known:
        hidden = copies.get("hidden", 1)
        copies = {what: n if what in _ALONE or n == hidden else 1 for what, n in copies.items()}
    return copies


def _elected(numbers: list[int]) -> int:
    number, count = Counter(numbers).most_common(1)[0]
    return number if count >= _MAJORITY * len(numbers) else 1


def _spread(found: list[tuple[Weight, Part, Part]]) -> list[torch.Tensor]:
    """Views of a few, first, middle and last."""
    step = max(1, (len(found) - 1) // (_LAYERS - 1))
    return [block_of(weight, rows, columns) for weight, rows, columns in found[::step][:_LAYERS]]


def block_of(weight: Weight, rows: Part, columns: Part) -> torch.Tensor:
    """The view of one piece."""
    return weight.view[rows.start : rows.start + rows.size, columns.start : columns.start + columns.size]


def _best(blocks: list[torch.Tensor]) -> tuple[int, int]:
    height, width = blocks[0].shape
    out = _most({n: _excess(blocks, n, 1) for n in CANDIDATES if height % n == 0})
    into = _most({n: _excess(blocks, 1, n) for n in CANDIDATES if width % n == 0})
    if out == into == 1:
        out = into = _most({n: _excess(blocks, n, n) for n in CANDIDATES if height % n == width % n == 0})
    return out, into


def _most(excess: dict[int, float]) -> int:
    related = {n: value for n, value in excess.items() if value > 0}
    return max((n for n, value in related.items() if value >= _NEARLY * max(related.values())), default=1)


def _excess(blocks: list[torch.Tensor], n_out: int, n_in: int) -> float:
    """Mean cosine above chance, 0 unless it is beyond doubt; along the diagonal if both axes have copies."""
    total, entries = 0.0, 0
    for block in blocks:
        few = _sampled(block, n_out, n_in)
        found = compare_blocks(few, n_out, n_in)
        likeness = found.diagonal if n_out == n_in else found.outputs if n_out > 1 else found.inputs
        assert likeness is not None
        total, entries = total + likeness.cosine - likeness.chance, entries + few.numel() // 2
    mean = total / len(blocks)
    return mean if mean > max(RELATED, _SPREADS / entries**0.5) else 0.0


def _sampled(block: torch.Tensor, n_out: int, n_in: int) -> torch.Tensor:
    """The same few rows and columns of every copy, next to each other: few pages are read of a mapped file."""
    blocks = block.unflatten(1, (n_in, -1)).unflatten(0, (n_out, -1))
    return blocks[:, :_SAMPLE, :, :_SAMPLE].flatten(2).flatten(0, 1)

"""A checkpoint as matrices: views of mapped files as [output, input], with the parts that their axes are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from growkernels.errors import GrowthError
from growkernels.executors import open_source
from growkernels.layouts import discover

#: Elements that are held in float32 at a time.
CHUNK = 1 << 22
#: Elements of a chunk that is used several times: 2 MB in float32 stay in a core's cache.
CACHED = 1 << 19
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
#: The symbol of axes of families without a layout.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Part:
    """A range of an axis that grows as one: what it counts (hidden, heads, ffn, ...; `unknown` without a layout)."""

    symbol: str
    start: int
    size: int


@dataclass(frozen=True)
class Weight:
    """One matrix or vector of a checkpoint.

    Attributes:
        name: In the file, with `[e]` for expert e of a stack.
        group: The name with the layer's number as `{}`, and an expert's as `*`.
        layer: Number of the layer; None outside of the layers.
        expert: Number of the expert; None for all else.
        view: [output, input] or [features], in the stored dtype; read-only pages of the file.
        outputs: Parts of the output axis, or of a vector's only axis.
        inputs: Parts of the input axis; empty for vectors.
    """

    name: str
    group: str
    layer: int | None
    expert: int | None
    view: torch.Tensor = field(repr=False)
    outputs: tuple[Part, ...]
    inputs: tuple[Part, ...]

    def pieces(self) -> Iterator[tuple[str, Part, Part]]:
        """Each block of a fused matrix that grows as one: its label, its rows, its columns."""
        several = len(self.outputs) * len(self.inputs) > 1
        for i, rows in enumerate(self.outputs):
            for j, columns in enumerate(self.inputs):
                yield (
                    self.group + (f" part {i + 1 if len(self.outputs) > 1 else j + 1}" if several else ""),
                    rows,
                    columns,
                )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is analyzed.

    Attributes:
        name: As the user gave it.
        path: Its folder.
        config: The JSON of `config.json`.
        weights: Its floating-point matrices, vectors and stacks of matrices, in file order.
        layers: How many layers it has.
        nbytes: Of all tensors.
        known: Whether the layout of its family is known, so that fused matrices are split into their parts.
    """

    name: str
    path: Path
    config: dict[str, Any]
    weights: tuple[Weight, ...]
    layers: int
    nbytes: int
    known: bool

    @property
    def matrices(self) -> list[Weight]:
        """Those with two axes."""
        return [weight for weight in self.weights if weight.view.dim() == 2]


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch: passes over chunks that fit in a core's cache gain nothing from more, and wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Map a checkpoint: a folder or a hub id, safetensors or pickles of tensors, whole or in shards.

    Args:
        name: Where it is.

    Returns:
        The checkpoint; nothing of it has been read but the headers.

    Raises:
        GrowthError: It is missing, damaged, or holds no weights that can be analyzed.
    """
    source = open_source(name)
    axes = _axes(source)
    weights: list[Weight] = []
    for tensor in source.tensors:
        view = source.tensor(tensor)
        if view.is_floating_point() and view.numel() and 1 <= view.dim() <= 3:
            weights += _weights(tensor, view, axes.get(tensor))
    if not weights:
        raise GrowthError(f"{name} holds no floating-point weights; quantized checkpoints cannot be analyzed.")
    layers = max((weight.layer for weight in weights if weight.layer is not None), default=-1) + 1
    nbytes = sum(spec.nbytes for spec in source.tensors.values())
    return Checkpoint(source.name, source.path, source.config, tuple(weights), layers, nbytes, bool(axes))


def _axes(source: Any) -> dict[str, tuple[tuple[tuple[Part, ...], ...], int | None]]:
    """Parts of every axis of every tensor, and the axis that products sum over; empty for families without a layout."""
    try:
        layout = discover(source.config, source.tensors)
    except GrowthError:
        return {}
    return {name: (tuple(_parts(a) for a in t.axes), t.input_axis) for name, t in layout.tensors.items()}


def _parts(axis: Any) -> tuple[Part, ...]:
    parts, start = [], 0
    for part in axis.parts:
        parts.append(Part(str(part.symbol), start, part.size))
        start += part.size
    return tuple(parts)


def _weights(
    name: str, view: torch.Tensor, known: tuple[tuple[tuple[Part, ...], ...], int | None] | None
) -> list[Weight]:
    axes, input_axis = known or (tuple((Part(UNKNOWN, 0, size),) for size in view.shape), None)
    if view.dim() == 3:
        return [
            _weight(f"{name}[{number}]", matrix, axes[-2:], None if input_axis is None else input_axis - 1, number)
            for number, matrix in enumerate(view)
        ]
    return [_weight(name, view, axes, input_axis, None)]


def _weight(
    name: str, view: torch.Tensor, axes: tuple[tuple[Part, ...], ...], input_axis: int | None, expert: int | None
) -> Weight:
    numbers = list(_NUMBER.finditer(name))
    group = _NUMBER.sub("{}", name, count=1)
    if len(numbers) > 1:  # experts that are stored one by one
        group, expert = _NUMBER.sub("*", group, count=1), int(numbers[1][0])
    if expert is not None:
        group = re.sub(r"\[\d+\]$", "[*]", group)
    layer = int(numbers[0][0]) if numbers else None
    if view.dim() == 1:
        return Weight(name, group, layer, expert, view, axes[0], ())
    if input_axis == 0:
        view, axes = view.t(), axes[::-1]
    return Weight(name, group, layer, expert, view, axes[0], axes[1])

"""Duplicate and dead rows, columns and feed-forward units, and experts that are equal: exact, by hashes of the bits."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import torch
import xxhash

from growkernels.analyze.matrices import CHUNK, Checkpoint, Part, Weight

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows (outputs) and columns (inputs) of one matrix that are zero or equal another one's bits.

    Attributes:
        name: The tensor.
        dead_outputs: Rows of zeros.
        dead_inputs: Columns of zeros.
        equal_outputs: Rows that equal an earlier one that is not zero.
        equal_inputs: Columns, likewise.
    """

    name: str
    dead_outputs: int
    dead_inputs: int
    equal_outputs: int
    equal_inputs: int

    @property
    def any(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.dead_outputs or self.dead_inputs or self.equal_outputs or self.equal_inputs)


@dataclass(frozen=True, slots=True)
class Units:
    """The feed-forward units of one layer, or of one expert in it.

    Attributes:
        layer: Its number.
        expert: The expert's number; None in dense layers.
        count: How many units.
        dead: Units with zeros in two places or more (gate, up, down): no gradient ever reaches them.
        silent: Units with zeros in one place: they add nothing yet, and train.
        locked: Units that equal an earlier one in all their weights: equal gradients keep them equal.
    """

    layer: int
    expert: int | None
    count: int
    dead: int
    silent: int
    locked: int


@dataclass(frozen=True, slots=True)
class Experts:
    """The experts of one layer.

    Attributes:
        layer: Its number.
        count: How many.
        distinct: How many are not equal, bit for bit, to an earlier one.
    """

    layer: int
    count: int
    distinct: int


@dataclass(frozen=True)
class _Hashes:
    rows: np.ndarray
    columns: np.ndarray
    zero_rows: np.ndarray
    zero_columns: np.ndarray


def survey(checkpoint: Checkpoint) -> tuple[list[Rows], list[Units], list[Experts]]:
    """Look at every matrix once.

    Args:
        checkpoint: What is analyzed.

    Returns:
        Rows and columns by matrix; units by layer, where the layout of the family is known; experts by layer.
    """
    rows, units = [], defaultdict[tuple[int, int | None], list[tuple[np.ndarray, np.ndarray]]](list)
    experts: dict[int, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for weight in checkpoint.matrices:
        hashes = _hashes(weight.view)
        rows.append(
            Rows(
                weight.name,
                int(hashes.zero_rows.sum()),
                int(hashes.zero_columns.sum()),
                _repeated(hashes.rows, hashes.zero_rows),
                _repeated(hashes.columns, hashes.zero_columns),
            )
        )
        if weight.layer is not None:
            units[weight.layer, weight.expert] += _of_units(weight, hashes)
            if weight.expert is not None:
                experts[weight.layer][weight.expert].append(xxhash.xxh3_128_hexdigest(hashes.rows.tobytes()))
    return rows, _units(units), _experts(experts)


def _hashes(matrix: torch.Tensor) -> _Hashes:
    # A sum of bits times random odd numbers, modulo 2**64: the same in any order of sums, unlike one of floats.
    generator = np.random.default_rng(0)
    down, across = (generator.integers(-(2**63), 2**63 - 1, size) | 1 for size in matrix.shape)
    rows, zero_rows = np.empty(matrix.shape[0], np.int64), np.empty(matrix.shape[0], bool)
    columns, live = np.zeros(matrix.shape[1], np.int64), np.zeros(matrix.shape[1], bool)
    step = max(1, CHUNK // matrix.shape[1])
    for start in range(0, matrix.shape[0], step):
        part = matrix[start : start + step]
        bits = part.contiguous().view(_INTEGERS[part.element_size()]).numpy().astype(np.int64)
        place = slice(start, start + len(bits))
        rows[place] = bits @ across
        columns += down[place] @ bits
        nonzero = (part != 0).numpy()
        zero_rows[place] = ~nonzero.any(1)
        live |= nonzero.any(0)
    return _Hashes(rows, columns, zero_rows, ~live)


def _repeated(hashes: np.ndarray, zero: np.ndarray) -> int:
    alive = hashes[~zero]
    return len(alive) - len(np.unique(alive))


def _of_units(weight: Weight, hashes: _Hashes) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the matrix holds of the feed-forward units: their hashes, and which are zero, once for each part."""
    found = []
    for parts, values, zero in (
        (weight.outputs, hashes.rows, hashes.zero_rows),
        (weight.inputs, hashes.columns, hashes.zero_columns),
    ):
        found += [(values[_range(part)], zero[_range(part)]) for part in parts if part.symbol == "ffn"]
    return found


def _range(part: Part) -> slice:
    return slice(part.start, part.start + part.size)


def _units(found: dict[tuple[int, int | None], list[tuple[np.ndarray, np.ndarray]]]) -> list[Units]:
    units = []
    for (layer, expert), places in found.items():
        if len(places) < 2 or len({len(values) for values, _ in places}) > 1:
            continue
        zeros = np.sum([zero.astype(int) for _, zero in places], axis=0)
        together = Counter(zip(*(values.tolist() for values, _ in places), strict=True))
        dead = zeros >= 2
        alive = [
            key
            for key, is_dead in zip(zip(*(v.tolist() for v, _ in places), strict=True), dead, strict=True)
            if not is_dead
        ]
        locked = len(alive) - len(set(alive))
        units.append(Units(layer, expert, sum(together.values()), int(dead.sum()), int((zeros == 1).sum()), locked))
    return units


def _experts(found: dict[int, dict[int, list[str]]]) -> list[Experts]:
    return [
        Experts(layer, len(of), len({tuple(hashes) for hashes in of.values()})) for layer, of in sorted(found.items())
    ]

"""Learned growth as data: `target = B (sum_j w_j source_j) A^T`, with the names of its matrices and not their values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LearnedPart:
    """A part of an axis that grows as one: `size` source features become `new_size`.

    `matrix` names the [new_size / block, size / block] matrix that maps them, each of its entries for a whole run of
    `block` features (its Kronecker product with the identity of that size); None leaves the features as they are.
    """

    matrix: str | None
    size: int
    new_size: int
    block: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix."""
        return self.new_size // self.block, self.size // self.block


@dataclass(frozen=True, slots=True)
class Learned:
    """The rule of a tensor made from sources of one shape by matrices. `axes` holds the parts of every stored axis, in order.

    `mix` names the matrix of coefficients, [target layers, sources]; `row` is this target's row of it. `sum_axis` is the axis
    that matrix products sum over, None for what no product reads. `weights`: the coefficients themselves, where nothing is
    learned and no matrix is named.
    """

    mix: str
    row: int
    axes: tuple[tuple[LearnedPart, ...], ...]
    sum_axis: int | None = None
    weights: tuple[float, ...] = ()

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of each source."""
        return tuple(sum(part.size for part in axis) for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target."""
        return tuple(sum(part.new_size for part in axis) for axis in self.axes)

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """Names and shapes of the matrices of the axes; that of the coefficients is not among them."""
        return {part.matrix: part.shape for axis in self.axes for part in axis if part.matrix is not None}

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Learned:
        """The inverse of `to_json`."""
        axes = tuple(tuple(LearnedPart(**part) for part in axis) for axis in data["axes"])
        return cls(**{**data, "axes": axes, "weights": tuple(data.get("weights", ()))})

    def __str__(self) -> str:
        """In words, such as `learn 2x2`: twice each axis by matrices; `scale` where no axis grows."""
        if self.weights:
            return "mean"
        ratios = [sum(p.new_size for p in axis) / max(1, sum(p.size for p in axis)) for axis in self.axes]
        return "scale" if self.shape == self.source_shape else f"learn {'x'.join(f'{r:.3g}' for r in ratios)}"

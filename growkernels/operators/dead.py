"""Units that can never train: of a product of factors, two that start at zero leave no gradient for any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from growkernels.layouts.base import ModelLayout
from growkernels.plans import NEW, Fill, Rule, Tile

#: Activations whose slope at zero is zero: what they are applied to must not start there.
_FLAT = frozenset(("relu", "relu2", "relu_squared", "squared_relu"))
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act")


@dataclass(slots=True)
class _Module:
    """Which units start at zero in each matrix that reads the stream, with its bias, and in the one that writes it."""

    reads: dict[str, np.ndarray] = field(default_factory=dict)
    writes: dict[str, np.ndarray] = field(default_factory=dict)

    def dead(self, flat: bool) -> int:
        """How many units no training changes."""
        zeros = [*self.reads.values(), *self.writes.values()]
        if not self.reads or not self.writes or len({zero.size for zero in zeros}) != 1:
            return 0  # only parts of it are known
        found = np.sum(zeros, 0) > 1
        gates = [zero for name, zero in self.reads.items() if "gate" in name or name == "w1"]
        if flat and (gates or len(self.reads) == 1):
            # A fused pair holds the gate first.
            found = found | (gates or zeros)[0]
        return int(found.sum())


def dead_units(rules: Sequence[Rule], layout: ModelLayout) -> list[str]:
    """A warning for each kind of feed-forward network with units that stay what they are for ever.

    A unit may start with zero in one of gate, up and down, or of two matrices, where there is no gate. Where the activation
    is flat at zero, that one must not be the gate, nor, where there is none, the matrix that reads.
    """
    if not any(isinstance(rule.how, Tile) and any(axis.has_new for axis in rule.how.axes) for rule in rules):
        return []
    flat = any(layout.config.get(key) in _FLAT for key in _ACTIVATIONS)
    biases = {rule.target.removesuffix(".bias"): rule.how for rule in rules if rule.target.endswith(".bias")}
    modules: dict[tuple[str, int], _Module] = {}
    for rule in rules:
        tensor = layout.tensors.get(rule.source)
        if tensor is None or rule.layer is None or tensor.input_axis is None or not isinstance(rule.how, Tile):
            continue
        for number in (tensor.input_axis, tensor.output_axis):
            if number is None or any(part.symbol != "ffn" for part in tensor.axes[number].parts):
                continue
            zero, reads = _zero(rule.how, number), number != tensor.input_axis
            bias = biases.get(rule.target.removesuffix(".weight"))
            if reads and isinstance(bias, Tile):
                zero = zero & _zero(bias, 0)
            path, _, name = rule.group.removesuffix(".weight").rpartition(".")
            module = modules.setdefault((path, rule.layer), _Module())
            for place, part in enumerate(zero.reshape(len(tensor.axes[number].parts), -1)):
                (module.reads if reads else module.writes)[f"{name}{place or ''}"] = part
    counts: dict[str, int] = {}
    for (path, _), module in modules.items():
        counts[path] = max(counts.get(path, 0), module.dead(flat))
    return [
        f"{count} units of {path} can never train: two of the matrices that make a unit start at zero in it, or the one does "
        f"that the activation is applied to, which is flat at zero. Start them as copies or at random."
        for path, count in counts.items()
        if count
    ]


@lru_cache(256)
def _zero(tile: Tile, axis: int) -> np.ndarray:
    """Whether all that stands at each index of an axis is zero: what is new there, and filled with zeros."""
    summed = axis == (len(tile.axes) - 1 if tile.sum_axis is None else tile.sum_axis)
    column, row, both = tile.fill
    along, across = (column, row) if summed else (row, column)
    others = [tile.axes[number] for number in range(len(tile.axes)) if number != axis]
    is_old, is_new = not any(other.is_new for other in others), any(other.has_new for other in others)
    zero = Fill()
    at_new = (along == zero or not is_old) and (both == zero or not is_new)
    at_old = not is_old and across == zero
    return np.where(tile.axes[axis].indices() == NEW, at_new, at_old) & (tile.shift == 0)

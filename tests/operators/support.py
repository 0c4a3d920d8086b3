"""Plans executed in float64 by index arrays: no kernel, no reference, no noise of the product's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from growkernels.layouts import ModelLayout, discover
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Plan, Rule, TensorSpec, Tile
from tests.families import FAMILIES, VARIANTS
from tests.layouts.support import class_shapes, stored_config

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A layout and random weights for it, none of them zero."""

    layout: ModelLayout
    weights: Arrays

    def plan(self, **options: Any) -> Plan:
        """The plan of a growth of this source."""
        return make_plan(self.layout, GrowthOptions(**options))


@cache
def make_source(family: str, variant: str = "plain", dtype: str = "float32", **changes: Any) -> Source:
    """The tiny model of a family with random weights; files name tensors as the class does, in alphabetical order."""
    settings = {**FAMILIES[family], **VARIANTS[family][variant], **changes}
    config = stored_config(family, settings.pop("architecture"), **settings)
    shapes = sorted(class_shapes(config).items())
    layout = discover(config, {name: TensorSpec(shape, dtype) for name, shape in shapes})
    draw = np.random.default_rng(7)
    return Source(layout, {name: draw.uniform(0.5, 1.5, shape) * draw.choice([-1, 1], shape) for name, shape in shapes})


def execute(plan: Plan, weights: Mapping[str, np.ndarray], seed: int = 3) -> Arrays:
    """Every target tensor. Noise is any noise: as large as the weights, with sum zero over the copies of the input."""
    draw = np.random.default_rng(seed)
    return {rule.target: _execute(rule, weights[rule.source], draw) for rule in plan.rules}


def _execute(rule: Rule, source: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    tile = rule.how
    assert isinstance(tile, Tile)
    if tile.draws_nothing:
        return np.zeros(rule.spec.shape)
    value = source[np.ix_(*[axis.indices() for axis in tile.axes])] / tile.divisor
    if tile.sum_axis is not None:
        value = np.moveaxis(value, tile.sum_axis, -1)
        output, inputs = tile.axes[1 - tile.sum_axis], tile.axes[tile.sum_axis]
        if tile.diagonal:
            value = np.where(output.copy_ids()[:, None] % inputs.copies == inputs.copy_ids(), value, 0.0)
        if tile.noise is not None:
            value = value + _noise(len(value), inputs, draw)
        value = np.moveaxis(value, -1, tile.sum_axis)
    return value + tile.shift


def _noise(rows: int, inputs: Any, draw: np.random.Generator) -> np.ndarray:
    noise = draw.standard_normal((rows, inputs.copies, inputs.source_size))
    noise -= noise.mean(axis=1, keepdims=True)
    return noise[:, inputs.copy_ids(), inputs.indices()]

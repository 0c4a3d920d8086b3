"""What of a random growth is new to the function: the entries that the `zero` operators leave silent in the same place.

A random growth with these entries at their silent value is the growth by `zero`, which keeps the function. That is the mask
of the Gstack paper (G_random of arXiv 2405.15319) and of MSG (arXiv 2305.02869).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from growkernels.errors import GrowthError
from growkernels.layouts import ModelLayout
from growkernels.operators.base import repeats
from growkernels.operators.compile import make_plan
from growkernels.options import GrowthOptions
from growkernels.plans import NEW, Rule, Tile


@dataclass(frozen=True, slots=True)
class Ramp:
    """The entries of a target tensor that ramp in, bool in its shape, and the value that silences them."""

    entries: np.ndarray
    silent: float


def find_ramps(layout: ModelLayout, options: GrowthOptions) -> dict[str, Ramp]:
    """The ramps of a growth by target tensor. Raises GrowthError where the function is not kept without the new entries."""
    deep, wide = options.depth_operator == "random", options.width_operator == "random"
    if not (deep or wide):
        raise GrowthError(
            f"a mask ramps in what depth_operator random or width_operator random made; this growth is by "
            f"{options.depth_operator} in depth and {options.width_operator} in width."
        )
    silenced = replace(options, depth_operator="zero") if deep else options
    silenced = replace(silenced, width_operator="zero") if wide else silenced
    loud, silent = make_plan(layout, options), make_plan(layout, silenced)
    for claim in silent.claims:
        if claim.holds == "no":
            raise GrowthError(
                f"a mask starts at the source's function, and the rest of this growth ({claim.part}) changes it: "
                f"{claim.reason}."
            )
    is_new = repeats(loud.layer_index) if deep else (False,) * len(loud.layer_index)
    found = {}
    for one, other in zip(loud.rules, silent.rules, strict=True):
        ramp = _ramp(one, other, one.layer is not None and is_new[one.layer])
        if ramp is not None and ramp.entries.any():
            found[one.target] = ramp
    return found


def _ramp(loud: Rule, silent: Rule, in_new_layer: bool) -> Ramp | None:
    how, quiet = loud.how, silent.how
    if not isinstance(how, Tile) or not isinstance(quiet, Tile):
        return None
    if in_new_layer and quiet.draws_nothing and not quiet.is_random:
        # A writer of the stream, biases and gains behind blocks among them: all that the layer adds is ramped.
        return Ramp(np.ones(how.shape, bool), quiet.fill[2].mean or 0.0)
    if how.axes != quiet.axes or how.fill == quiet.fill:
        return None
    inputs = len(how.axes) - 1 if how.sum_axis is None else how.sum_axis
    new = [
        (axis.indices() == NEW).reshape([-1 if a == number else 1 for a in range(len(how.axes))])
        for number, axis in enumerate(how.axes)
    ]
    column, row = new.pop(inputs), np.zeros(how.shape, bool)
    for outputs in new:
        row = row | outputs
    regions = (~row & column, row & ~column, row & column)
    differ = [number for number in range(3) if how.fill[number] != quiet.fill[number]]
    entries = np.logical_or.reduce([regions[number] for number in differ])
    return Ramp(entries, quiet.fill[differ[0]].mean or 0.0)

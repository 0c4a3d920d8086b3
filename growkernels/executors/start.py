"""The matrices that learned growth starts from: the identity above copies, mixes or noise, and stacked layers.

Noise is that of `normal_`, keyed by the seed and the matrix's name.
"""

from __future__ import annotations

import numpy as np
import torch

from growkernels import ops
from growkernels.layouts import ModelLayout
from growkernels.options import GrowthOptions
from growkernels.plans import Learned, LearnedPart, Matrices, Plan, Rule, noise_key


def start_matrices(layout: ModelLayout, plan: Plan, options: GrowthOptions) -> Matrices:
    """Every matrix that the learned rules of a plan name. `layout` is the source's, which the plan was made from.

    Width matrices are `[I; P]` with the P of `options.width_init`. Coefficients are one where the plan's layers are, with
    noise on layers that are mixed and rows that sum to one; divided by what `A^T A` multiplies a vector by on average, over
    the inputs that a product sums over, so that copies give what HyperCloning gives.
    """
    values: dict[str, np.ndarray] = {}
    learned = [(rule, rule.how) for rule in plan.rules if isinstance(rule.how, Learned)]
    for _, how in learned:
        for part in (part for axis in how.axes for part in axis):
            if part.matrix is not None and part.matrix not in values:
                values[part.matrix] = _width(part.matrix, part, options)
    for rule, how in learned:
        rows = values.setdefault(how.mix, np.empty((_rows(plan, rule), len(rule.sources)), np.float32))
        rows[how.row] = _coefficients(rule, how, plan, options) / _gain(rule, how, layout, plan, values)
    return Matrices(values)


def _width(name: str, part: LearnedPart, options: GrowthOptions) -> np.ndarray:
    size, old = part.shape
    new = size - old
    draw = _normals(options.seed, name, (new, old))
    if options.width_init == "normal":
        below = draw / np.float32(size) ** np.float32(0.5)
    elif options.width_init == "convex":
        squares = draw * draw
        below = squares / squares.sum(1, keepdims=True)
    else:
        # The largest of equally distributed numbers is anywhere equally likely.
        source = np.arange(new) % old if options.width_init == "tile" else draw.argmax(1)
        noise = _normals(options.seed, f"noise of {name}", (new, old))
        below = np.eye(old, dtype=np.float32)[source] + noise * np.float32(options.init_noise / old**0.5)
    return np.concatenate([np.eye(old, dtype=np.float32), below.astype(np.float32)])


def _coefficients(rule: Rule, learned: Learned, plan: Plan, options: GrowthOptions) -> np.ndarray:
    row = np.zeros(len(rule.sources), np.float32)
    mixed = len(row) > 1
    row[plan.layer_index[rule.layer] if mixed and rule.layer is not None else 0] = 1
    if mixed:
        noise = _normals(options.seed, f"{learned.mix} of {rule.target}", (1, len(row)))[0]
        row = row + noise * np.float32(options.init_noise)
    return row / row.sum()


def _gain(rule: Rule, learned: Learned, layout: ModelLayout, plan: Plan, values: dict[str, np.ndarray]) -> float:
    """What the product with the grown weight would multiply its output by, were it not divided."""
    if learned.sum_axis is not None:
        parts = learned.axes[learned.sum_axis]
    elif plan.tied_head is not None and rule.target in layout.head_norm:
        # The tied head sums over the stream, but takes the embedding as it is: the norm before it is divided.
        parts = learned.axes[0]
    else:
        return 1.0
    strength = sum(
        p.size if p.matrix is None else p.block * float(np.square(values[p.matrix], dtype=np.float64).sum())
        for p in parts
    )
    return strength / max(1, sum(p.size for p in parts))


def _rows(plan: Plan, rule: Rule) -> int:
    return 1 if rule.layer is None else len(plan.layer_index)


def _normals(seed: int, name: str, shape: tuple[int, int]) -> np.ndarray:
    values = torch.empty(shape, dtype=torch.float32)
    ops.normal_(values.view(-1), noise_key(seed, name), 0)
    return values.numpy()

"""How far rounding alone can move a model's outputs: the bound that half-precision growths are judged by.

**The model of rounding.** Every operation on an element returns `x (1 + d)` with `|d| <= u`, `u` the unit roundoff of the
format (2^-8 for bfloat16, 2^-11 for float16), the `d` independent with mean zero (Higham & Mary, "A new approach to
probabilistic rounding error analysis", SISC 2019, model 1.4). To first order the error of an output is then a sum of
independent terms `g_k x_k d_k`, `g_k` the output's derivative at the place of rounding: mean zero, standard deviation
`sigma = sqrt(sum (g_k x_k)^2 E d_k^2)`, and within `lambda sigma` but for a probability of `2 exp(-lambda^2 / 2)` (their
theorem 2.4). It grows with the square root of the number of roundings, not with the number as a worst case would.

**Sigma is measured, not guessed.** `g_k` is the conditioning of this very network on these very tokens. The model runs in
float32 with every place of rounding disturbed by `x (1 + u s)`, `s` = +1 or -1 at random (stochastic arithmetic; Parker,
"Monte Carlo arithmetic", 1997), and the outputs' deviation is taken, token by token. `s` has variance 1, a rounding at
most 1/3 (`d` uniform in [-u, u]): each disturbed place, the inputs and outputs of every module, stands for up to three
roundings, so that those between modules (softmax, rotary products, residual sums) are paid for. Roundings of scalars
that a whole tensor shares (attention scale, embedding multiplier) are one more factor `1 + u s` for each module.

**Two kinds of error in the grown model.** Errors that all copies share (noise-free copies round alike) move it as they
would move the source: the source's own spread counts for both. Errors that differ between copies meet the noise, which
cancels only between equal copies: their effect is measured on the grown model itself, every copy disturbed on its own.
Stored weights round in the grown model, and in the source where it is stored wider than the target. Variances add:

    computed in the stored format:  2 (source activations + source weights) + (target activations + target weights)
    computed in float32:            (source weights) + (target weights)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

#: Probability that rounding alone breaks the bound, over all outputs compared together.
FAILURE = 1e-6

Outputs = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Spread:
    """Variance of one output from rounded weights and from rounded activations; float64, one value for each token."""

    weights: torch.Tensor
    activations: torch.Tensor


def unit_roundoff(dtype: torch.dtype) -> float:
    """Half the distance from 1 to the next larger number."""
    return torch.finfo(dtype).eps / 2


def tail(count: int) -> float:
    """`lambda` with `count * 2 exp(-lambda^2 / 2) = FAILURE`: how many sigma `count` outputs may stray."""
    return math.sqrt(2 * math.log(2 * max(count, 1) / FAILURE))


def _signs(like: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    # A bit for each sign: torch draws a 64-bit integer for each, which took most of the time of a verification.
    packed = np.frombuffer(generator.bytes(-(-like.numel() // 8)), np.uint8)
    bits = torch.from_numpy(np.unpackbits(packed, count=like.numel()))
    return bits.reshape(like.shape).to(like.dtype).mul_(2).sub_(1)


def _disturbed(value: object, scale: float, generator: np.random.Generator) -> object:
    """Every float tensor in the value times `1 + scale s`, and times one more such factor that it shares."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        shared = 1 + scale * float(_signs(torch.ones(()), generator))
        return value * (1 + scale * _signs(value, generator)) * shared
    if isinstance(value, tuple):
        return tuple(_disturbed(item, scale, generator) for item in value)
    return value


def _round_weights(model: nn.Module, unit: float, generator: np.random.Generator) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.addcmul_(parameter, _signs(parameter, generator), value=unit)


def _variance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean square difference of each token: the last axis holds its values, all others are tokens."""
    return (first.double() - second.double()).square().mean(-1)


def spreads(model: nn.Module, run: Callable[[nn.Module], Outputs], unit: float, trials: int = 3) -> dict[str, Spread]:
    """Variance of every output under rounding to unit roundoff `unit`.

    `model` (float32) is used up: its weights are disturbed in place. `run` maps it to its outputs on fixed tokens.
    """
    generator = np.random.default_rng(0)
    previous = run(model)
    weights = {name: torch.zeros(value.shape[:-1], dtype=torch.float64) for name, value in previous.items()}
    activations = {name: torch.zeros_like(value) for name, value in weights.items()}
    for _ in range(trials):
        # The weights drift on from trial to trial, so that each step is a fresh one and no second copy is needed.
        _round_weights(model, unit, generator)
        current = run(model)
        hooks = []
        for module in model.modules():
            hooks.append(module.register_forward_pre_hook(lambda _, args: _disturbed(args, unit, generator)))
            hooks.append(module.register_forward_hook(lambda _, args, out: _disturbed(out, unit, generator)))
        rounded = run(model)
        for hook in hooks:
            hook.remove()
        for name in current:
            weights[name] += _variance(current[name], previous[name]) / trials
            activations[name] += _variance(rounded[name], current[name]) / trials
        previous = current
    return {name: Spread(weights[name], activations[name]) for name in previous}

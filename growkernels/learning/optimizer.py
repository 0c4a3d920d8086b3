"""The optimizer of the operator: AdamW with warm-up and cosine decay, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi

import torch
from torch import Tensor

from growkernels.executors.modes import recordable

_CLIP, _BETAS, _LAST = 1.0, (0.9, 0.95), 0.1


class OperatorOptimizer:
    """AdamW over named matrices. They start near the identity, where decay to zero would mean nothing: there is none."""

    def __init__(self, matrices: Mapping[str, Tensor]) -> None:
        self._matrices = dict(matrices)
        self._adam = torch.optim.AdamW(self._matrices.values(), betas=_BETAS, weight_decay=0.0)

    def update(self, step: int, steps: int, lr: float, warmup: int) -> None:
        """One step by the gradients at hand. `step` counts from 0."""
        for group in self._adam.param_groups:
            group["lr"] = lr * _schedule(step, steps, warmup)
        torch.nn.utils.clip_grad_norm_(self._matrices.values(), _CLIP)
        self._adam.step()

    def forget_gradients(self) -> None:
        """Before the next ones are computed; an interrupted step may have left some."""
        self._adam.zero_grad(set_to_none=True)

    def moments(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Adam's two moments by name; matrices that never had a gradient have none."""
        found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for name, matrix in self._matrices.items():
            if state := self._adam.state.get(matrix):
                found[0][name], found[1][name] = state["exp_avg"], state["exp_avg_sq"]
        return found

    def restore(self, exp_avg: Mapping[str, Tensor], exp_avg_sq: Mapping[str, Tensor], steps: int) -> None:
        """Take over moments after a number of steps."""
        for name, value in exp_avg.items():
            matrix = self._matrices[name]
            self._adam.state[matrix] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": recordable(value.to(matrix.device)),
                "exp_avg_sq": recordable(exp_avg_sq[name].to(matrix.device)),
            }


def _schedule(step: int, steps: int, warmup: int) -> float:
    """The share of the peak learning rate."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup + 1) / max(1, steps - warmup)
    return _LAST + (1 - _LAST) * (1 + cos(pi * progress)) / 2

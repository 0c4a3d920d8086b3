"""Checks and measurements of weights before targets are computed from them: finite, in range, and how strong they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from growkernels import ops
from growkernels.executors.learned import expand_rule
from growkernels.executors.measure import Use, check_values, with_fills
from growkernels.executors.rules import check_fit, signal, with_signal
from growkernels.executors.sources.base import Tensors
from growkernels.ops.backends import ops_of
from growkernels.plans import DTYPE_BYTES, Learned, Rule, Tile

#: The learned matrices of a plan, on a device.
Matrices = Callable[[torch.device], Mapping[str, torch.Tensor]]


class Preflight:
    """The checks of a run, each made once: rules that share a source share what is found of it."""

    def __init__(self, source: Tensors, allow_nonfinite: bool = False) -> None:
        self._source, self._allow_nonfinite = source, allow_nonfinite
        self._checked: set[tuple[str, str, float]] = set()
        self._squares: dict[tuple[str, float], float] = {}

    def prepare(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """The rules with what they measure: the standard deviation of noise, mean and standard deviation of fills.

        Raises GrowthError if a weight that they read is not finite (unless that is allowed) or does not fit the target's
        dtype.
        """
        rules = tuple(rules)
        uses = dict.fromkeys(
            (name, rule.spec.dtype, rule.smallest_divisor)
            for rule in rules
            if rule.spec.dtype in DTYPE_BYTES
            for name in rule.drawn
        )
        new = [use for use in uses if use not in self._checked]
        if new:
            values = [
                Use(name, self._source.tensor(name), getattr(torch, dtype), divisor) for name, dtype, divisor in new
            ]
            check_values(values, self._allow_nonfinite)
            self._checked.update(new)
        signals = [signal(rule) for rule in rules]
        if wanted := dict.fromkeys(found for found in signals if found is not None and found not in self._squares):
            self._squares |= _mean_squares(self._source, wanted)
        ready = (
            rule if found is None else with_signal(rule, self._squares[found])
            for rule, found in zip(rules, signals, strict=True)
        )
        return tuple(self._with_fills(rule) for rule in ready)

    def _with_fills(self, rule: Rule) -> Rule:
        if not isinstance(rule.how, Tile) or not rule.how.is_measured:
            return rule
        return with_fills(rule, [self._source.tensor(name) for name in rule.drawn])

    def check_target(self, rule: Rule, value: torch.Tensor) -> None:
        """Raise GrowthError if the computed target of a learned rule is not finite or does not fit its dtype."""
        check_values([Use(rule.target, value, getattr(torch, rule.spec.dtype))], self._allow_nonfinite)


def prepare(
    source: Tensors, rules: Sequence[Rule], matrices: Matrices, allow_nonfinite: bool = False
) -> tuple[Rule, ...]:
    """The rules with everything that they measure, once everything that could fail has been checked.

    For runs that cannot be undone: all rules are looked at before the first target is written. Learned targets are computed
    for this check, and again to be kept. Raises GrowthError if a rule does not fit the source, no kernel runs on a tensor's
    device, or `Preflight` finds a weight that cannot be grown.
    """
    for rule in rules:
        check_fit(source, rule)
    names = dict.fromkeys(name for rule in rules for name in rule.drawn)
    for tensor in {source.tensor(name).device: source.tensor(name) for name in names}.values():
        ops_of(None, tensor)  # raises where no kernel runs on the device
    preflight = Preflight(source, allow_nonfinite)
    ready = preflight.prepare(rules)
    for rule in rules:
        if isinstance(rule.how, Learned):
            weights = [source.tensor(name) for name in rule.sources]
            preflight.check_target(rule, expand_rule(rule.how, weights, matrices(weights[0].device)))
    return ready


def _mean_squares(source: Tensors, wanted: Iterable[tuple[str, float]]) -> dict[tuple[str, float], float]:
    """The mean square of each source over each divisor, all of a device by one call and read at once."""
    devices: dict[torch.device, list[tuple[str, float]]] = {}
    for name, divisor in wanted:
        devices.setdefault(source.tensor(name).device, []).append((name, divisor))
    found: dict[tuple[str, float], float] = {}
    for signals in devices.values():
        values = ops.mean_square([source.tensor(name) for name, _ in signals], [divisor for _, divisor in signals])
        found |= dict(zip(signals, values.tolist(), strict=True))
    return found

"""One optimizer of a live growth: the rules of its state, and what it becomes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from growkernels.errors import GrowthError
from growkernels.executors.sources.model import LiveSource
from growkernels.optim.groups import Member, Multipliers, regrouped, spread
from growkernels.optim.hooks import KEY, SCALES, attach, completed, restore, unwrapped
from growkernels.optim.kinds import Entry, Kind, kind_of
from growkernels.optim.moments import correct_runs, mean_of, moment_rule
from growkernels.optim.scales import scales
from growkernels.plans import DTYPE_BYTES, Rule, Tile

State = Literal["grow", "fresh", "asymmetric"]

_log = logging.getLogger("growkernels")


class Place(NamedTuple):
    """A grown parameter, and the group that it goes into: its rule, its name in the model, the source that it continues."""

    group: int
    rule: Rule
    parameter: Tensor
    name: str
    origin: str | None


class GrownOptimizer:
    """What of an optimizer's state grows, and by which rules; `prepared` makes it the optimizer of the grown model.

    The constructor checks everything that could fail, and changes nothing.
    """

    def __init__(
        self,
        optimizer: Any,
        number: int,
        source: LiveSource,
        names: Mapping[int, str],
        state: State,
        multipliers: Multipliers,
    ) -> None:
        """number: which of the optimizers this is, from 0; names: of the parameters that it may have, by their id.

        Raises GrowthError for what cannot be grown.
        """
        self.optimizer: Optimizer = unwrapped(optimizer)
        restore(self.optimizer)
        self.kind: Kind = kind_of(self.optimizer)
        self._state, self._multipliers, self._source = state, multipliers, source
        self._prefix = f"optimizer {number + 1}'s " if number else ""
        #: The names of the source, by group and place; and what has them here.
        self.names = [[self._name(p, names) for p in group["params"]] for group in self.optimizer.param_groups]
        self._held = {names[id(p)]: p for group in self.optimizer.param_groups for p in group["params"]}
        for group in self.optimizer.param_groups:
            completed(group)  # raises where parameters were added to a grown group
        #: Entries of the state that grow, by the names that rules and messages give them.
        self.tensors: dict[str, Tensor] = {}
        self._entries: dict[str, Entry] = {}
        self._grown: dict[str, Tensor] = {}
        if state != "fresh":
            for name in (name for found in self.names for name in found):
                self._read(name)

    def _name(self, parameter: Tensor, names: Mapping[int, str]) -> str:
        if id(parameter) not in names:
            raise GrowthError(
                f"{type(self.optimizer).__name__} has a parameter of shape {list(parameter.shape)} that is none of the "
                f"{self._source.name}'s: give the optimizer of this model; one that trains several models cannot be grown. "
                f"Where it trains copies in another dtype (master weights), say whose by masters=."
            )
        return names[id(parameter)]

    def _read(self, name: str) -> None:
        kind = type(self.optimizer).__name__
        for entry, value in self.optimizer.state.get(self._held[name], {}).items():
            if entry not in self.kind.entries:
                raise GrowthError(
                    f"the state of {name} in {kind} has {entry!r}, and how that grows is not known; known are "
                    f'{", ".join(self.kind.entries)}. Grow with state="fresh".'
                )
            if self.kind.entries[entry].form == "number" or value is None:
                continue
            if type(value) is not Tensor or value.layout is not torch.strided or not value.dtype.is_floating_point:
                what = value.dtype if type(value) is Tensor else type(value).__name__
                raise GrowthError(
                    f"{entry} of {name} in {kind} is {what}, not a plain dense tensor of floating-point numbers: grow "
                    f'the model before its optimizer is sharded or quantized, or with state="fresh".'
                )
            label = self._label(entry).format(name)
            self.tensors[label], self._entries[label] = value, self.kind.entries[entry]

    def _label(self, entry: str) -> str:
        return f"{self._prefix}{entry} of {{}}"

    def rules(self, rule: Rule) -> list[Rule]:
        """The rules of the state of a rule's target."""
        found: list[Rule] = []
        if self._state == "fresh" or not rule.sources:
            return found
        for entry, what in self.kind.entries.items():
            label = self._label(entry)
            if any(label.format(source) not in self.tensors for source in rule.sources):
                continue
            first = self.tensors[label.format(rule.source)]
            dtype = str(first.dtype).removeprefix("torch.")
            if dtype == self._source.tensors[rule.source].dtype and rule.spec.dtype in DTYPE_BYTES:
                dtype = rule.spec.dtype  # what has the weight's dtype follows it
            asymmetric = self._state == "asymmetric" and what.form != "weight"
            mean = mean_of(first) if what.power == 2 and (asymmetric or _has_new(rule)) else 0.0
            made = moment_rule(rule, what, label, dtype, mean, asymmetric)
            found += [] if made is None else [made]
        return found

    def take(self, moment: Rule, weight: Rule, tensor: Tensor) -> None:
        """Take a grown entry of the state; `weight` is the rule of its parameter."""
        correct_runs(weight, self._entries[moment.source], tensor)
        self._grown[moment.target] = tensor

    def prepared(self, places: Sequence[Place]) -> Callable[[], None]:
        """Work out what the growth makes of the optimizer; what is returned puts it in place, and cannot fail.

        places: of the grown parameters, in the model's order.
        """
        state: dict[Any, Any] = {
            key: value for key, value in self.optimizer.state.items() if not isinstance(key, Tensor)
        }
        parts = []
        for number, group in enumerate(self.optimizer.param_groups):
            mine = [place for place in places if place.group == number]
            for place in mine:
                held = self._state_of(place.rule, place.parameter, group)
                if held is not None:
                    state[place.parameter] = held
            names = self.names[number]
            members = [self._member(names, group, place) for place in mine]
            parts.append(regrouped(group, names, members, self._multipliers))
        factors = any(part.get(KEY, {}).keys() - set(SCALES) for found in parts for part in found)

        def put() -> None:
            if factors:
                attach(self.optimizer)
            groups = []
            for whole, (first, *others) in zip(self.optimizer.param_groups, parts, strict=True):
                whole["params"][:] = first["params"]
                for name in whole.keys() - first.keys():
                    del whole[name]
                whole.update({**first, "params": whole["params"]})
                groups += [whole, *others]
            self.optimizer.param_groups[:] = groups
            self.optimizer.state.clear()
            self.optimizer.state.update(state)

        self._report(parts)
        return put

    def _member(self, names: Sequence[str], group: dict[str, Any], at: Place) -> Member:
        rule, parameter = at.rule, at.parameter
        place = names.index(at.origin) if at.origin in names else None
        found = scales(rule)
        old = self._source.tensors[rule.source].shape if rule.sources else rule.spec.shape
        copied = isinstance(rule.how, Tile) and not rule.how.draws_nothing and found.is_even
        factors = self.kind.factors(found, group, old, tuple(parameter.shape)) if copied else {}
        return Member(parameter, at.name, place, found, factors)

    def _state_of(self, rule: Rule, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Any] | None:
        source = self._held.get(rule.source)
        held = self.optimizer.state.get(source, {}) if source is not None else {}
        if self._state == "fresh" or not held or (isinstance(rule.how, Tile) and rule.how.draws_nothing):
            return self._initial(parameter, group)
        if parameter is source:
            return held
        found: dict[str, Any] = {}
        for entry, value in held.items():
            if self.kind.entries[entry].form == "number" or value is None:
                found[entry] = value.clone() if isinstance(value, Tensor) else value
            elif (grown := self._grown.get(self._label(entry).format(rule.target))) is not None:
                found[entry] = grown
            else:  # of several sources one has made no step
                return self._initial(parameter, group)
        return found

    def _initial(self, parameter: Tensor, group: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state of a parameter that has made no step; None where the class makes it at the first one."""
        found: dict[str, Any] = {}
        for name, value in self.kind.initial.items():
            if isinstance(value, str):
                found[name] = torch.full_like(parameter.detach(), group[value], memory_format=torch.preserve_format)
            else:
                found[name] = torch.tensor(value, dtype=torch.float32)
        return found or None

    def _report(self, parts: Sequence[Sequence[dict[str, Any]]]) -> None:
        ranges: dict[str, tuple[float, float]] = {}
        for part in (part for found in parts for part in found):
            for name, (low, high) in spread(part.get(KEY, {})).items():
                least, most = ranges.get(name, (low, high))
                ranges[name] = min(least, low), max(most, high)
        if ranges:
            text = ", ".join(f"{name} times {low:.4g} to {high:.4g}" for name, (low, high) in ranges.items())
            _log.info("%s steps with factors of its options: %s", type(self.optimizer).__name__, text)


def _has_new(rule: Rule) -> bool:
    return isinstance(rule.how, Tile) and any(axis.has_new for axis in rule.how.axes)

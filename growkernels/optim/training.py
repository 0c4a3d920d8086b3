"""The optimizers of a live growth together: source and sink of a run of weights and moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from growkernels.errors import GrowthError
from growkernels.executors.sinks.module import ModuleSink
from growkernels.executors.sources.model import LiveSource
from growkernels.optim.groups import Multipliers
from growkernels.optim.grown import GrownOptimizer, Place, State
from growkernels.optim.moments import moment_matrices
from growkernels.plans import Learned, Plan, Rule
from growkernels.rules.tensor import TensorSpec

#: An optimizer's own copy of a parameter, in a wider dtype, and that parameter of the model.
Masters = MutableMapping[Tensor, nn.Parameter]
_MASTER = "master of {}"

_STATES: tuple[str, ...] = get_args(State)


class Training:
    """The optimizers that train a live model. None of them: a growth of weights alone."""

    def __init__(
        self,
        source: LiveSource,
        plan: Plan,
        optimizer: Any,
        state: State | None,
        multipliers: Multipliers,
        masters: Masters | None,
    ) -> None:
        """Raises GrowthError for optimizers that cannot be grown; nothing is changed."""
        listed = [] if optimizer is None else list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
        if state not in (None, *_STATES):
            raise GrowthError(f"state is {state!r}; expected one of {', '.join(_STATES)}.")
        if multipliers not in ("step", "groups", None):
            raise GrowthError(f"multipliers is {multipliers!r}; expected step, groups or None.")
        if not listed and state is not None:
            raise GrowthError(f"state is {state!r}, and no optimizer is given whose state that could be.")
        if not listed and masters:
            raise GrowthError("masters are given, and no optimizer that trains them.")
        names = {id(parameter): name for name, parameter in source.parameters.items()}
        self._masters = masters
        #: Of the parameters that have one, by name.
        self._of: dict[str, Tensor] = {}
        for master, parameter in (masters or {}).items():
            if id(parameter) not in names:
                raise GrowthError(
                    f"masters names a parameter of shape {list(parameter.shape)} that is none of the {source.name}'s; "
                    f"expected pairs of the optimizer's parameter and the model's."
                )
            self._of[names[id(parameter)]] = master
        names |= {id(master): name for name, master in self._of.items()}
        if listed:
            _check_gradients({**source.parameters, **{_MASTER.format(name): one for name, one in self._of.items()}})
        # By least squares, moments of learned growth are a heuristic: on request only.
        chosen: State = state or ("fresh" if plan.is_learned else "grow")
        self.optimizers = [
            GrownOptimizer(one, number, source, names, chosen, multipliers) for number, one in enumerate(listed)
        ]
        self._plan = plan
        #: The optimizer and the group that a parameter is in.
        self._homes: dict[str, tuple[int, int]] = {}
        for number, one in enumerate(self.optimizers):
            for group, name in ((group, name) for group, found in enumerate(one.names) for name in found):
                if self._homes.setdefault(name, (number, group)) != (number, group):
                    raise GrowthError(f"{name} is in two groups or optimizers; expected every parameter in one.")
        self.tensors = {name: tensor for one in self.optimizers for name, tensor in one.tensors.items()}
        self.tensors |= {_MASTER.format(name): master.detach() for name, master in self._of.items()}
        self._grown_masters: dict[str, Tensor] = {}
        #: The rules of weights that are cast from masters, by the target of the master's rule.
        self._cast: dict[str, Rule] = {}
        #: The rules of moments by target: whose they are, and the rule of their weight.
        self._moments: dict[str, tuple[GrownOptimizer, Rule]] = {}

    def with_moments(self, rules: Iterable[Rule]) -> list[Rule]:
        """The rules of weights that change, each followed by those of its moments."""
        found = []
        for rule in rules:
            found.append(self._with_master(rule))
            for one in self.optimizers:
                for moment in one.rules(rule):
                    self._moments[moment.target] = one, rule
                    found.append(moment)
        return found

    def matrices(self, of_plan: Callable[[torch.device], dict[str, Tensor]], device: torch.device) -> dict[str, Tensor]:
        """The learned matrices of weights and moments on a device."""
        found = of_plan(device)
        learned = [rule for rule in self._plan.rules if isinstance(rule.how, Learned)] if self.tensors else []
        single = {rule.how.mix for rule in learned if isinstance(rule.how, Learned) and len(rule.sources) == 1}
        return found | moment_matrices(found, single) if learned else found

    def _with_master(self, rule: Rule) -> Rule:
        """The rule; of a weight that has a master, the rule of that: the weight is cast from it."""
        if not rule.sources or any(source not in self._of for source in rule.sources):
            return rule
        dtype = str(self._of[rule.source].dtype).removeprefix("torch.")
        target, spec = _MASTER.format(rule.target), TensorSpec(rule.spec.shape, dtype)
        self._cast[target] = rule
        return replace(rule, target=target, sources=tuple(map(_MASTER.format, rule.sources)), spec=spec)

    def take(self, rule: Rule, tensor: Tensor) -> tuple[Rule, Tensor] | None:
        """Take the target of a rule of a moment or master. Returns what is left for the model: a weight with its rule."""
        if rule.target in self._moments:
            one, weight = self._moments[rule.target]
            one.take(rule, weight, tensor)
            return None
        if rule.target not in self._cast:
            return rule, tensor
        self._grown_masters[rule.target] = tensor
        weight = self._cast[rule.target]
        return weight, tensor.to(getattr(torch, weight.spec.dtype))

    def is_moment(self, rule: Rule) -> bool:
        """Whether a rule is one of a moment or a master."""
        return rule.target in self._moments or rule.target in self._cast

    @property
    def cast_bytes(self) -> int:
        """Bytes of the weights that are cast from masters, which no rule of the run counts."""
        return sum(rule.spec.nbytes for rule in self._cast.values())

    def prepared(self, sink: ModuleSink, rules: Sequence[Rule]) -> Callable[[], None]:
        """Work out the optimizers of the grown model; what is returned puts them in place. rules: of the weights."""
        if not self.optimizers:
            return lambda: None
        targets = sink.targets(rules)
        by_target = {rule.target: rule for rule in rules}
        order = [
            (name, by_target[targets[name]], parameter)
            for name, parameter in sink.model.named_parameters()
            if name in targets
        ]
        kinds = Counter(
            (rule.kind, self._homes[origin]) for _, rule, _ in order if (origin := self._origin(rule)) in self._homes
        )
        members: list[list[Place]] = [[] for _ in self.optimizers]
        masters: dict[Tensor, nn.Parameter] = {}
        for name, rule, parameter in order:
            origin = self._origin(rule)
            home = self._homes.get(origin or "")
            if origin is None:
                # A new tensor goes where most tensors of its kind are.
                home = max(((n, h) for (kind, h), n in kinds.items() if kind == rule.kind), default=(0, (0, 0)))[1]
            held = self._master(rule, origin)
            if held is not None:
                masters[held] = parameter
            if home is not None:
                trained = parameter if held is None else held
                members[home[0]].append(Place(home[1], rule, trained, name, origin))
        puts = [one.prepared(found) for one, found in zip(self.optimizers, members, strict=True)]

        def put() -> None:
            for one in puts:
                one()
            if self._masters is not None:
                self._masters.clear()
                self._masters.update(masters)

        return put

    def _master(self, rule: Rule, origin: str | None) -> Tensor | None:
        """The master of a grown parameter; None for one without."""
        if origin not in self._of:
            return None
        grown = self._grown_masters.get(_MASTER.format(rule.target))
        old = self._of[origin]
        return old if grown is None else nn.Parameter(grown, old.requires_grad)

    def _origin(self, rule: Rule) -> str | None:
        """The source whose place in the groups a target takes."""
        if len(rule.sources) > 1 and rule.layer is not None:
            return rule.sources[self._plan.layer_index[rule.layer]]
        return rule.source or None


def _check_gradients(parameters: Mapping[str, Tensor]) -> None:
    held = [name for name, parameter in parameters.items() if parameter.grad is not None]
    if held:
        raise GrowthError(
            f"{held[0]} and {len(held) - 1} others have gradients, which would be lost: grow between optimizer.zero_grad() "
            f"and the next backward pass."
        )

"""What every growth starts with: an opened source, its layout and a plan; what is checked and warned of before the work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from growkernels.errors import GrowthError
from growkernels.executors import Source, check_duplicates, open_source
from growkernels.executors.files.manifest import grown_with_seed
from growkernels.executors.sources.checkpoint import read_config
from growkernels.executors.sources.generation import read_generation_config
from growkernels.executors.sources.model import LiveSource, of_a_model
from growkernels.executors.start import start_matrices
from growkernels.layouts import ModelLayout, discover
from growkernels.layouts.quantized import refuse_live
from growkernels.layouts.stored import lay_out_config
from growkernels.layouts.trial import refuse_derived
from growkernels.operators import make_plan
from growkernels.options import GrowthOptions
from growkernels.plans import Plan, Tile

#: Called with the stage ("fitting", "growing", "verifying"), and with the steps or bytes so far and in all.
OnProgress = Callable[[str, int, int], None]

S = TypeVar("S", bound=Source | LiveSource)


@dataclass(frozen=True, slots=True, repr=False)
class Growth(Generic[S]):
    """A growth of an opened source that can be carried out by any executor."""

    source: S
    layout: ModelLayout
    plan: Plan

    @overload
    @classmethod
    def open(
        cls, src: str | Path | Source, options: Mapping[str, Any], plan: Plan | None = None, strip_prefix: str = ""
    ) -> Growth[Source]: ...

    @overload
    @classmethod
    def open(cls, src: LiveSource, options: Mapping[str, Any], plan: Plan | None = None) -> Growth[LiveSource]: ...

    @classmethod
    def open(
        cls, src: Any, options: Mapping[str, Any], plan: Plan | None = None, strip_prefix: str = ""
    ) -> Growth[Any]:
        """Open a checkpoint (a folder or a hub id) if it is not open yet, lay it out and plan. No weights are read.

        options: keywords by the names of `GrowthOptions`; plan: one to carry out in place of options; strip_prefix: what a
        wrapper put before the names of its tensors. Raises GrowthError.
        """
        if plan is None:
            # Before anything is opened: a hub id may take minutes.
            wanted = GrowthOptions.from_keywords(options)
        elif options:
            raise GrowthError(f"plan and {', '.join(options)} both say what to grow; give one of the two.")
        source: Source | LiveSource = src if isinstance(src, Source | LiveSource) else open_source(src, strip_prefix)
        if isinstance(source, LiveSource):
            with of_a_model():
                layout = discover(source.config, source.tensors, source.fresh)
                refuse_live(layout)
                refuse_derived(layout)
        else:
            layout = discover(source.config, source.tensors)
            read_generation_config(source.path, layout.architecture)  # raises where the user's own load would
        if plan is None:
            plan = _planned(source, layout, wanted, seeded="seed" in options)
        return Growth(source, layout, plan)

    @property
    def options(self) -> GrowthOptions:
        """The options that the plan was made with."""
        return GrowthOptions.from_keywords(self.plan.options)

    def check(self) -> None:
        """Raise GrowthError where the source contradicts itself: tied tensors that are stored twice and differ."""
        check_duplicates(self.source, self.layout.duplicates)

    def warn(self) -> None:
        """Warn of what the plan warns of, as if from the caller of the caller."""
        for text in self.plan.warnings:
            warnings.warn(text, stacklevel=3)

    def started(self) -> Growth[S]:
        """The growth with values for its learned matrices: as they start, unless the plan brings them."""
        if not self.plan.is_learned or self.plan.matrices is not None:
            return self
        matrices = start_matrices(self.layout, self.plan, self.options)
        return replace(self, plan=self.plan.with_matrices(matrices))

    def __repr__(self) -> str:
        return f"Growth({self.source!r}, {self.plan!r})"


def plan_of_config(path: Path, options: Mapping[str, Any]) -> Plan:
    """The plan of a model that is only a config: of the tensors that its class would write. Raises GrowthError."""
    wanted = GrowthOptions.from_keywords(options)
    return make_plan(lay_out_config(read_config(path)), wanted)


def _planned(source: Source | LiveSource, layout: ModelLayout, options: GrowthOptions, seeded: bool) -> Plan:
    """The plan; without a seed of the user's (`seeded`), a source that was grown itself does not get its own normals again."""
    last = None if seeded else _last_seed(source)
    if last is None:
        return make_plan(layout, options)
    plan = make_plan(layout, replace(options, seed=(last + 1) % 2**64))
    if not (plan.is_learned or any(isinstance(rule.how, Tile) and rule.how.is_random for rule in plan.rules)):
        return plan
    text = f"the source was grown with seed {last} itself; seed {plan.seed} is taken, so that its noise is not drawn again."
    return replace(plan, warnings=(*plan.warnings, text))


def _last_seed(source: Source | LiveSource) -> int | None:
    if isinstance(source, LiveSource):
        return grown_with_seed(Path(source.origin)) if source.last_seed is None else source.last_seed
    return grown_with_seed(source.path)

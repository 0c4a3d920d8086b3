"""What a plan would do, as rows and totals: what the dry run shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from growkernels.plans.active import active_share, share_of
from growkernels.plans.plan import Claim, Plan
from growkernels.plans.rule import Kind, Rule
from growkernels.plans.totals import Totals
from growkernels.rules.learned import Learned


@dataclass(frozen=True, slots=True)
class Row:
    """The tensors of one kind: `count` of them, one in each layer where `name` holds `{}`, and for each expert where `*`.

    `rule` is in words. Shapes, parameters and bytes are the target's, the latter two and FLOPs per token summed over `count`.
    """

    name: str
    count: int
    kind: Kind
    rule: str
    source_shape: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    nbytes: int
    flops_per_token: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan in figures. `connection_rate` is None for a single layer; see `connection_rate`.

    `fit_bytes`: what a training step of learned growth holds beside the activations; None where nothing is learned.
    """

    rows: tuple[Row, ...]
    source: Totals
    target: Totals
    layer_index: tuple[int, ...]
    connection_rate: float | None
    preserves_function: bool
    claims: tuple[Claim, ...]
    warnings: tuple[str, ...]
    fit_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def summarize(plan: Plan) -> Summary:
    """Rows in the order of the plan, one for the rules that differ in their layer and expert only."""
    active = active_share(plan.config)
    groups: dict[tuple[Any, ...], list[Rule]] = {}
    for rule in plan.rules:
        words = rule.describe()
        name = re.sub(r"(?<=\bexperts\.)\d+(?=\.)", "*", rule.group or rule.target)
        groups.setdefault((name, words, rule.spec), []).append(rule)
    rows = tuple(_row(name, words, rules, plan.tied_head, active) for (name, words, _), rules in groups.items())
    target = Totals(
        parameters=sum(row.parameters for row in rows),
        nbytes=sum(row.nbytes for row in rows),
        flops_per_token=sum(row.flops_per_token for row in rows),
        layers=len(plan.layer_index),
    )
    return Summary(
        rows=rows,
        source=plan.source_totals,
        target=target,
        layer_index=plan.layer_index,
        connection_rate=connection_rate(plan.layer_index),
        preserves_function=plan.preserves_function,
        claims=plan.claims,
        warnings=plan.warnings,
        fit_bytes=_fit_bytes(plan) if plan.is_learned else None,
    )


def _fit_bytes(plan: Plan) -> int:
    """The source; matrices, gradients and two moments; the target and the largest of its gradients, in float32."""
    matrices: dict[str, int] = {}
    for rule in plan.rules:
        if isinstance(rule.how, Learned):
            mix = rule.how.mix
            matrices |= {name: rows * columns for name, (rows, columns) in rule.how.matrices.items()}
            matrices[mix] = max(matrices.get(mix, 0), (rule.how.row + 1) * len(rule.sources))
    grown = [rule.spec.numel for rule in plan.rules]
    return plan.source_totals.nbytes + 16 * sum(matrices.values()) + 4 * sum(grown) + 4 * max(grown)


def connection_rate(layer_index: Sequence[int]) -> float | None:
    """Share of adjacent layers, 0 to 1, that follow each other in the source too (arXiv 2405.15319); None for one layer."""
    pairs = list(pairwise(layer_index))
    return sum(after == before + 1 for before, after in pairs) / len(pairs) if pairs else None


def _row(name: str, words: str, rules: Sequence[Rule], tied_head: str | None, active: float) -> Row:
    first = rules[0]
    parameters = sum(rule.spec.numel for rule in rules)
    is_product = first.how.sum_axis is not None or first.target == tied_head
    return Row(
        name=name,
        count=len(rules),
        kind=first.kind,
        rule=words,
        source_shape=first.how.source_shape,
        shape=first.spec.shape,
        dtype=first.spec.dtype,
        parameters=parameters,
        nbytes=sum(rule.spec.nbytes for rule in rules),
        flops_per_token=round(2 * parameters * share_of(name, active)) if is_product else 0,
    )

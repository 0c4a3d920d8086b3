"""What a plan would do, as rows and totals: what the dry run shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isclose
from typing import Any

from growkernels.plans.plan import Claim, Plan
from growkernels.plans.rule import Kind, Rule
from growkernels.plans.totals import Totals
from growkernels.rules.index import IndexVector
from growkernels.rules.learned import Learned


@dataclass(frozen=True, slots=True)
class Row:
    """The tensors of one kind: `count` of them, one in each layer where `name` holds `{}`.

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
    """Rows in the order of the plan, one for the rules that differ in their layer only."""
    groups: dict[tuple[Any, ...], list[Rule]] = {}
    for rule in plan.rules:
        words = describe(rule)
        groups.setdefault((rule.group or rule.target, words, rule.spec), []).append(rule)
    rows = tuple(_row(name, words, rules, plan.tied_head) for (name, words, _), rules in groups.items())
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
    for learned in (rule.learned for rule in plan.rules if rule.learned is not None):
        matrices |= {name: rows * columns for name, (rows, columns) in learned.matrices.items()}
        matrices[learned.mix] = max(matrices.get(learned.mix, 0), (learned.row + 1) * len(learned.sources))
    grown = [rule.spec.numel for rule in plan.rules]
    return plan.source_totals.nbytes + 16 * sum(matrices.values()) + 4 * sum(grown) + 4 * max(grown)


def connection_rate(layer_index: Sequence[int]) -> float | None:
    """Share of adjacent layers, 0 to 1, that follow each other in the source too (arXiv 2405.15319); None for one layer."""
    pairs = list(pairwise(layer_index))
    return sum(after == before + 1 for before, after in pairs) / len(pairs) if pairs else None


def describe(rule: Rule) -> str:
    """A rule in words, such as `tile 2x2, /2, noise 10 dB`: copies by axis, divisor, shift, structure, noise.

    `learn 2x2, mix 12` is learned: twice each axis by matrices, from a mix of twelve layers.
    """
    if rule.learned is not None:
        return _learned_words(rule.learned)
    words = [_copies(rule.axes)]
    if rule.divisor != 1:
        words.append(f"/{_number(rule.divisor)}")
    if rule.shift:
        words.append(f"{rule.shift:+.6g}")
    if rule.structure == "diagonal":
        words.append("diagonal")
    if rule.noise is not None:
        words.append("noise" if rule.noise.snr_db is None else f"noise {rule.noise.snr_db:g} dB")
    return ", ".join(words)


def _learned_words(learned: Learned) -> str:
    ratios = [sum(p.new_size for p in axis) / max(1, sum(p.size for p in axis)) for axis in learned.axes]
    grows = "scale" if learned.shape == learned.source_shape else f"learn {'x'.join(f'{r:.3g}' for r in ratios)}"
    count = len(learned.sources)
    return f"{grows}, mix {count}" if count > 1 else grows


def _copies(axes: Sequence[IndexVector]) -> str:
    copies = [_axis_copies(axis) for axis in axes]
    if set(copies) <= {"1"}:
        return "copy"
    return f"repeat {copies[0]}" if len(copies) == 1 else f"tile {'x'.join(copies)}"


def _axis_copies(axis: IndexVector) -> str:
    """Copies of an axis; part by part, as `[2 2 1]`, where the parts are not the same."""
    return str(axis.copies) if axis.uniform else f"[{' '.join(str(s.copies) for s in axis.segments)}]"


def _number(value: float) -> str:
    root = round(value * value)
    return f"sqrt({root})" if value != round(value) and isclose(value * value, root) else f"{value:g}"


def _row(name: str, words: str, rules: Sequence[Rule], tied_head: str | None) -> Row:
    first = rules[0]
    parameters = sum(rule.spec.numel for rule in rules)
    is_product = first.input_axis is not None or first.target == tied_head
    return Row(
        name=name,
        count=len(rules),
        kind=first.kind,
        rule=words,
        source_shape=first.source_shape,
        shape=first.spec.shape,
        dtype=first.spec.dtype,
        parameters=parameters,
        nbytes=sum(rule.spec.nbytes for rule in rules),
        flops_per_token=2 * parameters if is_product else 0,
    )

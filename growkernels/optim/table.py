"""What a growth does to the training of every tensor, as a table: factors of options, and whether they are exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from growkernels.optim.hooks import unwrapped
from growkernels.optim.kinds import Factor, divides_decay, kind_of
from growkernels.optim.scales import scales
from growkernels.plans import Plan, Rule, Tile


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor: `c`, its weights by the source's; `copies`, K; `s`, its gradients by the source's; the factors of options.

    `why_not`: what keeps the continuation from being exact; empty where it is.
    """

    name: str
    c: float
    copies: int
    s: float
    factors: dict[str, Factor]
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a growth, tensor by tensor; `str` gives them as text. `why_not`: what holds for all of them."""

    rows: tuple[Row, ...]
    why_not: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether training goes on as the source's would, up to rounding."""
        return not self.why_not and not any(row.why_not for row in self.rows)

    def __str__(self) -> str:
        wide = max([len(row.name) for row in self.rows] + [6])
        lines = [f"{'tensor':{wide}} {'c':>8} {'K':>4} {'s':>8}  factors"]
        for row in self.rows:
            factors = ", ".join(f"{name} {_number(factor)}" for name, factor in row.factors.items())
            note = f"  not exact: {row.why_not}" if row.why_not else ""
            lines.append(f"{row.name:{wide}} {row.c:8.4g} {row.copies:4d} {row.s:8.4g}  {factors}{note}")
        lines += [f"not exact: {reason}" for reason in self.why_not] or (["exact"] if self.exact else [])
        return "\n".join(lines)


def table(plan: Plan, optimizer: Any) -> Table:
    """What `grow_model(model, optimizer, plan=plan)` would do to the options of every tensor, and whether that is exact.

    Args:
        plan: of the growth, such as `growkernels.plan(...)` gives.
        optimizer: that of the source, or of the same class and options.

    Returns:
        One row for each tensor of the target.

    Raises:
        GrowthError: the optimizer is none that can be grown.

    Example:
        >>> print(growkernels.optim.table(growkernels.plan("./small", width=2, noise_snr_db=None), optimizer))
    """
    inner = unwrapped(optimizer)
    kind = kind_of(inner)
    group = inner.param_groups[0]
    rows = []
    for rule in plan.rules:
        found = scales(rule)
        shape = _source_shape(rule)
        fits = found.is_even and (type(inner).__name__ != "Muon" or len(rule.spec.shape) == 2)
        factors = kind.factors(found, group, shape, rule.spec.shape) if fits else {}
        rows.append(Row(rule.target, found.weight, found.copies, found.gradient, factors, _why_not(rule, group, inner)))
    return Table(tuple(rows), tuple(_reasons(plan, kind.note)))


def _source_shape(rule: Rule) -> tuple[int, ...]:
    return rule.how.source_shape if isinstance(rule.how, Tile) else rule.spec.shape


def _reasons(plan: Plan, note: str) -> list[str]:
    """What keeps a whole growth from being exact."""
    reasons = [claim.reason for claim in plan.claims if claim.holds == "no"]
    if any(isinstance(rule.how, Tile) and rule.how.noise is not None for rule in plan.rules):
        reasons.append("noise makes the copies differ; moments and factors are those without it")
    tiles = [(rule.target, rule.how) for rule in plan.rules if isinstance(rule.how, Tile) and rule.how.diagonal]
    uneven = next((name for name, tile in tiles if tile.n_out % tile.n_in), None)
    if uneven is not None:
        reasons.append(f"{uneven} reads some copies of its input only, which then get gradients that the others do not")
    if plan.options.get("expert_split"):
        reasons.append("the slices of an expert differ, and with them the gradients of their rows in the router")
    if plan.options.get("untie"):
        reasons.append("the untied head and the embedding get gradients of their own, which the source adds")
    return reasons + ([note] if note else [])


def _why_not(rule: Rule, group: Any, optimizer: Any) -> str:
    tile = rule.how
    if not isinstance(tile, Tile) or tile.is_identity:
        return ""
    if any(axis.has_new or axis.has_mean for axis in tile.axes):
        return "new entries have gradients of their own"
    if tile.shift and group.get("weight_decay"):
        return "the decay pulls the stored value, which is shifted"
    if tile.diagonal and type(optimizer).__name__ == "Adafactor":
        return "training fills the zero blocks, so that the root mean square is no fixed multiple"
    if tile.diagonal and divides_decay(kind_of(optimizer), group):
        return "L2 pulls at the blocks that hold the weights alone, and is divided by second moments block by block"
    if not scales(rule).is_even:
        return "its features have different numbers of copies, for which no lr of one tensor is right: moments alone"
    if scales(rule).runs:
        return "its parts have different numbers of copies, and one eps"
    return ""


def _number(factor: Factor) -> str:
    return " and ".join(f"{one:.4g}" for one in (factor if isinstance(factor, tuple) else (factor,)))

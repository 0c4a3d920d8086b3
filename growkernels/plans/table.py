"""Rules as JSON, format 2: each distinct `Tile` or `Learned` stands in a table once, and rules refer to it by number.

What differs from tensor to tensor stands with the rule: the noise key, the measured noise, the row of coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from growkernels.plans.rule import Rule
from growkernels.rules.learned import Learned
from growkernels.rules.tensor import TensorSpec
from growkernels.rules.tile import Tile

Json = dict[str, Any]


def rules_to_json(rules: Sequence[Rule]) -> tuple[list[Json], list[Json]]:
    """The table and the rules, for `rules_from_json`."""
    numbers: dict[Tile | Learned, int] = {}
    rows = []
    for rule in rules:
        shared, own = _split(rule.how)
        row = {
            "target": rule.target,
            "sources": list(rule.sources),
            "spec": {"shape": list(rule.spec.shape), "dtype": rule.spec.dtype},
            "how": numbers.setdefault(shared, len(numbers)),
            "group": rule.group,
            "layer": rule.layer,
            "kind": rule.kind,
        }
        rows.append(row | own)
    return [_to_json(how) for how in numbers], rows


def rules_from_json(table: Sequence[Json], rows: Sequence[Json]) -> tuple[Rule, ...]:
    """The inverse of `rules_to_json`."""
    hows = [_from_json(entry) for entry in table]
    return tuple(_rule(hows[row["how"]], row) for row in rows)


def _split(how: Tile | Learned) -> tuple[Tile | Learned, Json]:
    """What many tensors have alike, and the numbers of this one."""
    if isinstance(how, Learned):
        return replace(how, row=0), {"row": how.row}
    if not how.is_random:
        return how, {}
    own: Json = {"key": how.key}
    noise = how.noise
    if noise is not None:
        own["noise_std"] = noise.std
        noise = replace(noise, std=None)
    return replace(how, key=0, noise=noise), own


def _rule(how: Tile | Learned, row: Json) -> Rule:
    if isinstance(how, Learned):
        how = replace(how, row=row["row"])
    elif how.is_random:
        noise = None if how.noise is None else replace(how.noise, std=row["noise_std"])
        how = replace(how, key=row["key"], noise=noise)
    spec = TensorSpec(tuple(row["spec"]["shape"]), row["spec"]["dtype"])
    return Rule(row["target"], tuple(row["sources"]), spec, how, row["group"], row["layer"], row["kind"])


def _to_json(how: Tile | Learned) -> Json:
    match how:
        case Tile():
            return {"tile": how.to_json()}
        case Learned():
            return {"learned": how.to_json()}


def _from_json(entry: Json) -> Tile | Learned:
    return Tile.from_json(entry["tile"]) if "tile" in entry else Learned.from_json(entry["learned"])

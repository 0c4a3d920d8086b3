"""Plans of manifests of format 1, in which every rule held its own index vectors and numbers."""

from __future__ import annotations

from typing import Any

from growkernels.plans.rule import Rule
from growkernels.plans.table import rules_to_json
from growkernels.rules.index import IndexVector
from growkernels.rules.learned import Learned
from growkernels.rules.tensor import TensorSpec
from growkernels.rules.tile import Noise, Tile


def upgraded(plan: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a plan of format 1 as one of format 2, for `Plan.from_json`."""
    hows, rules = rules_to_json([_rule(data) for data in plan["rules"]])
    return {**plan, "hows": hows, "rules": rules}


def _rule(data: dict[str, Any]) -> Rule:
    spec = TensorSpec(tuple(data["spec"]["shape"]), data["spec"]["dtype"])
    sources: tuple[str, ...] = (data["source"],)
    how: Tile | Learned
    if "learned" in data:
        old = dict(data["learned"])
        sources = tuple(old.pop("sources"))
        how = Learned.from_json({**old, "sum_axis": data["input_axis"]})
    else:
        how = _tile(data)
    return Rule(data["target"], sources, spec, how, data["group"], data["layer"], data["kind"])


def _tile(data: dict[str, Any]) -> Tile:
    noise = data["noise"]
    return Tile(
        axes=tuple(IndexVector.from_json(axis) for axis in data["axes"]),
        sum_axis=data["input_axis"],
        divisor=data["divisor"],
        shift=data["shift"],
        diagonal=data["structure"] == "diagonal",
        noise=noise and Noise(noise["snr_db"], noise["std"]),
        key=noise["key"] if noise else 0,
    )

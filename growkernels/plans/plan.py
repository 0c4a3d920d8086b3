"""Plans: the rules of every target tensor, the target's config, and what the growth claims."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from growkernels.plans.matrices import Matrices
from growkernels.plans.rule import Rule
from growkernels.plans.table import rules_from_json, rules_to_json
from growkernels.plans.totals import Totals
from growkernels.rules.learned import Learned

#: Version of the noise definition; a change of one bit of it is a new version.
NOISE_VERSION = 1

Holds = Literal["exactly", "up to rounding", "no"]


@dataclass(frozen=True, slots=True)
class Claim:
    """Whether the grown model computes the source's function, and why (not)."""

    part: str
    holds: Holds
    reason: str


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """Everything a growth is, as data: executors run it, it prints as a table, serializes to JSON and hashes.

    `rules` are in the order of the target file. `layer_index[i]` is the source layer of target layer i. `source_config`
    and `config` are the stored JSON of the two `config.json` files. `dropped` maps source tensors that are not carried over
    to the reason. `tied_head` names the target tensor that is both embedding and LM head; None if the head is stored apart, or
    if there is none. `source_totals` is what the source costs. `matrices` are those of learned rules; a dry run has none.
    """

    rules: tuple[Rule, ...]
    source_config: dict[str, Any]
    config: dict[str, Any]
    layer_index: tuple[int, ...]
    options: dict[str, Any]
    seed: int
    claims: tuple[Claim, ...]
    warnings: tuple[str, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    noise_version: int = NOISE_VERSION
    tied_head: str | None = None
    source_totals: Totals = field(default_factory=Totals)
    matrices: Matrices | None = None

    @property
    def is_learned(self) -> bool:
        """Whether some rule has learned matrices."""
        return any(isinstance(rule.how, Learned) and not rule.how.weights for rule in self.rules)

    @property
    def preserves_function(self) -> bool:
        """Whether every part claims to compute what the source computes."""
        return all(claim.holds != "no" for claim in self.claims)

    @property
    def new_parameters(self) -> tuple[str, ...]:
        """Names of the tensors of new layers, in the target's file: a source layer's second and later copies are new.

        What only became wider is not among them.
        """
        first = {source: place for place, source in reversed(list(enumerate(self.layer_index)))}
        new = {place for place, source in enumerate(self.layer_index) if first[source] < place}
        return tuple(rule.target for rule in self.rules if rule.layer in new)

    def with_rules(self, rules: tuple[Rule, ...]) -> Plan:
        """The same plan with other rules (for one, with measured noise)."""
        return replace(self, rules=rules)

    def with_matrices(self, matrices: Matrices) -> Plan:
        """The same plan with other learned matrices."""
        return replace(self, matrices=matrices)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back: each distinct `Tile` or `Learned` once, in `hows`, to which rules refer.

        Of learned matrices it holds the digest.
        """
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del data["matrices"]
        if self.matrices is not None:
            data["matrices"] = self.matrices.digest()
        data["hows"], data["rules"] = rules_to_json(self.rules)
        data["claims"] = [asdict(claim) for claim in self.claims]
        data["source_totals"] = asdict(self.source_totals)
        plain: dict[str, Any] = json.loads(json.dumps(data))
        return plain

    @classmethod
    def from_json(cls, data: dict[str, Any], matrices: Matrices | None = None) -> Plan:
        """The inverse of `to_json`. Raises ValueError unless `matrices` are those that the plan was made with."""
        found = None if matrices is None else matrices.digest()
        if data.get("matrices") != found:
            raise ValueError(f"the learned matrices have the digest {found}, the plan names {data.get('matrices')}")
        kept = {name: value for name, value in data.items() if name != "hows"}
        return cls(
            **{
                **kept,
                "rules": rules_from_json(data["hows"], data["rules"]),
                "claims": tuple(Claim(**claim) for claim in data["claims"]),
                "layer_index": tuple(data["layer_index"]),
                "warnings": tuple(data["warnings"]),
                "source_totals": Totals(**data["source_totals"]),
                "matrices": matrices,
            }
        )

    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON, in hexadecimal."""
        return json_digest(self.to_json())

    def __repr__(self) -> str:
        size = sum(rule.spec.nbytes for rule in self.rules)
        layers = f"{self.source_totals.layers} -> {len(self.layer_index)} layers"
        claims = ", ".join(f"{claim.part}: {claim.holds}" for claim in self.claims)
        return f"Plan({len(self.rules)} tensors, {size:,} bytes, {layers}, function preserved? {claims or 'exactly'})"


def json_digest(data: dict[str, Any]) -> str:
    """SHA-256 of the canonical text of a JSON object, in hexadecimal."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

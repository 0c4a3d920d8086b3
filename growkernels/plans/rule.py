"""Rules: how one target tensor follows from its sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from growkernels.rules.learned import Learned
from growkernels.rules.tensor import TensorSpec
from growkernels.rules.tile import Tile

Kind = Literal["embedding", "position", "linear", "head", "norm", "bias", "other"]


@dataclass(frozen=True, slots=True, repr=False)
class Rule:
    """One target tensor: its name and form, what it is made from, and how.

    A `Tile` has one source; it may name none, or one that it draws nothing from (zeros), which then says where the target
    belongs: on which device, trained or not. `Learned` has as many sources as its row of coefficients.
    """

    target: str
    sources: tuple[str, ...]
    spec: TensorSpec
    how: Tile | Learned
    #: The name with the layer number as `{}`: rules of one group are shown as one row.
    group: str = ""
    #: Layer of the target, or None outside the layers.
    layer: int | None = None
    kind: Kind = "other"

    def __post_init__(self) -> None:
        if self.how.shape != self.spec.shape:
            raise ValueError(f"{self.target}: the rule gives {list(self.how.shape)}, shape is {list(self.spec.shape)}")
        if isinstance(self.how, Tile) and len(self.sources) > 1:
            raise ValueError(f"{self.target}: a tile has one source, not {len(self.sources)}")
        if not self.sources and not (isinstance(self.how, Tile) and self.how.draws_nothing):
            raise ValueError(f"{self.target}: {self.how} draws on a source, and none is named")

    @property
    def source(self) -> str:
        """Name of the first source; empty if there is none."""
        return self.sources[0] if self.sources else ""

    @property
    def drawn(self) -> tuple[str, ...]:
        """The sources whose values are read."""
        return () if isinstance(self.how, Tile) and self.how.draws_nothing else self.sources

    @property
    def divisor(self) -> float:
        """What source values are divided by on their way into the target; 1 where they are not."""
        return self.how.divisor if isinstance(self.how, Tile) else 1.0

    @property
    def smallest_divisor(self) -> float:
        """The least that a source value is divided by, in absolute value: what decides whether it fits the target's dtype."""
        return self.how.smallest_divisor if isinstance(self.how, Tile) else 1.0

    @property
    def is_copy(self) -> bool:
        """Whether the target is the source, element by element."""
        return isinstance(self.how, Tile) and self.how.is_identity

    def with_std(self, std: float) -> Rule:
        """The same rule with the measured standard deviation of its noise."""
        if not isinstance(self.how, Tile) or self.how.noise is None:
            raise ValueError(f"{self.target} takes no noise")
        return replace(self, how=self.how.with_std(std))

    def describe(self) -> str:
        """The rule in words, such as `tile 2x2, /2, noise 10 dB`, or `learn 2x2, mix 12`: from a mix of twelve layers."""
        count = len(self.sources)
        if isinstance(self.how, Learned) and self.how.weights:
            return f"{self.how} of {count}"
        return f"{self.how}, mix {count}" if count > 1 else str(self.how)

    def __repr__(self) -> str:
        made = f" from {self.source}" if self.sources else ""
        return f"Rule({self.target} {list(self.spec.shape)} {self.spec.dtype}{made}: {self.describe()})"

"""Rules: how one target tensor follows from its source.

`target = source[index...] / divisor + shift + noise`, rounded once at the store. The coefficient is kept as a divisor
because 1/n is not a float: a correctly rounded division by n is exact wherever the result can be. Learned growth has
matrices in place of index vectors, and may have several sources: `target = B (sum_j w_j source_j) A^T`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from growkernels.rules.index import IndexVector
from growkernels.rules.learned import Learned
from growkernels.rules.tensor import TensorSpec

Kind = Literal["embedding", "position", "linear", "head", "norm", "bias", "other"]
Structure = Literal["all", "diagonal"]


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal noise on the input copies, with coefficients that sum to zero over them (noise version 1, field 0).

    `snr_db` asks for a signal-to-noise ratio; `std` is the standard deviation in the target's units, fp32, filled in once
    the source has been measured. `key` is the unsigned 64-bit key of the target's canonical name.
    """

    key: int
    snr_db: float | None = None
    std: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One target tensor. `axes` has one index vector per stored axis; `input_axis` is the one that matrix products sum over.

    `structure="diagonal"` keeps output copy i only where the input copy is `i mod n_in`, and zero elsewhere. A `learned` rule
    has no index vectors and takes neither divisor, shift nor noise; its `source` is the one that it starts from.
    """

    target: str
    source: str
    spec: TensorSpec
    kind: Kind
    axes: tuple[IndexVector, ...]
    input_axis: int | None = None
    divisor: float = 1.0
    shift: float = 0.0
    structure: Structure = "all"
    noise: Noise | None = None
    #: The name with the layer number as `{}`: rules of one group are shown as one row.
    group: str = ""
    #: Layer of the target, or None outside the layers.
    layer: int | None = None
    learned: Learned | None = None

    def __post_init__(self) -> None:
        if self.learned is not None:
            if self.axes or self.learned.shape != self.spec.shape:
                raise ValueError(f"{self.target}: learned axes give {self.learned.shape}, shape is {self.spec.shape}")
        elif tuple(axis.size for axis in self.axes) != self.spec.shape:
            raise ValueError(
                f"{self.target}: index vectors give {[a.size for a in self.axes]}, shape is {self.spec.shape}"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """The source tensors that are drawn on."""
        return (self.source,) if self.learned is None else self.learned.sources

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of each source, as far as it is drawn on."""
        return tuple(axis.source_size for axis in self.axes) if self.learned is None else self.learned.source_shape

    @property
    def n_in(self) -> int:
        """How many copies of the input a matrix product sums over; 1 where they are not copies but learned."""
        return 1 if self.input_axis is None or self.learned is not None else self.axes[self.input_axis].copies

    @property
    def is_copy(self) -> bool:
        """Whether the target is the source, element by element."""
        return (
            self.learned is None
            and all(len(a.segments) == 1 and a.copies == 1 and a.uniform for a in self.axes)
            and self.divisor == 1.0
            and self.shift == 0.0
            and self.noise is None
        )

    def with_std(self, std: float) -> Rule:
        """The same rule with the measured standard deviation of its noise."""
        if self.noise is None:
            raise ValueError(f"{self.target} takes no noise")
        return replace(self, noise=replace(self.noise, std=std))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["axes"] = [axis.to_json() for axis in self.axes]
        data["spec"] = {"shape": list(self.spec.shape), "dtype": self.spec.dtype}
        if self.noise is not None:
            data["noise"] = asdict(self.noise)
        if self.learned is None:
            del data["learned"]
        else:
            data["learned"] = asdict(self.learned)
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Rule:
        """The inverse of `to_json`."""
        spec = TensorSpec(tuple(data["spec"]["shape"]), data["spec"]["dtype"])
        noise = Noise(**data["noise"]) if data["noise"] else None
        axes = tuple(IndexVector.from_json(axis) for axis in data["axes"])
        learned = Learned.from_json(data["learned"]) if "learned" in data else None
        return cls(**{**data, "spec": spec, "noise": noise, "axes": axes, "learned": learned})

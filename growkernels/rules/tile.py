"""The rule of tensors that are copied and scaled: `target = source[index...] / divisor + shift + noise`.

Rounded once, at the store. The coefficient is kept as a divisor because 1/n is not a float: a correctly rounded division by n
is exact wherever the result can be. Operators return a `Tile`, plans hold it, manifests store it, and `ops.tile_rules_` takes
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from growkernels.errors import GrowthError
from growkernels.rules.blend import Blend
from growkernels.rules.index import NEW, IndexVector
from growkernels.rules.words import tile_words


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal noise on the input copies, with coefficients that sum to zero over them (noise version 1, field 0).

    `snr_db` asks for a signal-to-noise ratio; `std` is the standard deviation in the target's units, fp32, filled in once
    the source has been measured. `share` is (number, count) where the copies are matrices of their own whose products are
    summed, such as the last projections of cloned experts: this tensor takes the noise of input copy `number` of `count`, or,
    with number None, the `count` blocks of its first axis take those of one copy each.
    """

    snr_db: float | None = None
    std: float | None = None
    share: tuple[int | None, int] | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= (self.share[0] or 0) < self.share[1] > 1:
            raise GrowthError(
                f"share is {self.share}; expected (number, count) with 0 <= number < count and count >= 2"
            )


@dataclass(frozen=True, slots=True)
class Fill:
    """The entries that have no source: `mean`, plus normal noise if `std` is not zero.

    Both None: those of the source entries that they replace, which are measured when the rule is carried out.
    """

    mean: float | None = 0.0
    std: float | None = 0.0

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise GrowthError(f"{self}: give a mean and a std, or neither to measure both")

    @classmethod
    def measured(cls) -> Fill:
        """Normal, with the mean and the standard deviation of the source entries that are replaced."""
        return cls(None, None)

    def __str__(self) -> str:
        if self.mean is None:
            return "normal as replaced"
        if self.std:
            return f"normal {self.std:g}" if not self.mean else f"normal {self.mean:g}, {self.std:g}"
        return f"{self.mean:g}" if self.mean else "zero"


#: What stands in old outputs x new inputs, new outputs x old inputs, new outputs x new inputs.
Fills = tuple[Fill, Fill, Fill]


@dataclass(frozen=True)
class Tile:
    """A tensor of copies: `axes` has one index vector for each stored axis.

    `sum_axis` is the axis that matrix products sum over, None for what no product reads (embeddings, norms, biases);
    `output_axis` the one that they put out, by default the last of the others. All further axes are batch axes: a stack
    `[E, O, I]` is the rule of the matrix `[E * O, I]`, whichever way it is stored. The rows of that matrix are called outputs
    here, its columns inputs; without `sum_axis`, the last axis is the columns.

    `diagonal` keeps an input copy only where it is the output copy modulo the number of input copies; elsewhere zero stands,
    before the shift. `fill`: the entries whose index is NEW, as (old outputs x new inputs, new outputs x old inputs, both new).
    `key`: unsigned 64 bits, of the target's name (`noise_key`); noise and normal fills are drawn by it.
    `divisors`: for each axis, what each of its segments is divided by as well; empty for axes, and for tiles, without any.
    `blend`: noise that the whole target is blended with once it is computed, in float32 or, from or to float64, in that.

    Raises GrowthError for axes that are not there, for noise or a diagonal without one number of input copies, and for divisors
    that are not those of the segments.
    """

    axes: tuple[IndexVector, ...]
    sum_axis: int | None = None
    divisor: float = 1.0
    shift: float = 0.0
    diagonal: bool = False
    noise: Noise | None = None
    # Made anew: torch.compile cannot trace a default that is an object of ours.
    fill: Fills = field(default_factory=lambda: (Fill(), Fill(), Fill()))
    key: int = 0
    output_axis: int | None = None
    divisors: tuple[tuple[float, ...], ...] = ()
    blend: Blend | None = None

    def __post_init__(self) -> None:
        count = len(self.axes)
        for name, axis in (("sum_axis", self.sum_axis), ("output_axis", self.output_axis)):
            if axis is not None and not 0 <= axis < count:
                raise GrowthError(f"{name} is {axis}; expected one of the {count} axes, counted from 0")
        if self.output_axis is not None and self.output_axis == self.sum_axis:
            raise GrowthError(f"output_axis and sum_axis are both {self.sum_axis}; expected two axes")
        if self.divisors:
            self._check_divisors()
        if self.noise is None and not self.diagonal:
            return
        if self.sum_axis is None:
            raise GrowthError("noise and the diagonal structure are of input copies; give sum_axis")
        copies = {s.copies for s in self.axes[self.sum_axis].segments if s.start != NEW}
        # Segments that are divided by their own number of copies take noise each on its own.
        if len(copies) > 1 and (self.diagonal or not (self.divisors and self.divisors[self.sum_axis])):
            raise GrowthError(
                f"noise and the diagonal structure need one number of input copies, the segments have {sorted(copies)}; "
                f"grow the parts as separate tensors or without noise"
            )
        if self.noise is not None and self.noise.share is not None:
            number, shared = self.noise.share
            segments = self.axes[self.sum_axis].segments
            if len(segments) != 1 or segments[0].copies != 1 or segments[0].start < 0:
                raise GrowthError("noise shared by matrices needs one segment of single inputs along sum_axis")
            if number is None and (self.sum_axis == 0 or self.axes[0].block(shared) is None):
                raise GrowthError(
                    f"noise shared along the first axis needs {shared} equal blocks there, not {self.axes[0]}"
                )

    def _check_divisors(self) -> None:
        wanted = [len(axis.segments) for axis in self.axes]
        found = list(map(len, self.divisors))
        if len(found) != len(wanted) or any(n not in (0, w) for n, w in zip(found, wanted, strict=True)):
            raise GrowthError(
                f"divisors has {found} numbers; expected {wanted}, one for each segment, or none of an axis"
            )
        if not all(number for axis in self.divisors for number in axis):
            raise GrowthError(f"divisors is {self.divisors}; expected numbers other than zero")

    @classmethod
    def identity(cls, shape: Sequence[int], sum_axis: int | None = None) -> Tile:
        """The source as it is."""
        return cls(tuple(map(IndexVector.identity, shape)), sum_axis)

    @classmethod
    def copies(
        cls,
        shape: Sequence[int],
        copies: Sequence[int],
        sum_axis: int | None = None,
        noise: Noise | None = None,
        key: int = 0,
    ) -> Tile:
        """Each axis of a source of `shape` so many times end to end, divided by the copies of `sum_axis`."""
        axes = tuple(IndexVector.tile(size, count) for size, count in zip(shape, copies, strict=True))
        return cls(axes, sum_axis, 1.0 if sum_axis is None else float(copies[sum_axis]), noise=noise, key=key)

    @classmethod
    def zeros(cls, shape: Sequence[int], sum_axis: int | None = None) -> Tile:
        """Zeros, whatever the source holds."""
        return cls.filled(shape, Fill(), sum_axis)

    @classmethod
    def filled(cls, shape: Sequence[int], fill: Fill, sum_axis: int | None = None, key: int = 0) -> Tile:
        """A tensor that draws on no source."""
        return cls(tuple(map(IndexVector.new, shape)), sum_axis, fill=(fill, fill, fill), key=key)

    def joined(self) -> Tile:
        """The rule of all matrices that share this one's noise, side by side along the sum axis."""
        if self.noise is None or self.noise.share is None or self.sum_axis is None:
            raise ValueError(f"{self} shares no noise")
        number, count = self.noise.share
        axes = list(self.axes)
        axes[self.sum_axis] = IndexVector((replace(axes[self.sum_axis].segments[0], copies=count),))
        if number is None:
            axes[0] = axes[0].block(count) or axes[0]
        return replace(self, axes=tuple(axes), noise=replace(self.noise, share=None))

    def drawn_once(self) -> Tile:
        """The same rule with each new entry once: where copies of one draw are asked for, the draws alone."""
        return replace(self, axes=tuple(axis.drawn_once() for axis in self.axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the target."""
        return tuple([axis.size for axis in self.axes])

    @property
    def source_shape(self) -> tuple[int, ...]:
        """Shape of the source, as far as it is drawn on."""
        return tuple(axis.source_size for axis in self.axes)

    @property
    def output(self) -> int | None:
        """The output axis; None where no product reads the tensor, or where it has no other axis."""
        if self.output_axis is not None or self.sum_axis is None:
            return self.output_axis
        others = [axis for axis in range(len(self.axes)) if axis != self.sum_axis]
        return others[-1] if others else None

    @property
    def n_in(self) -> int:
        """How many copies of the input a matrix product sums over; the largest number if parts differ."""
        return 1 if self.sum_axis is None else self.axes[self.sum_axis].copies

    @property
    def n_out(self) -> int:
        """How many copies of each output there are."""
        return 1 if self.output is None else self.axes[self.output].copies

    @property
    def is_identity(self) -> bool:
        """Whether the target is the first so many source entries along each axis, as they are."""
        return (
            all(axis.is_identity() for axis in self.axes)
            and self.divisor == 1.0
            and self.shift == 0.0
            and self.noise is None
            and not self.divisors
            and self.blend is None
        )

    @property
    def smallest_divisor(self) -> float:
        """The least that a source entry is divided by, in absolute value."""
        return abs(self.divisor) * prod(min(map(abs, axis)) for axis in self.divisors if axis)

    @property
    def draws_nothing(self) -> bool:
        """Whether no source entry is in the target, nor measured for it."""
        return any(axis.is_new for axis in self.axes) and not self.is_measured

    @property
    def is_measured(self) -> bool:
        """Whether some fill is still to be measured."""
        return any(fill.mean is None for fill in self.fill)

    @property
    def is_random(self) -> bool:
        """Whether the target depends on the key."""
        return self.noise is not None or self.blend is not None or any(fill.std != 0 for fill in self.fill)

    def with_key(self, key: int) -> Tile:
        """The same rule under another key: what plans make of the one tile of a kind of tensor, layer by layer."""
        keyed = object.__new__(Tile)
        # Not by replace, which checks again what has been checked, and takes most of the time of a plan.
        for name in _FIELDS:
            keyed.__dict__[name] = self.__dict__[name]
        keyed.__dict__["key"] = key
        return keyed

    def with_std(self, std: float) -> Tile:
        """The same rule with the measured standard deviation of its noise."""
        if self.noise is None:
            raise ValueError(f"{self} takes no noise")
        return replace(self, noise=replace(self.noise, std=std))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back."""
        noise: dict[str, Any] | None = None
        if self.noise is not None:
            noise = {"snr_db": self.noise.snr_db, "std": self.noise.std}
            if self.noise.share is not None:
                noise["share"] = list(self.noise.share)
        divisors = {"divisors": [list(axis) for axis in self.divisors]} if self.divisors else {}
        blend = {"blend": [self.blend.share, self.blend.std]} if self.blend is not None else {}
        return (
            divisors
            | blend
            | {
                "axes": [axis.to_json() for axis in self.axes],
                "sum_axis": self.sum_axis,
                "output_axis": self.output_axis,
                "divisor": self.divisor,
                "shift": self.shift,
                "diagonal": self.diagonal,
                "noise": noise,
                "fill": [[fill.mean, fill.std] for fill in self.fill],
                "key": self.key,
            }
        )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Tile:
        """The inverse of `to_json`."""
        axes = tuple(IndexVector.from_json(axis) for axis in data["axes"])
        noise = None
        if data["noise"] is not None:
            share = data["noise"].get("share")
            noise = Noise(data["noise"]["snr_db"], data["noise"]["std"], None if share is None else tuple(share))
        column, row, both = (Fill(*fill) for fill in data["fill"])
        divisors = tuple(tuple(axis) for axis in data.get("divisors", ()))
        blend = Blend(*data["blend"]) if "blend" in data else None
        return cls(
            **{**data, "axes": axes, "noise": noise, "fill": (column, row, both), "divisors": divisors, "blend": blend}
        )

    def __str__(self) -> str:
        """In words, such as `tile 2x2, /2, noise 10 dB`: copies by axis, divisor, shift, structure, noise, fills."""
        return tile_words(self)


_FIELDS = tuple(Tile.__dataclass_fields__)

"""A stream of any width, for norms that divide by its root mean square, and for those that take off its mean first.

A stream of D features holds s_j copies of feature j of the source's d, and new ones. What writes feature j is multiplied by
sqrt(D/d / s_j), so that the norms see the mean square that they saw and keep their eps; their gains are divided by the same.
What reads feature j is divided by s_j. New features are zero behind every norm: because they are zero, or, where the norm
takes off the mean, because they are the mean. LEMON (arXiv 2310.07999) scales the gains and eps instead, which not every
class has in its config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.streams import STREAMS, is_post_norm, stream_of
from growkernels.operators.base import Ratios
from growkernels.operators.features import Features, axis_features, copied
from growkernels.plans import MEAN, NEW, Fill, Noise, Segment, Tile


@dataclass(frozen=True, slots=True)
class Way:
    """How new features start. `copies`: at most so many whole copies of the stream; None for uneven copies of all of it.

    `fresh`: new units of feed-forward networks and heads are no copies. `written`: standard deviation of what writes a new
    feature of the stream, and of what reads a new unit. `noise_db`: noise on copies, by its strength; None for none.
    """

    copies: int | None
    fresh: bool
    written: float = 0.0
    noise_db: float | None = None


def check_stream(layout: ModelLayout, ratios: Ratios, way: Way) -> None:
    """Raise GrowthError where the stream of a model cannot grow in this way."""
    if ratios["hidden"] == 1 or (isinstance(ratios["hidden"], int) and way.copies is None):
        return
    stream = stream_of(layout)
    if stream is None:
        raise GrowthError(
            f"hidden_size cannot grow to any size in this {layout.model_type}: how norms see the stream is known of "
            f"{', '.join(STREAMS)}; behind a norm after the sum, as in BERT, new features cannot be silent. Give a "
            f"whole multiple and width_operator hypercloning."
        )
    if way.copies is None and (stream.norms == "mean" or layout.norm_offset):
        why = "take off its mean, which uneven copies move" if stream.norms == "mean" else "are stored as gamma - 1"
        raise GrowthError(
            f"hidden_size is no multiple of {layout.sizes['hidden']}, and the norms of {layout.model_type} {why}; give "
            f"width_operator lemon."
        )
    if layout.tied_head and not layout.head_norm:
        raise GrowthError(
            "the LM head is tied to the embedding, and no norm with weights feeds it that could take a factor; use --untie "
            "(untie=True) to give the target a head of its own."
        )


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, way: Way) -> Tile:
    """What becomes of one tensor. Raises GrowthError for norms over new units."""
    summed = tensor.input_axis
    features = [
        axis_features(axis, layout, ratios, way.fresh, partial(_stream, way, _tail(tensor, layout, number)))
        for number, axis in enumerate(tensor.axes)
    ]
    if tensor.kind == "norm" and not _in_stream(tensor, 0) and features[0].index.has_new:
        raise GrowthError(
            f"{tensor.name} is a norm over {tensor.axes[0]}, and would see new ones: the function would change. Give "
            f"width_operator hypercloning and a whole multiple."
        )
    divisor = layout.power_of_width(ratios["hidden"], tensor.power)
    divisors: list[tuple[float, ...]] = []
    for axis, found in enumerate(features):
        one, uneven = _one_divisor(found, [_divisor(tensor, axis, layout, ratios, share) for share in found.shares])
        divisor *= one
        divisors.append(uneven)
    offset = layout.norm_offset if _is_gain(tensor) and _in_stream(tensor, 0) else 0.0
    noisy = way.noise_db is not None and tensor.layer is not None and summed is not None
    return Tile(
        tuple(found.index for found in features),
        summed,
        divisor,
        offset / divisor - offset if offset else 0.0,
        noise=Noise(way.noise_db) if noisy and features[summed or 0].index.copies > 1 else None,
        fill=_fills(tensor, way, layout.initializer_range, offset),
        output_axis=tensor.output_axis if len(tensor.axes) > 2 else None,
        divisors=tuple(divisors) if any(divisors) else (),
    )


def _in_stream(tensor: TensorLayout, axis: int) -> bool:
    return any(part.symbol == "hidden" for part in tensor.axes[axis].parts)


def _is_gain(tensor: TensorLayout) -> bool:
    return tensor.kind == "norm" and tensor.parameter.endswith("weight")


def _tail(tensor: TensorLayout, layout: ModelLayout, axis: int) -> int:
    """What new features of the stream are on an axis: silent in what reads them and in norms, the mean in what writes them."""
    stream = stream_of(layout)
    written = axis != tensor.input_axis and tensor.kind != "norm"
    return MEAN if written and stream is not None and stream.norms == "mean" else NEW


def _stream(way: Way, tail: int, size: int, target: int) -> Features:
    if way.copies is None:
        return copied(size, target)
    copies = min(way.copies, target // size)
    return Features.of(((Segment(0, size, copies), copies), (Segment(tail, target - copies * size), copies)))


def _divisor(tensor: TensorLayout, axis: int, layout: ModelLayout, ratios: Ratios, share: int) -> float:
    """What an entry is divided by for one of its axes, for a feature of so many copies."""
    if axis == tensor.input_axis:
        return float(share)
    if not _in_stream(tensor, axis):
        return 1.0
    factor = sqrt(ratios["hidden"] / share)
    if tensor.kind != "norm" or (is_post_norm(layout, tensor) and not _is_gain(tensor)):
        return 1 / factor
    if is_post_norm(layout, tensor):
        return 1.0  # what it reads was multiplied by the factor
    divisor = factor if _is_gain(tensor) else 1.0
    if layout.tied_head and tensor.name in layout.head_norm:
        # The tied head reads what the embedding was multiplied by, over all copies.
        scale = layout.power_of_width(ratios["hidden"], 0.5) if layout.embedding_scaled else 1.0
        divisor *= share * factor / scale
    return divisor


def _fills(tensor: TensorLayout, way: Way, std: float, offset: float) -> tuple[Fill, Fill, Fill]:
    """New inputs of old outputs, new outputs of old inputs, and both."""
    fresh, written, zero = Fill(0.0, std), Fill(0.0, way.written), Fill()
    if tensor.kind == "norm":
        return (Fill(1.0 - offset) if _is_gain(tensor) else zero,) * 3
    if tensor.input_axis is None:
        return (written if _in_stream(tensor, len(tensor.axes) - 1) and len(tensor.axes) > 1 else zero,) * 3
    if _in_stream(tensor, tensor.input_axis):
        return (fresh,) * 3
    if any(_in_stream(tensor, axis) for axis in range(len(tensor.axes))):
        return (written,) * 3
    return written, fresh, written


def _one_divisor(found: Features, numbers: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """The number if all segments with a source are divided by the same, else 1 and all of them."""
    drawn = {number for segment, number in zip(found.segments, numbers, strict=True) if segment.start != NEW}
    return (drawn.pop(), ()) if len(drawn) == 1 else (1.0, tuple(numbers) if drawn else ())

"""Where the features of a wider model come from: for each meaning the copies of the source's, and the new ones.

Features grow in units: single ones of the stream and the feed-forward network, whole heads of attention. Queries and keys
grow together, so that each copy of a query head reads a copy of the key and value head that it read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import gcd

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, ModelLayout, Part
from growkernels.operators.base import Ratios
from growkernels.plans import MEAN, NEW, IndexVector, Segment


@dataclass(frozen=True, slots=True)
class Features:
    """The features of a target in segments, and for each segment how many of them hold what one of its features holds."""

    segments: tuple[Segment, ...]
    shares: tuple[int, ...]

    @classmethod
    def of(cls, pairs: Iterable[tuple[Segment, int]]) -> Features:
        """Segments with their shares; empty ones are left out."""
        kept = [(segment, share) for segment, share in pairs if segment.length]
        return cls(tuple(segment for segment, _ in kept), tuple(share for _, share in kept))

    @property
    def index(self) -> IndexVector:
        """Where each comes from."""
        return IndexVector(self.segments)

    @property
    def share(self) -> int | None:
        """How many features hold the same, if that is one number for all that come from the source; else None."""
        found = {share for segment, share in zip(self.segments, self.shares, strict=True) if segment.start >= 0}
        return found.pop() if len(found) == 1 else None


#: From the size of the stream in the source and in the target to its features.
Stream = Callable[[int, int], "Features"]


def axis_features(
    axis: Axis, layout: ModelLayout, ratios: Ratios, fresh: bool = False, stream: Stream | None = None
) -> Features:
    """The features of an axis, part by part.

    fresh: what the target has more of is new, and no copy. stream: how the stream grows, where that is a way of its own.
    Raises GrowthError for sizes that are not whole, and for numbers of heads that do not fit each other.
    """
    if all(ratios.get(part.symbol, 1) == 1 for part in axis.parts):
        return Features((Segment(0, axis.size),), (1,))
    pairs: list[tuple[Segment, int]] = []
    start = 0
    for part in axis.parts:
        if stream is not None and part.symbol == "hidden":
            found = stream(part.size, int(part.size * ratios["hidden"]))
        else:
            found = _part(part, layout, ratios, fresh)
        for s, share in zip(found.segments, found.shares, strict=True):
            pairs.append((s if s.start < 0 else Segment(start + s.start, s.length, s.copies, s.groups), share))
        start += part.size
    return Features.of(pairs)


def _part(part: Part, layout: ModelLayout, ratios: Ratios, fresh: bool) -> Features:
    ratio = ratios.get(part.symbol, 1)
    in_heads = part.symbol in ("heads", "kv_heads")
    if in_heads and (fresh or not isinstance(ratio, int) or ratios["heads"] != ratios["kv_heads"]):
        unit, left = divmod(part.size, layout.sizes[part.symbol])
        if left:
            raise GrowthError(f"{layout.model_type} cuts its heads, which then grow by --width alone.")
        found = heads(layout, ratios, fresh)[part.symbol == "kv_heads"]
        segments = (
            Segment(s.start if s.start < 0 else s.start * unit, s.length * unit, s.copies, s.groups)
            for s in found.segments
        )
        return Features(tuple(segments), found.shares)
    if isinstance(ratio, int) and not fresh and part.symbol != "vocab":
        return Features((Segment(0, part.size, ratio),), (ratio,))
    target = part.size * ratio
    if target != int(target):
        held = layout.sizes.get(part.symbol, part.size)
        raise GrowthError(
            f"{part.size} features of some {part.symbol} would become {float(target):g}, as {held} become {held * ratio}; "
            f"give a multiple of {held // gcd(held, part.size)}."
        )
    if part.symbol == "vocab":
        # New tokens get the mean row: scores and embeddings among those of the others, before anything is learned of them.
        return Features.of(((Segment(0, part.size), 1), (Segment(MEAN, int(target) - part.size), 1)))
    return extended(part.size, int(target)) if fresh else copied(part.size, int(target))


def copied(size: int, target: int) -> Features:
    """Copies of all features, and one more of the first of them where `target` is no multiple of `size`."""
    copies, more = divmod(target, size)
    return Features.of(((Segment(0, more, copies + 1), copies + 1), (Segment(more, size - more, copies), copies)))


def extended(size: int, target: int) -> Features:
    """The source's features, then new ones."""
    return Features.of(((Segment(0, size), 1), (Segment(NEW, target - size), 1)))


def heads(layout: ModelLayout, ratios: Ratios, fresh: bool = False) -> tuple[Features, Features]:
    """The query heads, and the key and value heads, in heads.

    Groups of query heads that read one key and value head grow whole, then inside. Smaller groups than the source's cut its
    groups, and each piece reads a copy of the key and value head. Raises GrowthError for numbers that do not fit.
    """
    queries, groups = int(layout.sizes["heads"] * ratios["heads"]), int(layout.sizes["kv_heads"] * ratios["kv_heads"])
    size, held = layout.sizes["heads"] // layout.sizes["kv_heads"], layout.sizes["kv_heads"]
    wanted, left = divmod(queries, groups)
    if left:
        raise GrowthError(f"{queries} heads cannot share {groups} kv heads evenly; give a multiple of {groups} heads.")
    cut = 1
    if wanted < size:
        cut, left = divmod(size, wanted)
        size, held = wanted, held * cut
        if left or held > groups:
            raise GrowthError(
                f"{queries} heads over {groups} kv heads are {wanted} for each, the source has {size * cut + left}: its groups "
                f"cannot be cut so. Give more heads, or {layout.sizes['heads'] // wanted} kv heads or more."
            )
    if fresh:
        return _fresh_heads(size, wanted, held, groups, cut)
    found: tuple[list[tuple[Segment, int]], list[tuple[Segment, int]]] = [], []
    times, more = divmod(groups, held)
    for first, last, copies in ((0, more, times + 1), (more, held, times)):
        found[0].extend(_in_groups(range(first, last), size, wanted, copies))
        found[1].extend((segment, copies) for segment in _keys(first, last, copies, cut))
    return Features.of(found[0]), Features.of(found[1])


def _in_groups(groups: range, size: int, wanted: int, times: int) -> list[tuple[Segment, int]]:
    """The query heads of consecutive groups, grown from `size` to `wanted` in each; all of them `times` times."""
    start, count = groups.start * size, len(groups)
    copies, more = divmod(wanted, size)
    if wanted == size:
        return [(Segment(start, count * size, times), times)]
    if not more:
        return [(Segment(start, count * size, copies, count or 1), copies * times)] * times
    inside = copied(size, wanted)
    return [
        (Segment(group * size + s.start, s.length, s.copies), share * times)
        for group in groups
        for s, share in zip(inside.segments, inside.shares, strict=True)
    ] * times


def _keys(first: int, last: int, times: int, cut: int) -> tuple[Segment, ...]:
    """The key and value heads of pieces `first` to `last` of groups that are cut in `cut`; all of them `times` times."""
    if cut == 1:
        return (Segment(first, last - first, times),)
    if first % cut == last % cut == 0:
        count = (last - first) // cut
        return (Segment(first // cut, count, cut, count or 1),) * times
    return IndexVector.gather([piece // cut for piece in range(first, last)]).segments * times


def _fresh_heads(size: int, wanted: int, held: int, groups: int, cut: int) -> tuple[Features, Features]:
    if wanted == size:
        queries = [(Segment(0, held * size), 1)]
    else:
        queries = [p for g in range(held) for p in ((Segment(g * size, size), 1), (Segment(NEW, wanted - size), 1))]
    queries.append((Segment(NEW, (groups - held) * wanted), 1))
    keys = [(segment, 1) for segment in _keys(0, held, 1, cut)]
    return Features.of(queries), Features.of([*keys, (Segment(NEW, groups - held), 1)])

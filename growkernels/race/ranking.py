"""Which candidate leads a race, and whether its spread allows to say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

#: Steps below which a race is known to mislead (2604.04281: the winner of 16 steps lost after 128).
ENOUGH_STEPS = 300


@dataclass(frozen=True, slots=True)
class Curve:
    """One run.

    Attributes:
        steps: Where the loss was taken.
        flops: Spent until then, source and fit included.
        losses: Held-out loss, nats per token.
    """

    steps: tuple[int, ...]
    flops: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate at the end of a comparison.

    Attributes:
        name: The candidate.
        mean: Of its seeds' losses.
        best: The lowest.
        worst: The highest.
    """

    name: str
    mean: float
    best: float
    worst: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates in order.

    Attributes:
        at: What is equal: `FLOPs` or `steps`.
        value: How many of them.
        standings: From the best mean on.
        leader: The first one's name.
        clear: Whether each of its seeds beats each of the next one's.
        reason: In words, with how often chance alone would do that.
    """

    at: str
    value: float
    standings: tuple[Standing, ...]
    leader: str
    clear: bool
    reason: str


def rank_at_steps(curves: Mapping[str, Sequence[Curve]]) -> Ranking:
    """Compare the losses after the last step.

    Args:
        curves: The runs of each candidate, one for each seed.
    """
    steps = next(iter(curves.values()))[0].steps[-1]
    return _ranking("steps", steps, {name: [run.losses[-1] for run in runs] for name, runs in curves.items()})


def rank_at_flops(curves: Mapping[str, Sequence[Curve]]) -> Ranking | None:
    """Compare the losses where all have spent as many FLOPs as the cheapest candidate at its end.

    Candidates that end before another one begins, as short training from scratch does beside growth from a long trained
    source, have nothing in common with it and are left out.

    Args:
        curves: The runs of each candidate.

    Returns:
        The ranking, losses read between two evaluations along the logarithm of FLOPs; None for fewer than two.
    """
    begin = max(run.flops[0] for runs in curves.values() for run in runs)
    left = {name: runs for name, runs in curves.items() if min(run.flops[-1] for run in runs) > begin}
    if len(left) < 2:
        return None
    flops = min(run.flops[-1] for runs in left.values() for run in runs)
    return _ranking("FLOPs", flops, {name: [_at(run, flops) for run in runs] for name, runs in left.items()})


def _at(run: Curve, flops: float) -> float:
    # Training from scratch begins at no FLOPs, which have no logarithm.
    x = np.log(np.maximum(run.flops, 1.0))
    return float(np.interp(np.log(flops), x, run.losses))


def _ranking(at: str, value: float, losses: Mapping[str, Sequence[float]]) -> Ranking:
    standings = sorted(
        (Standing(name, sum(all_) / len(all_), min(all_), max(all_)) for name, all_ in losses.items()),
        key=lambda standing: standing.mean,
    )
    first, second = standings[:2]
    seeds = len(losses[first.name])
    clear = seeds > 1 and first.worst < second.best
    if seeds == 1:
        reason = "one seed shows no spread: nothing can be said"
    elif clear:
        # Of all ways to order the losses of two equal candidates, one puts all of the first before all of the second.
        chance = 1 / comb(2 * seeds, seeds)
        reason = (
            f"each seed of {first.name} is below each of {second.name}; of two equal candidates one in "
            f"{round(1 / chance)} orders looks like that"
        )
    else:
        ranges = " and ".join(f"{row.name} ({row.best:.4f} to {row.worst:.4f})" for row in (first, second))
        ahead = sum(one < two for one, two in zip(losses[first.name], losses[second.name], strict=True))
        reason = f"the losses of {ranges} overlap; {first.name} is ahead in {ahead} of {seeds} seeds"
    return Ranking(at, value, tuple(standings), first.name, clear, reason)


def warnings_of(curves: Mapping[str, Sequence[Curve]], warmup: int, counted: bool) -> list[str]:
    """What makes a race misleading.

    Args:
        curves: The runs of each candidate.
        warmup: Steps of warm-up.
        counted: Whether the source's FLOPs are counted.
    """
    steps = next(iter(curves.values()))[0].steps
    found = []
    if steps[-1] <= warmup:
        found.append(
            f"{steps[-1]} steps end before the warm-up of {warmup} does: what leads in it says little about later."
        )
    if steps[-1] < ENOUGH_STEPS:
        found.append(
            f"{steps[-1]} steps are few: races below {ENOUGH_STEPS} have named candidates that lost soon after; go on "
            f"to the end of the real run's warm-up at least."
        )
    if not counted:
        found.append("the source's FLOPs are not counted, for its tokens are unknown; give --source-tokens.")
    ranked = rank_at_flops(curves)
    compared = {standing.name for standing in ranked.standings} if ranked is not None else set()
    if missing := [name for name in curves if name not in compared]:
        found.append(
            f"at equal FLOPs {', '.join(missing)} cannot be compared: others had spent more before their first step."
        )
    late = max(1, len(steps) - max(2, len(steps) // 4))
    leaders = [_leader(curves, i) for i in range(late, len(steps))]
    if len(set(leaders)) > 1:
        found.append(f"the lead changed in the last quarter, from {leaders[0]} to {leaders[-1]}: run longer.")
    return found


def _leader(curves: Mapping[str, Sequence[Curve]], index: int) -> str:
    return min(curves, key=lambda name: sum(run.losses[index] for run in curves[name]))

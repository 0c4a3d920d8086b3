"""Any rule of `tile` from a source of choices, be it Hypothesis or a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

from growkernels.ops.tile.numbers import RuleNumbers

T = TypeVar("T")


class Choose(Protocol):
    """Where choices come from."""

    def integer(self, low: int, high: int) -> int:
        """One of low to high, both among them."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        ...


class Seeded:
    """The same choices for the same seed, without Hypothesis."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        return self._random.choice(options)


def segments(choose: Choose, size: int, copies: int | None = None) -> tuple[int, ...]:
    """Flat segments over a source axis of `size`, each with `copies` copies if given, and new entries."""
    flat: list[int] = []
    for _ in range(choose.integer(1, 4)):
        if choose.integer(0, 4) == 0:
            flat += [-1, choose.integer(0, 9), 1, 1]
            continue
        start = choose.integer(0, size)
        length = choose.integer(0, size - start)
        groups = choose.pick([g for g in range(1, max(1, length) + 1) if length % g == 0])
        flat += [start, length, copies or choose.integer(1, 4), groups]
    return tuple(flat)


def rule(choose: Choose, rows: int, cols: int, noise: bool | None = None) -> RuleNumbers:
    """Any rule for a source of this shape."""
    noise = choose.pick((False, True)) if noise is None else noise
    diagonal = choose.pick((False, True))
    copies = choose.integer(1, 6) if noise or diagonal else None
    fills = [(choose.pick((0.0, 0.5, -3.0)), choose.pick((0.0, 0.02))) for _ in range(3)]
    return RuleNumbers(
        rows=segments(choose, rows),
        cols=segments(choose, cols, copies),
        divisor=choose.pick((1.0, 2.0, 3.0, 7.0, 2**0.5)),
        shift=choose.pick((0.0, -1.0, 1 / 3)),
        diagonal=diagonal,
        noise_std=choose.pick((0.05, 1e-3, 0.3)) if noise else 0.0,
        key=choose.integer(0, 2**64 - 1),
        fill=(fills[0], fills[1], fills[2]),
    )

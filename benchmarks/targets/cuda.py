"""What the project set out to reach on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.case import COMPILED, EAGER, FLOOR, OURS, OURS_OUT, PAPER
from benchmarks.cases.calls import PREFIX
from benchmarks.cases.models import LARGEST, ONE_BY_ONE
from benchmarks.cases.tile_shapes import ALIGNED
from benchmarks.results import CaseResult, Results
from benchmarks.targets.target import Target

#: Fractions of the copy rate in the same rounds. Noise in narrow formats is bound by instructions.
CLEAN, NOISY = 0.92, {"fp32": 0.88, "bf16": 0.72}
#: Of the speed-up that the bytes moved allow.
BYTES = 0.9
_CLEAN_CASES = ("tile x2", "tile x3", "tile x4", "tile x2 diagonal", "replicate x2", "replicate x4")
_NOISY_CASES = ("tile x2 noise", "tile x3 noise", "tile x2 10 dB")


def ops(results: Results) -> Iterator[Target]:
    """Of the ops suite, as far as it has figures."""
    for case in results.cases:
        kind, _, dtype = case.name.rpartition(" ")
        if (fraction := case.copy_fraction(OURS_OUT)) is not None:
            if kind in _CLEAN_CASES:
                yield Target(f"{case.name}, fraction of the copy rate", fraction, CLEAN, at_least=True, unit="")
            if kind in _NOISY_CASES:
                yield Target(f"{case.name}, fraction of the copy rate", fraction, NOISY[dtype], at_least=True, unit="")
            if case.name.startswith(LARGEST):
                yield Target(f"{case.name}, against its copy floor", 1 / fraction, 1.2)
        if (ratio := case.ratio(OURS_OUT, ALIGNED)) is not None:
            yield Target(f"{case.name}, against an aligned source", ratio, 2.0)
        noisy = "noise" in case.name or "dB" in case.name
        if noisy and (speedup := case.ratio(PAPER, case.base)) is not None:
            yield Target(f"{case.name}, times as fast as the paper's", speedup, 5.0, at_least=True)
    for rival in (EAGER, COMPILED):
        yield from _rival(results, rival)
    for case in results.cases:
        if not case.name.startswith(PREFIX):
            continue
        if (speedup := case.ratio(ONE_BY_ONE, OURS_OUT)) is not None:
            yield Target(f"{case.name}, times as fast as one call each", speedup, 20.0, at_least=True)
            device = [case.measurements[name].device_seconds for name in (ONE_BY_ONE, OURS_OUT)]
            if None not in device:
                claim = f"{case.name}, times as fast as one call each, the device alone"
                yield Target(claim, device[0] / device[1], 20.0, at_least=True)
        if OURS in case.measurements:
            yield Target(f"{case.name}, one call on 8 x 8", case.median(OURS) * 1e6, 15.0, unit=" us")


def _rival(results: Results, rival: str) -> Iterator[Target]:
    """The worst row, and every other that misses."""
    rows = [(share, case) for case in results.cases if (share := _share(case, rival)) is not None]
    for k, (share, case) in enumerate(sorted(rows, key=lambda row: row[0])):
        worst = " (the worst row)" if k == 0 else ""
        target = Target(
            f"{case.name}{worst}, speed-up over {rival} as a share of what bytes allow", share, BYTES, True, ""
        )
        if k == 0 or not target.met:
            yield target


def _share(case: CaseResult, rival: str) -> float | None:
    """The speed-up over a rival, both allocating, over the ratio of the bytes both move; None for what is not compared.

    What torch.compile must move is what we must: one kernel could do it all. Products of matrices are not a matter of bytes.
    """
    speedup = case.ratio(rival, OURS if OURS in case.measurements else OURS_OUT)
    if speedup is None or FLOOR not in case.measurements or case.name.startswith("expand"):
        return None
    return speedup * case.bytes / (case.measurements[rival].bytes or case.bytes)

"""What the project set out to reach with `expand`."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.case import COMPILED, EAGER, FLOOR, OURS, OURS_OUT, PAPER
from benchmarks.cases.expand import DEEPER, PREFIX, PRODUCTS
from benchmarks.results import CaseResult, Results
from benchmarks.targets.target import Target

#: Of the speed-up that operations and bytes allow.
BOUND = 0.85
#: Of the rate of square bfloat16 products in the same rounds.
MATMUL = 0.7


def against_rivals(results: Results) -> Iterator[Target]:
    """The worst row of each rival, and every other that misses."""
    for rival in (EAGER, COMPILED, PAPER):
        rows = [(share, case) for case in results.cases if (share := _share(case, rival)) is not None]
        for k, (share, case) in enumerate(sorted(rows, key=lambda row: row[0])):
            worst = " (the worst row)" if k == 0 else ""
            claim = f"{case.name}{worst}, speed-up over {rival} as a share of what operations and bytes allow"
            target = Target(claim, share, BOUND, True, "")
            if k == 0 or not target.met:
                yield target


def against_the_paper(results: Results) -> Iterator[Target]:
    """On a CPU, from 6 to 24 layers."""
    for case in results.cases:
        if not case.name.startswith(f"{PREFIX}{DEEPER.name}") or (speedup := case.ratio(PAPER, OURS)) is None:
            continue
        yield Target(f"{case.name}, times as fast as the paper's", speedup, 2.0, at_least=True)
        extra = [case.measurements[name].extra_bytes for name in (PAPER, OURS)]
        if None not in extra:
            yield Target(f"{case.name}, less extra memory than the paper's", extra[0] / max(1, extra[1]), 4.0, True)


def matmul_rate(results: Results) -> Iterator[Target]:
    """On a GPU."""
    for case in results.cases:
        ratio = case.ratio(PRODUCTS, OURS_OUT)
        if ratio is not None and case.name.endswith("bf16"):
            yield Target(f"{case.name}, fraction of the matmul rate", ratio, MATMUL, at_least=True, unit="")


def _share(case: CaseResult, rival: str) -> float | None:
    """The speed-up over a rival, both allocating, over the ratio of the least times that their work takes.

    torch.compile multiplies what eager multiplies, and could do all else on the way.
    """
    speedup, floors = case.ratio(rival, OURS), (PRODUCTS, FLOOR)
    counted = EAGER if rival == COMPILED else rival
    if speedup is None or not all(name in case.measurements for name in (*floors, counted)):
        return None
    theirs = case.measurements[counted]
    of_products = (theirs.operations or 0) / case.operations * case.median(PRODUCTS)
    moved = case.bytes if rival == COMPILED else theirs.bytes or case.bytes
    of_bytes = moved / case.bytes * case.median(FLOOR)
    return speedup * max(case.median(PRODUCTS), case.median(FLOOR)) / max(of_products, of_bytes)

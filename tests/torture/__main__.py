"""`python -m tests.torture`: every part for its share of the time; the table of figures goes to docs/reliability.md."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from tests.torture.full_disk import fill_up, may_mount
from tests.torture.fuzz import Findings, fuzz, try_corpus
from tests.torture.injected import in_memory, inject
from tests.torture.kills import kill
from tests.torture.readers import make_readers

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
#: Shares of the time.
FUZZING, INJECTED, KILLS, FULL = 0.4, 0.3, 0.2, 0.1


def main() -> None:
    """Run everything, print what was found, and end with status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0, help="how long, in all")
    parser.add_argument("--seed", type=int, default=0, help="where the seeds of fuzzing and kills start")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = 60 * options.minutes
    rows: list[tuple[str, Findings, float]] = []

    def part(name: str, share: float, run: Callable[[Callable[[], bool]], Findings]) -> None:
        start = perf_counter()
        findings = run(lambda: perf_counter() - start < share * seconds)
        rows.append((name, findings, perf_counter() - start))
        print(f"{name}: {findings.count} tried, {len(findings.failures)} failed", flush=True)
        for failure in findings.failures[:20]:
            print(f"  {failure}", flush=True)

    with tempfile.TemporaryDirectory(dir=in_memory()) as name:
        folder = Path(name)
        readers = make_readers(folder / "readers")
        seeds = list(range(options.seed, options.seed + 10**6))
        for reader in readers.values():
            part(f"corpus: {reader.name}", 1.0, lambda _, reader=reader: try_corpus(reader))
            part(
                f"damaged: {reader.name}",
                FUZZING / len(readers),
                lambda time_left, reader=reader: fuzz(reader, seeds, time_left),
            )
        for overwrite in (False, True):
            what = "over an old checkpoint" if overwrite else "into a new folder"
            place = folder / what.replace(" ", "-")
            part(
                f"an error at each call, {what}",
                INJECTED / 2,
                lambda time_left, place=place, overwrite=overwrite: inject(place, overwrite, 1, time_left),
            )
        how = "a small file system" if may_mount(folder / "mount") else "a limit on files"
        part(
            f"a full disk, every 4 kB, by {how}", FULL, lambda time_left: fill_up(folder / "full", time_left=time_left)
        )
        part(
            "killed at a random moment", KILLS, lambda time_left: kill(folder / "kills", 10**6, options.seed, time_left)
        )
    if options.write:
        _write(rows)
    sys.exit(any(findings.failures for _, findings, _ in rows))


def _write(rows: list[tuple[str, Findings, float]]) -> None:
    lines = ["| what | tried | went through | refused or ended | failed | seconds |", "|---|---:|---:|---:|---:|---:|"]
    for name, found, seconds in rows:
        if found.count:
            lines.append(
                f"| {name} | {found.count:,} | {found.read:,} | {found.refused:,} | {len(found.failures)} | {seconds:.0f} |"
            )
    text = PAGE.read_text()
    table = "\n".join(lines)
    PAGE.write_text(re.sub(r"(?s)(<!-- figures -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{table}\n{m[2]}", text))


if __name__ == "__main__":
    main()

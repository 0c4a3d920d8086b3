"""`python -m tests.coverage`: the sweep over every type, resumed where it was stopped; see `make coverage`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.coverage import report, twins
from tests.coverage.sizes import NOT_RUN
from tests.coverage.sweep import STEPS, sweep, write


def main() -> None:
    """Run the steps of twins that have no result yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="twins; all of them if none is given")
    parser.add_argument("--out", type=Path, default=Path("build/coverage"), help="folder of results, one JSON a twin")
    parser.add_argument("--table", type=Path, help="write the table of all results here")
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=STEPS, help="only these steps")
    parser.add_argument("--again", action="store_true", help="run steps that have results, too")
    parser.add_argument("--jobs", type=int, default=1, help="run in so many processes")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th twin from the K-th on")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.jobs > 1:
        parts = [[*sys.argv[1:], "--jobs", "1", "--part", f"{k}/{options.jobs}"] for k in range(options.jobs)]
        started = [subprocess.Popen([sys.executable, "-m", "tests.coverage", *part]) for part in parts]
        if sum(process.wait() != 0 for process in started):
            sys.exit("a process of the sweep has failed; its results so far are kept")
    else:
        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(1)
        first, count = map(int, options.part.split("/"))
        for name in list(options.names or twins.names())[first::count]:
            if name not in NOT_RUN:
                _run(name, options.out / f"{name}.json", options.steps, options.again)
    if options.table and options.part == "0/1":
        text = options.table.read_text().partition(report.MARK)[0] if options.table.exists() else ""
        table = report.table({name: read(options.out / f"{name}.json") for name in twins.names()})
        options.table.write_text(text + table)


def _run(name: str, path: Path, steps: Sequence[str], again: bool) -> None:
    """Run the steps of a twin that have no result yet, and keep what they found."""
    held = {} if again else read(path)
    # A twin that could not be built has one result for all of its steps.
    missing = [step for step in steps if step not in held and "build" not in held]
    if not missing:
        return
    found = sweep(name, missing)
    write(path, {**held, **found})
    print(name, *(f"{step}: {report.words(result)}" for step, result in found.items()), sep=" | ", flush=True)


def read(path: Path) -> dict[str, Any]:
    """The results of a twin so far."""
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    main()

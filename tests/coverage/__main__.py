"""`python -m tests.coverage`: the sweep over every type, resumed where it was stopped; see `make coverage`."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
import transformers

from tests.coverage import report, twins
from tests.coverage.sizes import NOT_RUN
from tests.coverage.sweep import sweep, write


def main() -> None:
    """Run the twins that are not in the results yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="twins; all of them if none is given")
    parser.add_argument("--out", type=Path, default=Path("build/coverage.json"), help="results as JSON")
    parser.add_argument("--table", type=Path, help="write the table of all results here")
    parser.add_argument("--steps", nargs="*", default=(), help="only these steps")
    parser.add_argument("--again", action="store_true", help="run twins that have results, too")
    parser.add_argument("--part", default="0/1", help="K/N: every N-th twin from the K-th on, for N processes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    first, count = map(int, options.part.split("/"))
    for name in list(options.names or twins.names())[first::count]:
        if name in NOT_RUN or (name in results and not options.again):
            continue
        results[name] = {**results.get(name, {}), **sweep(name, options.steps)}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write(options.out, results)
        print(name, *(f"{step}: {report.words(found)}" for step, found in results[name].items()), sep=" | ", flush=True)
    if options.table:
        options.table.write_text(report.table(results))


if __name__ == "__main__":
    main()

"""The properties over seeded choices: for compute-sanitizer, and where pytest or Hypothesis is missing.

    python -m tests.gpu.sweep [--backend cuda] [--examples 100] [--seed 0]

Prints what failed and how to run it alone; the exit status tells.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

import tests.emulated  # noqa: F401  # registers its backend
from tests.gpu.device import BACKENDS
from tests.gpu.properties import PROPERTIES
from tests.ops.rules import Seeded


def sweep(backend: str, examples: int, seed: int) -> int:
    """Number of failures; every property is tried, each until it has failed three times."""
    failures = 0
    for name, check in PROPERTIES.items():
        start, failed = time.perf_counter(), 0
        for example in range(seed, seed + examples):
            try:
                check(Seeded(example), backend)
            except Exception:
                failed += 1
                print(f"{name} on {backend} failed for --seed {example} --examples 1:\n{traceback.format_exc()}")
                if failed == 3:
                    break
        print(
            f"{name} on {backend}: {example - seed + 1} examples, {failed} failed, {time.perf_counter() - start:.1f} s"
        )
        failures += failed
    return failures


def main() -> None:
    """Sweep the backends that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=[*BACKENDS, "all"], default="all")
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = BACKENDS if arguments.backend == "all" else (arguments.backend,)
    sys.exit(sum(sweep(backend, arguments.examples, arguments.seed) for backend in chosen) > 0)


if __name__ == "__main__":
    main()

"""`python -m benchmarks`: measure, and write the raw figures, the table and the picture."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine, provenance, streaming
from benchmarks.case import FLOOR, NORMAL, Case, Setting
from benchmarks.cases import all_cases
from benchmarks.floor import copy_rates
from benchmarks.measure import NOT_RUN, QUICK, Effort, operation_rate, run_case
from benchmarks.memory import recycle
from benchmarks.results import CaseResult, Results
from benchmarks.table import markdown
from benchmarks.targets import targets

#: The case that `benchmarks.streaming` measures in processes of its own.
CHECKPOINT = "checkpoint to checkpoint"
_ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure the ops beside eager PyTorch, torch.compile, the papers' algorithms and the copy rate of this machine."""
    arguments = _arguments()
    device = torch.device(arguments.device)
    setting = Setting.quick(device) if arguments.quick else Setting.full(device)
    effort = QUICK if arguments.quick else Effort()
    chosen = [case for case in all_cases(setting) if fnmatch.fnmatch(case.name, arguments.cases)]
    checkpoint = setting.kind == "cpu" and not arguments.quick and fnmatch.fnmatch(CHECKPOINT, arguments.cases)
    if not chosen and not checkpoint:
        sys.exit(f"no case matches {arguments.cases!r}; names are like 'tile x2 noise fp32' and '{CHECKPOINT}'")
    about = machine.describe(device)
    partial = arguments.quick or arguments.cases != "*"
    folder = arguments.out or _ROOT / ("build/benchmarks" if partial else "benchmarks/results") / about["name"]
    folder.mkdir(parents=True, exist_ok=True)
    if os.getloadavg()[0] > 0.5:
        _say(f"The machine is busy (load {os.getloadavg()[0]:.1f}): figures will be off.")
    results = _measure(chosen, setting, effort, about, arguments.minutes, folder)
    # Drawn before the last step too, which needs room on the disk: what was measured is not lost if it fails.
    _write(results, folder, None)
    _draw(results, folder)
    if checkpoint:
        subprocess.run([sys.executable, "-m", "benchmarks.streaming", "--results", str(folder)], check=True, cwd=_ROOT)
        _write(results, folder, json.loads((folder / "streaming.json").read_text()))
    _say(f"Results are in {folder}")
    failures = [
        f"{case.name}, {name}: {why}"
        for case in results.cases
        for name, why in case.failures.items()
        if not why.startswith(NOT_RUN)
    ]
    sys.exit("\n".join(["Failed, and not timed:", *failures]) if failures else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--cases", default="*", help='only cases whose name matches, such as "tile*" or "*noise*"')
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the results; default: benchmarks/results/MACHINE, or build/benchmarks/MACHINE if partial",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes and three rounds: tries everything, measures little"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="where the suite would take longer, rounds are dropped, then torch.compile, then cases that were not begun",
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch.cuda is not available: there is no GPU to measure")
    return arguments


def _measure(
    chosen: Sequence[Case],
    setting: Setting,
    effort: Effort,
    about: dict[str, Any],
    minutes: float | None,
    folder: Path,
) -> Results:
    """Case after case; what is known so far is written after each."""
    start = time.monotonic()
    commit, dirty = provenance.commit()
    copies = copy_rates(setting.device)
    run = {
        "commit": commit,
        "dirty": dirty,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "side": setting.side,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "load_before": os.getloadavg()[0],
        "load_after": os.getloadavg()[0],
        "copies": ", ".join(f"{name} {rate / 1e9:.1f} GB/s" for name, rate in copies.items()),
    }
    rates = {"copy": max(copies.values()), "operations": operation_rate(setting.device, NORMAL)}
    results = Results(about, provenance.versions(), run, rates, [])
    for k, case in enumerate(chosen):
        left = float("inf") if minutes is None else max(0.0, 60 * minutes - (time.monotonic() - start))
        afforded = replace(effort, seconds=min(effort.seconds, left / (len(chosen) - k)), compiles=left > 0)
        case_start = time.monotonic()
        results.cases.append(_run(case, setting, afforded) if left > 0 else _left_out(case))
        run["load_after"] = os.getloadavg()[0]
        _say(f"[{k + 1}/{len(chosen)}, {time.monotonic() - case_start:.1f} s] {_line(results.cases[-1])}")
        _write(results, folder, None)
    run["seconds"] = round(time.monotonic() - start)
    return results


def _run(case: Case, setting: Setting, effort: Effort) -> CaseResult:
    try:
        return run_case(case, setting, effort)
    except Exception as error:
        # The buffers did not fit, say: the other cases are measured all the same, and the exit status tells.
        why = {"all": f"{type(error).__name__}: {error}"}
        return CaseResult(case.name, case.work.bytes, case.work.operations, case.calls, {}, why)


def _left_out(case: Case) -> CaseResult:
    why = {"all": f"{NOT_RUN}the minutes for the suite were over"}
    return CaseResult(case.name, case.work.bytes, case.work.operations, case.calls, {}, why)


def _line(case: CaseResult) -> str:
    """One line of progress: ours, its share of the copy rate, and the others' times as multiples of it."""
    failed = "".join(
        f"; {name} {'' if why.startswith(NOT_RUN) else 'FAILED: '}{' '.join(why.split())[:200]}"
        for name, why in case.failures.items()
    )
    if case.base is None:
        return f"{case.name}{failed}"
    fraction = case.copy_fraction(case.base)
    share = "" if fraction is None else f", {fraction:.2f} of the copy rate"
    others = ", ".join(
        f"{name} {case.ratio(name, case.base):.1f}x" for name in case.measurements if name not in (case.base, FLOOR)
    )
    return f"{case.name}: {case.median(case.base) * 1e3:.3g} ms{share}; {others}{failed}"


def _write(results: Results, folder: Path, checkpoint: dict[str, Any] | None) -> None:
    (folder / "ops.json").write_text(results.to_json())
    (folder / "ops.csv").write_text(results.to_csv())
    # Reasons for what was missed are found by people, who write them here.
    notes = folder / "notes.md"
    report = markdown(results, targets(results, checkpoint), notes.read_text() if notes.exists() else "")
    if checkpoint:
        report += "\n## Checkpoint to checkpoint\n\n" + "\n".join(streaming.summarize(checkpoint)) + "\n"
    (folder / "README.md").write_text(report)


def _draw(results: Results, folder: Path) -> None:
    if find_spec("matplotlib") is None:
        _say("matplotlib is not installed: no picture is drawn")
        return
    from benchmarks.picture import draw

    draw(results, folder / "benchmarks.png")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    recycle()
    main()

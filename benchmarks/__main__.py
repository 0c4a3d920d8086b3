"""`python -m benchmarks`: measure, and write the raw figures, the table and the picture."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, streaming
from benchmarks.case import FLOOR, NORMAL, OURS, OURS_OUT, Case, Setting
from benchmarks.cases import all_cases
from benchmarks.floor import fastest_copy
from benchmarks.measure import QUICK, Effort, operation_rate, run_case
from benchmarks.picture import draw
from benchmarks.results import CaseResult, Results
from benchmarks.table import markdown
from benchmarks.targets import targets

#: The case that `benchmarks.streaming` measures in processes of its own.
CHECKPOINT = "checkpoint to checkpoint"
_ROOT = Path(__file__).parent.parent
console = Console(stderr=True)


def main(
    cases: Annotated[str, typer.Option(help='Only cases whose name matches, such as "tile*" or "*noise*".')] = "*",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results. Default: benchmarks/results/MACHINE, or build/benchmarks/MACHINE if partial."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small sizes and three rounds: tries everything, measures little.")
    ] = False,
) -> None:
    """Measure the ops beside eager PyTorch, torch.compile, the papers' algorithms and the copy rate of this machine."""
    where = torch.device(device)
    setting = Setting.quick(where) if quick else Setting(where)
    effort = QUICK if quick else Effort()
    chosen = [case for case in all_cases(setting) if fnmatch.fnmatch(case.name, cases)]
    checkpoint = where.type == "cpu" and not quick and fnmatch.fnmatch(CHECKPOINT, cases)
    if not chosen and not checkpoint:
        raise typer.BadParameter(f"no case matches {cases!r}; names are like 'tile x2 noise fp32' and '{CHECKPOINT}'")
    about = machine.describe(where)
    partial = quick or cases != "*"
    folder = out or _ROOT / ("build/benchmarks" if partial else "benchmarks/results") / about["name"]
    folder.mkdir(parents=True, exist_ok=True)
    if os.getloadavg()[0] > 0.5:
        console.print(f"[yellow]The machine is busy (load {os.getloadavg()[0]:.1f}): figures will be off.")
    results = _measure(chosen, setting, effort, about)
    # Written before the last step too, which needs room on the disk: what was measured is not lost if it fails.
    _write(results, folder, None)
    if checkpoint:
        subprocess.run([sys.executable, "-m", "benchmarks.streaming", "--results", str(folder)], check=True, cwd=_ROOT)
        _write(results, folder, json.loads((folder / "streaming.json").read_text()))


def _measure(chosen: list[Case], setting: Setting, effort: Effort, about: dict[str, object]) -> Results:
    commit, dirty = machine.commit()
    copy, copies = fastest_copy(setting.device)
    run = {
        "commit": commit,
        "dirty": dirty,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "side": setting.side,
        "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
        "load_before": os.getloadavg()[0],
        "copies": ", ".join(f"{name} {rate / 1e9:.1f} GB/s" for name, rate in copies.items()),
        "rounds": f"{effort.least} to {effort.most}",
    }
    rates = {"copy": max(copies.values()), "operations": operation_rate(setting.device, NORMAL)}
    done: list[CaseResult] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(chosen))
        for case in chosen:
            progress.update(bar, description=case.name)
            done.append(run_case(case, setting, copy, effort))
            progress.console.print(_line(done[-1]), soft_wrap=True, highlight=False)
            progress.advance(bar)
    return Results(about, machine.versions(), {**run, "load_after": os.getloadavg()[0]}, rates, done)


def _line(case: CaseResult) -> str:
    """One line of progress: ours, its share of the copy rate, and the others' times as multiples of it."""
    base = OURS_OUT if OURS_OUT in case.measurements else OURS
    fraction = case.copy_fraction(base)
    share = "" if fraction is None else f", {fraction:.2f} of the copy rate"
    others = ", ".join(
        f"{name} {case.ratio(name, base):.1f}x" for name in case.measurements if name not in (base, FLOOR)
    )
    return f"{case.name}: {case.median(base) * 1e3:.3g} ms{share}; {others}"


def _write(results: Results, folder: Path, checkpoint: dict[str, Any] | None) -> None:
    (folder / "ops.json").write_text(results.to_json())
    (folder / "ops.csv").write_text(results.to_csv())
    # Reasons for what was missed are found by people, who write them here.
    notes = folder / "notes.md"
    report = markdown(results, targets(results, checkpoint), notes.read_text() if notes.exists() else "")
    if checkpoint:
        report += "\n## Checkpoint to checkpoint\n\n" + "\n".join(streaming.summarize(checkpoint)) + "\n"
    (folder / "README.md").write_text(report)
    draw(results, folder / "benchmarks.png")
    console.print(f"Results are in {folder}")


if __name__ == "__main__":
    typer.run(main)

"""The Markdown report of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.case import COMPILED, EAGER, FLOOR, OURS, OURS_OUT, PAPER, TRITON
from benchmarks.cases.calls import PREFIX
from benchmarks.cases.models import ONE_BY_ONE
from benchmarks.results import CaseResult, Measurement, Results
from benchmarks.targets import Target

_COLUMNS = (OURS_OUT, OURS, TRITON, EAGER, COMPILED, PAPER, FLOOR)


def markdown(results: Results, targets: Sequence[Target], notes: str = "") -> str:
    """Machine and method, targets and what people noted about them, times, memory, calls; ready to be read on its own."""
    sections = [_head(results)]
    failed = [(case.name, name, why) for case in results.cases for name, why in case.failures.items()]
    if failed:
        rows = [(case, name, " ".join(why.split())[:300].replace("|", "/")) for case, name, why in failed]
        sections.append("## Failed, and not timed\n\n" + table(("case", "provider", "why"), rows))
    if targets:
        sections.append("## Targets\n\n" + _targets(targets))
    if notes:
        sections.append(notes.strip())
    large = [case for case in results.cases if not case.name.startswith(PREFIX)]
    if large:
        sections += [
            "## Times\n\n" + _TIMES + "\n\n" + _times(large),
            "## Memory\n\n" + _MEMORY + "\n\n" + _memory(large),
            "## First calls\n\n" + _FIRST + "\n\n" + _first(large),
        ]
    tiny = [case for case in results.cases if case.name.startswith(PREFIX)]
    if tiny:
        sections.append("## Calls\n\n" + _CALLS + "\n\n" + _calls(tiny))
    return "\n\n".join(sections) + "\n"


_TIMES = (
    "Milliseconds: median (10th to 90th percentile). *in place*: into memory that exists already; the others allocate their "
    "result, from memory that the process has freed and kept. *of copy rate*: bytes of the case (every source byte read once, "
    "every target byte written once) over the time in place, as a fraction of the copy rate in the same rounds. *x eager*, "
    "*x paper*: how many times as long they take as ours in place, and in brackets as ours that allocates. Noise-free, the "
    "papers' algorithm is the eager formula."
)
_MEMORY = "Peak megabytes beyond inputs and outputs."
_FIRST = "Seconds of the first call, with the compilation of what is not in the compilers' caches on the disk."
_CALLS = (
    "Microseconds of one call on 8 x 8 float32, wrapper and checks included: on a GPU the time of the host for many calls in a "
    "row, until the device has done them; in brackets the device's own time."
)


def _head(results: Results) -> str:
    machine, run, rates = results.machine, results.run, results.rates
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    processor = f"{machine['processor']}, {machine['cores']} cores, {machine['instructions']}"
    if "gpu" in machine:
        kernels = f"ours are the {machine['backend']} kernels unless named"
        processor = f"{machine['gpu']}, CUDA {machine['cuda']}, {kernels}; beside {processor}"
    dirty = " with uncommitted changes" if run["dirty"] else ""
    load = ", ".join(f"{load:.2f}" for load in (run["load_before"], run["load_after"]))
    return (
        f"# Benchmarks on {machine['name']}\n\n"
        f"* {processor}; {machine['threads']} threads; {machine['memory_bytes'] / 2**30:.0f} GiB; {machine['system']}\n"
        f"* {versions}\n"
        f"* commit {run['commit']}{dirty}, {run['date']}, `{run['command']}`; load of the machine before and after: {load}\n"
        f"* copy rate {rates['copy'] / 1e9:.1f} GB/s read + written (the fastest of {run['copies']}), "
        f"noise in cache {rates['operations'] / 1e9:.0f} G operations/s\n"
        f"* main source {run['side']} x {run['side']}; every output is checked against the reference "
        f"before it is timed; providers take turns; medians of {_rounds(results)} rounds"
    )


def _rounds(results: Results) -> str:
    counts = [len(measured.seconds) for case in results.cases for measured in case.measurements.values()]
    fewest, most = min(counts, default=0), max(counts, default=0)
    return str(fewest) if fewest == most else f"{fewest} to {most}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _targets(targets: Sequence[Target]) -> str:
    rows = [(t.claim, t.text, f"{t.figure:.2f}{t.unit}", "met" if t.met else "**not met**") for t in targets]
    return table(("target", "limit", "measured", ""), rows)


def _times(cases: Sequence[CaseResult]) -> str:
    rows = []
    for case in cases:
        if case.base is None:
            continue
        fraction = case.copy_fraction(case.base)
        rows.append(
            [
                case.name,
                *(_spread(case.measurements.get(name)) for name in _COLUMNS),
                "" if fraction is None else f"{fraction:.2f}",
                *(_times_as_long(case, rival, case.base) for rival in (EAGER, PAPER)),
            ]
        )
    main = table(("case", *_COLUMNS, "of copy rate", "x eager", "x paper"), rows)
    extra = [
        (case.name, name, _spread(measured))
        for case in cases
        for name, measured in case.measurements.items()
        if name not in _COLUMNS
    ]
    return main + ("\n\n" + table(("case", "compared with", "ms"), extra) if extra else "")


def _times_as_long(case: CaseResult, rival: str, base: str) -> str:
    ratio = case.ratio(rival, base)
    if ratio is None:
        return ""
    allocating = case.ratio(rival, OURS)
    return f"{ratio:.1f} ({allocating:.1f})" if allocating is not None and base != OURS else f"{ratio:.1f}"


def _spread(measured: Measurement | None) -> str:
    if measured is None:
        return ""
    low, mid, high = (measured.percentile(q) * 1e3 for q in (10, 50, 90))
    digits = 0 if mid >= 100 else 1 if mid >= 10 else 2
    return f"{mid:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _memory(cases: Sequence[CaseResult]) -> str:
    names = _COLUMNS[:-1]
    rows = [
        [case.name, *(_megabytes(case.measurements.get(name)) for name in names)]
        for case in cases
        if any(m.extra_bytes is not None for m in case.measurements.values())
    ]
    return table(("case", *names), rows)


def _megabytes(measured: Measurement | None) -> str:
    return "" if measured is None or measured.extra_bytes is None else f"{measured.extra_bytes / 1e6:.0f}"


def _first(cases: Sequence[CaseResult]) -> str:
    names = (OURS_OUT, TRITON, EAGER, COMPILED)
    rows = []
    for case in cases:
        seconds = [case.measurements[name].first_seconds if name in case.measurements else None for name in names]
        rows.append([case.name, *("" if s is None else f"{s:.2f}" for s in seconds)])
    return table(("case", *names), rows)


def _calls(cases: Sequence[CaseResult]) -> str:
    names = [
        name for name in (OURS, OURS_OUT, TRITON, ONE_BY_ONE, EAGER) if any(name in case.measurements for case in cases)
    ]
    rows = [[case.name.removeprefix(PREFIX), *(_call(case.measurements.get(name)) for name in names)] for case in cases]
    return table(("op", *names), rows)


def _call(measured: Measurement | None) -> str:
    if measured is None:
        return ""
    device = "" if measured.device_seconds is None else f" ({measured.device_seconds * 1e6:.1f})"
    return f"{measured.median * 1e6:.1f}{device}"

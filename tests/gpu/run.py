"""`make gpu-check`: builds the extension with this machine's compilers, runs every GPU test, writes a report.

    python -m tests.gpu.run [--minutes 4.5] [--out FOLDER]

Each part is a process of its own, so one that crashes, hangs or leaves its CUDA context unusable hides no other. After each
part report.md, report.json and report.log are written to the folder (default: $OUT, or benchmarks/results/GPU). The exit
status tells whether everything that ran passed. Nothing is installed, and no git is needed: GROWKERNELS_COMMIT may name the
commit of a copy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import provenance
from tests.gpu.device import BACKENDS, CUDA, REHEARSAL, examples
from tests.gpu.report import Outcome, Report

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: Parts that run at once: most of a test's time is Python's, and the GPU's memory holds the largest of all.
AT_ONCE = 10
#: Workers for the tests that have Triton compile most, if xdist is there; and seconds for seeded examples in one of them.
WORKERS, SEEDED_SECONDS = 8, 20
SANITIZERS = ("memcheck", "racecheck", "initcheck")
#: Of a part's output, what goes into the report and into the log.
EXCERPT, LOGGED = 3000, 200_000


@dataclass
class Part:
    """A command to run in the root of the project."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


def build() -> Part:
    """Compile the extension where its sources are."""
    emulated = ["build_emulated"] if "emulated" in BACKENDS else []
    return Part("build", [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", *emulated])


def tests() -> list[Part]:
    """Every file of GPU tests, once for each backend if it speaks of backends."""
    parts = []
    for path in sorted(HERE.glob("test_*.py")):
        name = path.stem.removeprefix("test_").replace("_", " ")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path.relative_to(ROOT))]
        if "BACKENDS" not in path.read_text():
            parts.append(Part(name, command))
            continue
        for backend in BACKENDS:
            workers = WORKERS if name == "bits" and backend == "triton" and find_spec("xdist") else 1
            environment = {
                "GROWKERNELS_GPU_BACKENDS": backend,
                "GROWKERNELS_GPU_SECONDS": str(SEEDED_SECONDS * workers / WORKERS),
                **({"OMP_NUM_THREADS": "2"} if workers > 1 else {}),
            }
            side_by_side = ["-n", str(workers), "--dist", "worksteal"] if workers > 1 else []
            parts.append(Part(f"{name}, {backend}", [*command, *side_by_side], environment))
    return parts


def sweeps() -> list[Part]:
    """In place of the tests: the drawn ones from a seeded generator, which needs torch and NumPy only."""
    command = [sys.executable, "-m", "tests.gpu.sweep", "--examples", str(examples(2000)), "--backend"]
    return [Part(f"sweep, {backend}", [*command, backend]) for backend in BACKENDS]


def sanitizers() -> list[Part]:
    """A short sweep under each tool of compute-sanitizer; none where it is missing.

    Every tensor is an allocation of its own there, so that no access beside it goes unseen.
    """
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        return []
    sweep = [sys.executable, "-m", "tests.gpu.sweep", "--examples", "12", "--backend"]
    return [
        Part(
            f"{kind}, {backend}",
            [tool, "--tool", kind, "--error-exitcode", "99", "--print-limit", "20", *sweep, backend],
            {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        )
        for kind in SANITIZERS
        for backend in BACKENDS
    ]


class Check:
    """Runs parts, and keeps the report up to date."""

    def __init__(self, report: Report, folder: Path, seconds: float) -> None:
        self.report, self.folder, self.deadline = report, folder, time.monotonic() + seconds
        self._lock = threading.Lock()
        (folder / "report.log").write_text("")

    def run(self, part: Part) -> Outcome:
        """Run a part to its end, or until the time for all is over."""
        start = time.monotonic()
        with self._lock:
            outcome = Outcome(part.name)
            self.report.parts.append(outcome)
            self.report.write(self.folder)
        with tempfile.NamedTemporaryFile("r", prefix="growkernels-", suffix=".jsonl") as record:
            status, output = self._process(part, record.name)
            tests = [json.loads(line) for line in record]
        failed = status != 0 or any(test["outcome"] == "failed" for test in tests)
        with self._lock:
            outcome.seconds = time.monotonic() - start
            outcome.tests = tests
            outcome.status = "failed" if failed else "passed"
            outcome.detail = output[-EXCERPT:] if failed else ""
            with (self.folder / "report.log").open("a") as log:
                log.write(f"==== {part.name}: {outcome.status}\n{output[-LOGGED:]}\n")
            self.report.write(self.folder)
        print(f"{part.name}: {outcome.status}, {outcome.seconds:.0f} s", file=sys.stderr, flush=True)
        return outcome

    def _process(self, part: Part, record: str) -> tuple[int, str]:
        """Exit status and output; what is left of the process and its children at the deadline is ended."""
        environment = {**os.environ, "GROWKERNELS_RECORD": record, "PYTHONUNBUFFERED": "1", **part.environment}
        # Into a file: a pipe that some grandchild still holds would keep us waiting.
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            process = subprocess.Popen(
                part.command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            stopped = ""
            try:
                process.wait(max(1.0, self.deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                stopped = "\nstopped: the time for the whole check was over"
            output.seek(0)
            return process.returncode, output.read() + stopped


def about() -> dict[str, Any]:
    """Machine, versions, commit."""
    head, dirty = provenance.commit()
    found: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name() if CUDA else None,
        "commit": head + (" with uncommitted changes" if dirty else ""),
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "versions": ", ".join(f"{k} {v}" for k, v in provenance.versions("pytest", "hypothesis").items()),
        "compilers": ", ".join(filter(None, (_release("nvcc", r"release ([\d.]+)"), _release("c++", r"\) ([\d.]+)")))),
    }
    if CUDA:
        properties = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
        found["devices"] = ", ".join(
            f"{p.name} (sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB)" for p in properties
        )
        found["cuda"] = f"{torch.version.cuda}, driver {_driver()}"
    return found


def _release(compiler: str, pattern: str) -> str | None:
    path = shutil.which(compiler) or shutil.which(compiler, path="/usr/local/cuda/bin")
    if path is None:
        return None
    match = re.search(pattern, provenance.output(path, "--version"))
    return f"{compiler} {match[1]}" if match else compiler


def _driver() -> str:
    try:
        return provenance.output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def main() -> None:
    """Build, test, sanitize, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.5, help="after which what still runs is stopped")
    parser.add_argument("--out", type=Path, help="folder for the report")
    arguments = parser.parse_args()
    if not (CUDA or REHEARSAL):
        sys.exit("torch.cuda is not available: there is nothing to check. `make test` runs what needs no GPU.")
    report = Report(about())
    gpu = "-".join(re.findall(r"[a-z0-9]+", (report.about["gpu"] or "rehearsal").lower()))
    given = arguments.out or (Path(os.environ["OUT"]) if os.environ.get("OUT") else None)
    folder = given or ROOT / ("benchmarks/results" if CUDA else "build") / gpu
    folder.mkdir(parents=True, exist_ok=True)

    check = Check(report, folder, 60 * arguments.minutes)
    # Where it fails the Triton kernels still run, and the CUDA tests say what is missing.
    check.run(build())
    missing = [name for name in ("pytest", "hypothesis") if find_spec(name) is None]
    if missing:
        report.notes.append(
            f"{' and '.join(missing)} missing: a seeded sweep stands in for the tests; streams, graphs, memory, PyTorch's "
            f"checks and whole models were not tested"
        )
    parts = [*(sweeps() if missing else tests()), *sanitizers()]
    if not any(part.name.startswith(SANITIZERS) for part in parts):
        report.notes.append(
            "compute-sanitizer is not on this machine: accesses out of bounds and races were not looked for"
        )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(check.run, parts))
    report.write(folder)
    print(report.markdown())
    print(f"The report is in {folder}", file=sys.stderr)
    sys.exit(not report.passed)


if __name__ == "__main__":
    main()

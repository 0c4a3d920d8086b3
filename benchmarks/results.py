"""What was measured, as data: the JSON and CSV files, and the figures derived from them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import FLOOR, OURS, OURS_OUT

FORMAT = 1


@dataclass(frozen=True)
class Measurement:
    """`seconds` of every round; where they were measured, `extra_bytes`: peak memory beyond inputs and outputs; `bytes`: moved
    by the operations of plain PyTorch, and `operations` of their products of matrices; `first_seconds`: of the first run,
    which compiles; `device_seconds`: of one call among many, the GPU's own.
    """

    seconds: list[float]
    extra_bytes: int | None = None
    bytes: int | None = None
    first_seconds: float | None = None
    device_seconds: float | None = None
    operations: int | None = None

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    def percentile(self, q: float) -> float:
        """Seconds."""
        return float(np.percentile(self.seconds, q))


@dataclass(frozen=True)
class CaseResult:
    """A case's declared work (`bytes`, `operations`), its providers' measurements, times per single call, and which failed."""

    name: str
    bytes: int
    operations: int
    calls: int
    measurements: dict[str, Measurement]
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str | None:
        """What the others are compared with: ours in place, else ours that allocates; None if neither ran."""
        return next((name for name in (OURS_OUT, OURS) if name in self.measurements), None)

    def median(self, provider: str) -> float:
        """Seconds."""
        return self.measurements[provider].median

    def ratio(self, provider: str | None, other: str | None) -> float | None:
        """How many times as long the provider takes as the other, medians; None if one of them did not run."""
        if provider not in self.measurements or other not in self.measurements:
            return None
        return self.median(provider) / self.median(other)

    def copy_fraction(self, provider: str) -> float | None:
        """The provider's rate over least traffic as a fraction of the copy rate measured in the same rounds."""
        return self.ratio(FLOOR, provider)


@dataclass(frozen=True)
class Results:
    """One run of the suite. `machine`, `versions`, `run`: what it ran on, with, and how; `rates`: the machine's own."""

    machine: dict[str, Any]
    versions: dict[str, str]
    run: dict[str, Any]
    rates: dict[str, float]
    cases: list[CaseResult] = field(default_factory=list)

    def case(self, name: str) -> CaseResult | None:
        """By name; None if it was not run."""
        return next((case for case in self.cases if case.name == name), None)

    def to_json(self) -> str:
        """The raw figures, every round of every provider."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """The inverse of `to_json`. Raises ValueError for another format."""
        raw = json.loads(text)
        if (found := raw.pop("format")) != FORMAT:
            raise ValueError(f"results of format {found}; this code reads format {FORMAT}")
        cases = [
            CaseResult(**{**case, "measurements": {k: Measurement(**m) for k, m in case["measurements"].items()}})
            for case in raw.pop("cases")
        ]
        return cls(**raw, cases=cases)

    def to_csv(self) -> str:
        """One line for each provider of each case, with the run's commit and machine."""
        lines = []
        for case in self.cases:
            for name, measured in case.measurements.items():
                seconds = {"median_s": measured.median, "min_s": min(measured.seconds), "max_s": max(measured.seconds)}
                seconds |= {"p10_s": measured.percentile(10), "p90_s": measured.percentile(90)}
                lines.append(
                    {"machine": self.machine["name"], "commit": self.run["commit"], "case": case.name, "provider": name}
                    | {"bytes": case.bytes, "operations": case.operations, "rounds": len(measured.seconds)}
                    | {column: f"{value:.6g}" for column, value in seconds.items()}
                    | {"bytes_per_s": f"{case.bytes / measured.median:.6g}"}
                    | {"copy_fraction": _number(case.copy_fraction(name)), "extra_bytes": _number(measured.extra_bytes)}
                )
        out = io.StringIO()
        writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def read(path: Path) -> Results:
    """Results from a JSON file."""
    return Results.from_json(path.read_text())

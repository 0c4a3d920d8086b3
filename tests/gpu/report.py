"""What a check found, as Markdown and JSON, written anew after every part."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: What a part that has not ended is called in the report of one that was cut short.
RUNNING = "running"


@dataclass
class Outcome:
    """One part: `status` is passed, failed, not run, or running; `detail` says why; `tests` has one entry for each test."""

    name: str
    status: str = RUNNING
    seconds: float = 0.0
    detail: str = ""
    tests: list[dict[str, Any]] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """How many tests passed, failed or were skipped."""
        return sum(test["outcome"] == outcome for test in self.tests)


@dataclass
class Report:
    """A whole check: on what it ran, and its parts in order."""

    about: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    parts: list[Outcome] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something ran, and nothing failed or is unfinished."""
        statuses = {part.status for part in self.parts}
        return "passed" in statuses and not statuses & {"failed", RUNNING}

    def write(self, folder: Path) -> None:
        """`report.md` and `report.json`; the whole files or none of them."""
        raw = {**asdict(self), "passed": self.passed}
        for name, text in (("report.json", json.dumps(raw, indent=1) + "\n"), ("report.md", self.markdown())):
            unfinished = folder / f".{name}"
            unfinished.write_text(text)
            unfinished.replace(folder / name)

    def markdown(self) -> str:
        """For people: the verdict, the parts, what failed, what was skipped and why."""
        verdict = "Everything that ran passed." if self.passed else "**Not everything passed.**"
        lines = [f"# GPU check on {self.about.get('gpu') or 'no GPU'}", "", verdict, ""]
        lines += [f"* {name}: {value}" for name, value in self.about.items()]
        lines += [f"* {note}" for note in self.notes]
        lines += ["", "| part | result | seconds | passed | failed | skipped | seeded examples |"]
        lines += ["|---|---|---:|---:|---:|---:|---:|"]
        for part in self.parts:
            counts = [str(part.count(outcome)) if part.tests else "" for outcome in ("passed", "failed", "skipped")]
            counts.append(str(sum(test.get("examples", 0) for test in part.tests) or ""))
            status = f"**{part.status}**" if part.status in ("failed", RUNNING) else part.status
            lines.append(f"| {part.name} | {status} | {part.seconds:.0f} | {' | '.join(counts)} |")
        for part in self.parts:
            failures = [test for test in part.tests if test["outcome"] == "failed"]
            if failures or (part.detail and part.status != "passed"):
                lines += ["", f"## {part.name}"]
            if part.detail and part.status != "passed":
                lines += ["", "```", part.detail, "```"]
            for test in failures[:20]:
                lines += ["", f"`{test['test']}`", "", "```", test["detail"][-1500:], "```"]
            if len(failures) > 20:
                lines += ["", f"and {len(failures) - 20} more, in report.json"]
        reasons: dict[str, int] = {}
        for part in self.parts:
            for test in part.tests:
                if test["outcome"] == "skipped":
                    reasons[test["detail"]] = reasons.get(test["detail"], 0) + 1
        if reasons:
            lines += ["", "## Skipped", ""]
            lines += [f"* {count} tests: {reason}" for reason, count in sorted(reasons.items())]
        return "\n".join(lines) + "\n"

"""`growkernels doctor`: what is installed and which code runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from growkernels.cli import options
from growkernels.cli.console import notes, print_json, results

if TYPE_CHECKING:
    from growkernels.doctor import Findings


def doctor(json: options.Json = False) -> None:
    """Show versions, which backend is active and why, and what to do where something is missing."""
    with notes.status("looking around"):
        from growkernels.doctor import examine

        findings = examine()
    if json:
        print_json(findings.to_json())
    else:
        results.print(_show(findings))


def _show(findings: Findings) -> RenderableType:
    from growkernels.report import facts

    table = facts()
    for section in (findings.backend, findings.machine, findings.versions):
        for name, value in section.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            table.add_row(name.replace("_", " "), Text("none" if text is None else str(text)))
        table.add_row()
    if not findings.remedies:
        return Group(table, Text("All is well.", "green"))
    return Group(table, *(Text(remedy, "yellow") for remedy in findings.remedies))

"""`growkernels doctor`: what is installed and which code runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    from growkernels.report.tables import facts

    table = facts()
    for section in (findings.backend, findings.machine, findings.versions):
        for name, value in section.items():
            table.add_row(name.replace("_", " "), Text(_text(value)))
        table.add_row()
    if not findings.remedies:
        return Group(table, Text("All is well.", "green"))
    return Group(table, *(Text(remedy, "yellow") for remedy in findings.remedies))


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict) and "why" in value:
        return f"{value['active'] or 'none'}: {value['why']}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(entry)}" for name, entry in value.items())
    return ".".join(map(str, value)) if isinstance(value, tuple) else str(value)

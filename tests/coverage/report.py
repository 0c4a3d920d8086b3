"""The results of the sweep as a table."""

from __future__ import annotations

from typing import Any

import transformers

from tests.coverage import twins
from tests.coverage.sizes import NOT_RUN

#: Steps and their columns.
_COLUMNS = {
    "width 2": "width 2",
    "width 3": "width 3",
    "width 2, ffn 3": "ffn 3",
    "noise": "noise",
    "tie": "tie flipped",
    "stack": "stacked",
    "odd list": "odd order",
    "identity": "zeroed",
    "depth and width": "both",
    "live": "live",
    "loaded": "loaded",
    "other classes": "other classes",
    "bad configs": "bad configs",
}


#: What stands above it in the page is written by hand.
MARK = "<!-- From here on written by make coverage. -->"


def words(step: dict[str, Any]) -> str:
    """One step in a few words."""
    if "error" in step:
        return f"{step['outcome']} {step['error']:.0e}"
    return f"{step['outcome']}: {step['reason'][:160]}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: one row for each twin."""
    lines = [
        MARK,
        "",
        "## The table",
        "",
        f"What `make coverage` finds with transformers {transformers.__version__}: a tiny random twin of every type, grown and "
        "compared with its source as stock code reloads both. Figures are the largest difference over the largest output, in "
        "float64; `bits` are equal bit for bit.",
        "",
        f"| type | class | {' | '.join(_COLUMNS.values())} |",
        "|---|---" + "|---" * len(_COLUMNS) + "|",
    ]
    notes: dict[str, list[str]] = {}
    for name in twins.names():
        if name in NOT_RUN:
            notes.setdefault(NOT_RUN[name], []).append(name)
            continue
        found = results.get(name, {})
        cells = [_cell(found.get("build", found.get(step)), name, notes) for step in _COLUMNS]
        lines.append(f"| {name} | {twins.architecture(name)} | {' | '.join(cells)} |")
    lines += ["", "## Refused, and why", ""]
    lines += [f"* {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in notes.items()]
    return "\n".join(lines) + "\n"


def _cell(step: dict[str, Any] | None, name: str, notes: dict[str, list[str]]) -> str:
    if step is None:
        return ""
    if "error" in step:
        figure = "bits" if step["error"] == 0 else f"{step['error']:.0e}"
        return figure if step["outcome"] == "exact" else f"**{figure}**"
    notes.setdefault(step["reason"], []).append(name)
    return step["outcome"]

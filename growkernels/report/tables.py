"""What the commands show in a terminal, as rich renderables: plans, growths, verifications."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from growkernels.api import Report
from growkernels.learning import FitReport
from growkernels.plans import Plan
from growkernels.plans.summary import Summary
from growkernels.verification.checkpoint import Verification

_SI = "kMGT"
_STYLE = {"exactly": "green", "up to rounding": "green", "no": "yellow"}
_HOLDS = {
    "exactly": "same function, exactly",
    "up to rounding": "same function, up to rounding",
    "no": "another function",
}


def plan_report(plan: Plan, summary: Summary) -> RenderableType:
    """Rules by kind of tensor, what changes in figures and in the config, what is claimed, and warnings."""
    return Group(
        _rows(summary),
        Text(),
        _figures(plan, summary),
        *_section(
            "Function",
            [Text.assemble((_HOLDS[c.holds], _STYLE[c.holds]), f" ({c.part}): {c.reason}") for c in plan.claims],
        ),
        *_section(
            "Not carried over",
            [Text(f"{name}: {reason}") for name, reason in plan.dropped.items()],
        ),
        *_section("Warnings", [Text(text) for text in plan.warnings]),
        *_section("Checked by grow, for no weight was read", [Text(text) for text in _unread(plan)]),
    )


def _unread(plan: Plan) -> list[str]:
    """What a plan takes for granted of the weights."""
    tied = [name for name, reason in plan.dropped.items() if reason.startswith("tied to ")]
    same = [f"{', '.join(tied)}: stored apart, and equal to what the class ties it to, bit for bit"] if tied else []
    return ["weights are finite and fit the target's type", *same]


def verification_report(verification: Verification) -> RenderableType:
    """The verdict and the findings."""
    verdict = Text("Verified", "bold green") if verification.passed else Text("NOT what the plan says", "bold red")
    return Group(verdict, _bullets([Text(line) for line in verification.lines()]))


def growth_report(report: Report) -> RenderableType:
    """What was made, how it was verified, and what to do next."""
    table = facts()
    table.add_row("Made", Text(str(report.target)))
    for name, text in _changes(report.plan, report.summary):
        table.add_row(name, text)
    if report.fit is not None:
        table.add_row("Fitted", Text(_fit_text(report.fit, report.target)))
    table.add_row(
        "Written",
        f"{bytes_text(report.nbytes)} in {report.writing_seconds:.1f} s, {bytes_text(report.rate)}/s",
    )
    table.add_row("Whole run", f"{report.seconds:.1f} s")
    checked = Text("Not verified: switched off", "yellow")
    return Group(
        table,
        Text(),
        checked if report.verification is None else verification_report(report.verification),
        *_section("Left in the source", _some(report.side_files.left)),
        *_section("Files beside the weights that state a size", _some(report.side_files.changed)),
        *_section("Next", [Text(_advice(report.plan))]),
    )


def _some(items: Mapping[str, str], most: int = 20) -> list[Text]:
    shown = [Text(f"{name}: {text}") for name, text in list(items.items())[:most]]
    return [*shown, Text(f"and {len(items) - most} more, in growkernels.json")] if len(items) > most else shown


def _fit_text(fit: FitReport, target: Path) -> str:
    tenth = max(1, len(fit.losses) // 10)
    first, last = (sum(part) / tenth for part in (fit.losses[:tenth], fit.losses[-tenth:]))
    tokens = f"{len(fit.losses)} steps of {fit.batch} x {fit.length} tokens"
    steps = f"{tokens} on {fit.text} ({short(fit.tokens)}) in {fit.seconds:.1f} s"
    if fit.resumed_from:
        steps += f" (the first {fit.resumed_from} were in the checkpoint)"
    notes = [f"means of {tenth}"] if tenth > 1 else []
    notes += [path.name for path in target.glob("growkernels-fit.png")]  # not drawn without matplotlib
    return f"{steps}, loss {first:.3f} -> {last:.3f}" + (f" ({'; '.join(notes)})" if notes else "")


def facts() -> Table:
    """A borderless table of names and values."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def tensor_table(
    columns: Sequence[tuple[str, bool]], rows: Sequence[tuple[str, int, Sequence[str]]], layers: int
) -> Table:
    """A row for each group of tensors: name (`{}` for the layer), how many there are, and the cells of `columns`.

    The layers' prefix stands once above its rows, and `.weight` is left out. `columns`: titles, and whether they hold figures.
    """
    # Narrow margins: a Llama's rows fit into 80 columns.
    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False, collapse_padding=True)
    names = [_plain_name(name, count, layers) for name, count, _ in rows]
    # Other text gives way first: it breaks between its words, a name anywhere.
    table.add_column("Tensor", overflow="fold", no_wrap=max(map(len, names), default=0) <= 28)
    for title, figures in columns:
        table.add_column(title, justify="right" if figures else "left", no_wrap=figures)
    above = ""
    for (name, _, cells), plain in zip(rows, names, strict=True):
        prefix = _prefix(name)
        if prefix and prefix != above:
            table.add_row(Text(f"{prefix}0-{layers - 1}" if layers > 1 else f"{prefix}0", "dim"))
        above = prefix
        table.add_row(Text(plain), *map(Text, cells))
    return table


def _prefix(name: str) -> str:
    return name.partition("{}.")[0] if "{}." in name else ""


def _plain_name(name: str, count: int, layers: int) -> str:
    if not _prefix(name):
        return name.removesuffix(".weight")
    if "*" in name:
        some = f" (x{count // layers})" if count % layers == 0 else f" ({count} in all)"
    else:
        some = "" if count == layers else f" ({count} layers)"
    return f" {name.partition('{}.')[2].removesuffix('.weight')}{some}"


def shape_text(shape: Sequence[int]) -> str:
    """Sizes with a cross between them."""
    return " x ".join(map(str, shape))


def bytes_text(count: float) -> str:
    """Bytes in decimal units, three digits."""
    return f"{short(count, _SI)}B" if count >= 999.5 else f"{count:.0f} B"


def flops_text(count: float) -> str:
    """Floating-point operations in decimal units, three digits."""
    return short(count, _SI)


def short(count: float, units: str = "kMBT") -> str:
    """A count with three digits and a decimal unit."""
    for unit, size in reversed(list(zip(units, (1e3, 1e6, 1e9, 1e12), strict=True))):
        # What would round up to 1000 of a unit is 1 of the next.
        if count >= size * 0.9995:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def runs(indices: Sequence[int]) -> str:
    """Layer numbers with their consecutive runs as ranges: `0-5 0-5`."""
    parts: list[list[int]] = []
    for i in indices:
        if parts and i == parts[-1][-1] + 1:
            parts[-1].append(i)
        else:
            parts.append([i])
    return " ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _rows(summary: Summary) -> Table:
    columns = [("Rule (dB: noise)", False), ("Target shape", True), ("Param.", True), ("FLOPs", True), ("Bytes", True)]
    rows = []
    for row in summary.rows:
        flops = flops_text(row.flops_per_token) if row.flops_per_token else "-"
        cells = (
            row.rule.replace("noise ", ""),
            shape_text(row.shape),
            short(row.parameters),
            flops,
            bytes_text(row.nbytes),
        )
        rows.append((row.name, row.count, cells))
    return tensor_table(columns, rows, len(summary.layer_index))


def _figures(plan: Plan, summary: Summary) -> Table:
    table = facts()
    for name, text in _changes(plan, summary):
        table.add_row(name, text)
    changed = [
        f"{key} {_value(plan.source_config.get(key))} -> {_value(plan.config.get(key))}"
        for key in sorted({*plan.source_config, *plan.config})
        if plan.source_config.get(key) != plan.config.get(key)
    ]
    table.add_row("config.json", Text(", ".join(changed)))
    if summary.fit_bytes is not None:
        table.add_row(
            "Memory of a fit", f"{bytes_text(summary.fit_bytes)} and what the grown model keeps for its backward pass"
        )
    return table


def _value(value: object) -> str:
    text = json.dumps(value)
    return (
        text if len(text) <= 24 else f"({len(value)} entries)" if isinstance(value, (list, dict)) else f"{text[:20]}..."
    )


def _changes(plan: Plan, summary: Summary) -> list[tuple[str, str]]:
    before, after = summary.source, summary.target
    rate = summary.connection_rate
    layers = f"{before.layers} -> {after.layers}"
    if list(plan.layer_index) != list(range(before.layers)):
        if plan.options["depth_operator"] == "ligo":
            layers += f": learned mixes, which start as {runs(plan.layer_index)}"
        else:
            layers += f": {runs(plan.layer_index)}" + ("" if rate is None else f" (connection rate {rate:.0%})")
    return [
        ("Parameters", _growth(before.parameters, after.parameters, short)),
        (
            "FLOPs per token",
            _growth(before.flops_per_token, after.flops_per_token, flops_text),
        ),
        ("Weights", _growth(before.nbytes, after.nbytes, bytes_text)),
        ("Layers", layers),
    ]


def _growth(before: int, after: int, text: Callable[[float], str]) -> str:
    times = f" ({after / before:.2f}x)" if before else ""
    return f"{text(before)} -> {text(after)}{times}"


def _section(title: str, items: list[Text]) -> list[RenderableType]:
    return [Text(), Text(title, "bold"), _bullets(items)] if items else []


def _bullets(items: list[Text]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        table.add_row(" -", item)
    return table


def _advice(plan: Plan) -> str:
    starts = (
        "The loss starts where the source's ended."
        if plan.preserves_function
        else "The loss starts higher and soon falls."
    )
    return f"Train on with a fresh AdamW and a new warm-up to the source's peak learning rate. {starts}"


def load_lines(plan: Plan, target: Path) -> Text:
    """Python that loads the target; to be printed without wrapping, for it is there to be copied."""
    architecture = (plan.config.get("architectures") or ["AutoModel"])[0]
    tokenizer = any((target / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json"))
    names = [architecture, *(["AutoTokenizer"] if tokenizer else [])]
    lines = [
        f"from transformers import {', '.join(names)}",
        f'model = {architecture}.from_pretrained("{target}")',
    ]
    if tokenizer:
        lines.append(f'tokenizer = AutoTokenizer.from_pretrained("{target}")')
    return Text("\n".join(f"    {line}" for line in lines))

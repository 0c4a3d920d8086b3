"""`growkernels analyze`: what the weights of a checkpoint hold."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from growkernels.cli import options
from growkernels.cli.console import notes, print_json, results, warn

if TYPE_CHECKING:
    from rich.console import RenderableType

    from growkernels.analyze import Analysis


def analyze(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint to analyze: a folder, or a Hugging Face hub id. It is only read.",
            show_default=False,
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="SRC",
            help="The checkpoint it grew from: shows what has changed and what is new.",
            show_default=False,
        ),
    ] = None,
    spectra: Annotated[
        bool,
        typer.Option(
            "--spectra/--no-spectra",
            metavar="",
            help="Compute singular values and, beside a source, new directions; or leave out this slowest part.",
        ),
    ] = True,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw symmetry, layers, spectra and effective ranks.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Analyze the weights: symmetry between copies, effective ranks, dead and duplicate parts, what is new beside a source.

    Says whether a checkpoint is a noise-free clone, a noisy clone, a clone that was trained on, or none; and whether its copies
    are locked, so that training cannot separate them. Files are mapped: memory stays below 1 GB for any checkpoint.

    [bold]Examples[/]

        growkernels analyze ./wide
        growkernels analyze ./wide --reference ./small --picture analysis.png
        growkernels analyze ./wide --no-spectra --json | jq .verdict
    """
    with notes.status("analyzing"):
        from growkernels.analyze import analyze as analyzed
        from growkernels.analyze import draw_analysis

        analysis = analyzed(checkpoint, reference, spectra=spectra)
        if picture is not None:
            draw_analysis(analysis, picture)
    if json:
        for text in analysis.findings:
            warn(text)
        print_json(analysis.to_json())
    else:
        results.print(_show(analysis))
    if picture is not None:
        notes.print(f"Picture: {picture}")


def _show(analysis: Analysis) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from growkernels.report.tables import bytes_text, facts

    table, verdict = facts(), analysis.verdict
    table.add_row("Checkpoint", f"{analysis.checkpoint}: {analysis.layers} layers, {bytes_text(analysis.nbytes)}")
    table.add_row("Is", Text.assemble((verdict.origin, "bold"), f": {verdict.reason}"))
    if not analysis.layout_known:
        table.add_row(
            "Mind", "the layout of this family is unknown: fused matrices are taken as wholes, units not counted"
        )
    if analysis.comparison is not None:
        depth = analysis.comparison.depth
        index = " ".join("-" if layer is None else str(layer) for layer in depth.index)
        rate = "" if depth.connection_rate is None else f" (connection rate {depth.connection_rate:.0%})"
        table.add_row("Source", f"{analysis.comparison.source}; its layers by likeness: {index}{rate}")
    if analysis.stream:
        table.add_row("Stream", "changed by layer: " + " ".join(f"{entry.change:.2f}" for entry in analysis.stream))
    else:
        table.add_row("Stream", f"not run: {analysis.not_run}")
    parts: list[RenderableType] = [table, Text(), _kinds(analysis)]
    for text in analysis.findings:
        parts += [Text(), Text.assemble((" ! ", "bold yellow"), text)]
    return Group(*parts)


def _kinds(analysis: Analysis) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    table.add_column("Kind (means over layers)", overflow="fold")
    for title in ("copies", "cosine", "chance", "rank", "apart", "new", "moved"):
        table.add_column(title, justify="right", no_wrap=True)
    symmetry, ranks, changes = (defaultdict(list) for _ in range(3))
    for entry in analysis.symmetry:
        symmetry[entry.kind].append(entry)
    for spectrum in analysis.spectra:
        ranks[spectrum.kind].append(spectrum.rank_share)
    for change in analysis.comparison.changes if analysis.comparison else ():
        changes[change.kind].append(change)
    for kind, entries in symmetry.items():
        first = entries[0]
        moved = changes[kind]
        cells = (
            "x".join(map(str, first.copies)) if first.found else "none",
            f"{_mean([entry.cosine for entry in entries]):.2f}",
            f"{_mean([entry.chance for entry in entries]):.2f}",
            _percent(ranks[kind.partition(" part ")[0]]),
            _percent([change.apart for change in moved]),
            _percent([change.new_directions for change in moved if change.new_directions is not None]),
            _percent([change.changed for change in moved]),
        )
        table.add_row(Text(kind.removeprefix("model.").removesuffix(".weight")), *cells)
    return table


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _percent(values: list[float]) -> str:
    return f"{_mean(values):.0%}" if values else "-"

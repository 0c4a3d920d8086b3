"""`growkernels race`: several operators from one checkpoint, trained alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from growkernels.cli import options
from growkernels.cli.console import notes, print_json, results, warn

if TYPE_CHECKING:
    from rich.console import RenderableType

    from growkernels.race import RaceResult
    from growkernels.race.ranking import Ranking


def race(
    src: options.Source,
    candidates: Annotated[
        Path,
        typer.Option(
            metavar="FILE.yaml",
            help="Names and options of growths, such as stack: {depth: 2}; fresh: {scratch: stack} trains that shape from "
            "random weights.",
            show_default=False,
        ),
    ],
    text: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Plain text to train on; its last tenth is held out.", show_default=False),
    ],
    steps: Annotated[int, typer.Option(metavar="N", help="Training steps of each run.", show_default=False)],
    seeds: Annotated[int, typer.Option(metavar="K", help="Runs of each candidate.")] = 2,
    seed: Annotated[int, typer.Option(metavar="S", help="The first seed.")] = 0,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder that the race is kept in; the same request goes on from there."),
    ] = Path("race"),
    source_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="Tokens that SRC was trained on, for its FLOPs, such as 2B.",
            show_default="unknown: its FLOPs are left out",
        ),
    ] = None,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Peak learning rate of AdamW.")] = 1e-3,
    warmup: Annotated[
        int | None,
        typer.Option(metavar="N", help="Steps up to that rate, which then stays.", show_default="a tenth of the steps"),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Windows of text in a step.")] = 8,
    length: Annotated[int, typer.Option(metavar="N", help="Tokens of a window.")] = 256,
    json: options.Json = False,
) -> None:
    """Grow a checkpoint in several ways, train each result alike, and say which leads, if the spread allows to.

    Held-out loss against FLOPs, those of the source counted; a band for the range of the seeds. The same file and seeds give
    the same bits on the same machine, also if the race is interrupted and started again.

    [bold]Examples[/]

        growkernels race ./small --candidates ways.yaml --text text.txt --steps 1000
        growkernels race ./small --candidates ways.yaml --text text.txt --steps 1000 --seeds 3 --source-tokens 2B
        growkernels race ./small --candidates ways.yaml --text text.txt --steps 1000 --json | jq .at_flops.leader
    """
    from growkernels.race import race as run

    with notes.status("racing") as status:

        def show(name: str, number: int, step: int) -> None:
            status.update(f"{name}, seed {number}: step {step} of {steps}")

        result = run(
            src,
            candidates,
            text,
            out,
            steps=steps,
            seeds=seeds,
            seed=seed,
            warmup=warmup,
            lr=lr,
            batch=batch,
            length=length,
            source_tokens=source_tokens,
            on_step=show,
        )
    if json:
        for message in result.warnings:
            warn(message)
        print_json({**result.to_json(), "folder": str(result.folder)})
    else:
        results.print(_show(result))


def _show(result: RaceResult) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    for ranking in (result.at_flops, result.at_steps):
        if ranking is not None:
            parts += [*_ranking(ranking), Text()]
    if result.at_flops is None:
        parts += [Text("No FLOPs that all candidates reach: what was spent on the source outweighs the race."), Text()]
    for message in result.warnings:
        parts.append(Text.assemble((" ! ", "bold yellow"), message))
    parts.append(Text(f"Curves: {result.folder / 'race.json'}, picture: {result.folder / 'race.png'}"))
    return Group(*parts)


def _ranking(ranking: Ranking) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    table.add_column(f"At {ranking.value:.4g} {ranking.at}")
    for title in ("mean loss", "best seed", "worst seed"):
        table.add_column(title, justify="right")
    for row in ranking.standings:
        table.add_row(row.name, f"{row.mean:.4f}", f"{row.best:.4f}", f"{row.worst:.4f}")
    verdict = (f"{ranking.leader} leads", "bold green") if ranking.clear else ("no clear leader", "bold yellow")
    return [table, Text.assemble(verdict, f": {ranking.reason}.")]

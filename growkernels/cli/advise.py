"""`growkernels advise`: when to grow, from what, by which operator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from growkernels.cli import options
from growkernels.cli.console import notes, print_json, results, warn

if TYPE_CHECKING:
    from rich.console import RenderableType

    from growkernels.advise import Advice


def advise(
    tokens: Annotated[
        str,
        typer.Option(
            metavar="D",
            help="Tokens that the target would be trained on from scratch, such as 300B or 1.5e12.",
            show_default=False,
        ),
    ],
    target_params: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Parameters of the target without embeddings, such as 8B.",
            show_default="those of --config",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The target's config.json, or its folder: no weights, no download.",
            show_default=False,
        ),
    ] = None,
    source_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="D",
            help="Tokens that the small model has seen, if there is one already.",
            show_default="none is trained yet",
        ),
    ] = None,
    disk_rate: Annotated[
        str,
        typer.Option(
            metavar="BYTES",
            help="Bytes per second of the disk, for the time of the growth.",
        ),
    ] = "1GB",
    curve: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw loss against FLOPs, what is known and what is assumed set apart.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say when to grow into a target, from which small model, by which operator, and what it may save.

    The timing is the law of the Gstack paper, with the range it was fitted to; FLOPs count the small model; savings are those
    that were measured, with their scale, their condition, and whether anyone has repeated them.

    [bold]Examples[/]

        growkernels advise --target-params 8B --tokens 15T
        growkernels advise --config ./target --tokens 300B --curve curve.png
        growkernels advise --config ./target --tokens 300B --source-tokens 2T --json | jq .growth_tokens
    """
    with notes.status("reading the target"):
        from growkernels.advise import advise as advised
        from growkernels.advise import draw_curve

        rate = disk_rate.strip().removesuffix("/s").upper().removesuffix("B") or disk_rate
        advice = advised(target_params, tokens, config=config, source_tokens=source_tokens, disk_rate=rate)
        if curve is not None:
            draw_curve(advice, curve)
    if json:
        for text in advice.warnings:
            warn(text)
        print_json(advice.to_json())
    else:
        results.print(_show(advice))
    if curve is not None:
        notes.print(f"Picture: {curve}")


def _show(advice: Advice) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from growkernels.advise.continuation import CONDITION

    parts: list[RenderableType] = [_figures(advice)]
    lists: dict[str, Sequence[RenderableType | str]] = {
        "Warnings": [Text(text) for text in advice.warnings],
        "Which operator when (>: the case at hand)": [_situation(row) for row in advice.situations],
        "What is known of savings": [
            Text.assemble(
                (e.claim, "bold"), f"\nscale: {e.scale}\nif: {e.condition}\nrepeated: {e.repeated}\n{e.source}"
            )
            for e in advice.evidence
        ],
    }
    for title, items in lists.items():
        if items:
            parts += [Text(), Text(title, "bold"), _bullets(items)]
    heading = Text("To go on exactly with AdamW after --width 2: factors of state and settings", "bold")
    return Group(*parts, Text(), heading, _multipliers(advice), Text(f"Exact for {CONDITION}."))


def _situation(row: object) -> RenderableType:
    from rich.text import Text

    from growkernels.advise.situations import Situation

    assert isinstance(row, Situation)
    mark = ("> ", "green") if row.applies else ""
    return Text.assemble(mark, (row.when, "bold"), f"\n{row.use}\n{row.why}")


def _bullets(items: Sequence[RenderableType | str]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in items:
        table.add_row(" -", item)
    return table


def _figures(advice: Advice) -> RenderableType:
    from rich.text import Text

    from growkernels.advise import FACTOR, FACTOR_RANGE
    from growkernels.report.tables import bytes_text, facts, short

    target, small, flops, growth = advice.target, advice.small, advice.flops, advice.growth
    table = facts()
    guessed = " (guessed from the size)" if target.guessed else ""
    table.add_row("Target", f"{short(target.parameters)} parameters without embeddings, {short(advice.tokens)} tokens")
    table.add_row("Shape", f"{target.layers} layers x {target.hidden}{guessed}")
    known = ", ".join(f"{name} {layers} x {hidden}" for name, layers, hidden in advice.known_models)
    table.add_row("Known models", known)
    timing = "extrapolated" if advice.timing.extrapolated else "within the fitted range"
    capped = f", capped from {short(advice.timing.law_tokens)}" if advice.timing.capped else ""
    table.add_row(
        "Grow after", Text(f"{short(advice.timing.tokens)} tokens of the small model ({timing}{capped})", "bold")
    )
    changed = ", ".join(f"{key} {value}" for key, value in small.config.items())
    table.add_row(
        "Small model",
        f"{changed}, the rest of the config alike: {short(small.parameters)} parameters; depth {small.factor:.3g} times",
    )
    table.add_row("Factor", f"{FACTOR} recommended; the best was found between {FACTOR_RANGE[0]} and {FACTOR_RANGE[1]}")
    table.add_row("FLOPs", f"{flops.scratch:.3g} from scratch")
    table.add_row(
        "", f"{flops.same_tokens:.3g} small model, then target, as many tokens ({flops.small:.2g} of it small)"
    )
    table.add_row(
        "", f"{flops.equal_loss_best:.3g} to {flops.equal_loss_worst:.3g} to the loss of training from scratch"
    )
    table.add_row(
        "Tokens saved",
        f"{advice.saving.low:.0%} to {advice.saving.high:.0%} at equal loss, {advice.saving.basis}: {advice.saving.reason}",
    )
    table.add_row(
        "The growth",
        f"reads {bytes_text(growth.bytes_read)}, writes {bytes_text(growth.bytes_written)}: {growth.seconds:.3g} s at "
        f"{bytes_text(advice.disk_rate)}/s; {bytes_text(growth.checkpoint_memory)} of memory for files, "
        f"{bytes_text(growth.live_memory)} for live models, {bytes_text(growth.training_memory)} to train with AdamW",
    )
    return table


def _multipliers(advice: Advice) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 1), pad_edge=False)
    table.add_column("Tensors", overflow="fold")
    for title in ("exp_avg", "exp_avg_sq", "eps", "lr", "decay"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in advice.multipliers:
        cells = (row.exp_avg, row.exp_avg_sq, row.eps, row.lr, row.weight_decay)
        table.add_row(row.tensors, *(f"{value:.3g}" for value in cells))
    return table

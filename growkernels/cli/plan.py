"""`growkernels plan`: the dry run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from growkernels.cli import options
from growkernels.cli.console import notes, print_json, results, warn


@options.takes_growth_options
def plan(
    src: options.Source,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the block structure of one grown layer.",
            show_default=False,
        ),
    ] = None,
    strip_prefix: options.StripPrefix = "",
    json: options.Json = False,
    **growth: Any,
) -> None:
    """Show what a growth would make, without reading a weight or writing a checkpoint.

    Per kind of tensor: the rule, the target's shape, parameters and bytes; then FLOPs per token, how many neighboring layers
    stay neighbors (connection rate), whether the grown model computes what the source does and why, and warnings.
    Takes the options of [bold]growkernels grow[/]. SRC may be a config.json alone.

    [bold]Examples[/]

        growkernels plan ./small --width 2 --depth 2
        growkernels plan ./small --width 2 --picture layer.png
        growkernels plan ./small --depth 4 --json | jq .summary
        growkernels plan ./config.json --width 2
    """
    growth = options.growth_options(growth)
    with notes.status("reading the checkpoint's layout"):
        import growkernels
        from growkernels.plans.summary import summarize
        from growkernels.report.tables import plan_report

        planned = growkernels.plan(src, strip_prefix=strip_prefix, **growth)
        summary = summarize(planned)
        if picture is not None:
            from growkernels.report.picture import draw_plan

            draw_plan(planned, picture)
    if json:
        for text in planned.warnings:
            warn(text)
        print_json(
            {
                "source": src,
                "plan_digest": planned.digest(),
                "summary": summary.to_json(),
                "plan": planned.to_json(),
            }
        )
    else:
        results.print(plan_report(planned, summary))
    if picture is not None:
        notes.print(f"Picture: {picture}")

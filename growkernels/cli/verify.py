"""`growkernels verify`: a grown checkpoint against its source, by its manifest."""

from __future__ import annotations

from typing import Annotated

import typer

from growkernels.cli import options
from growkernels.cli.console import FAILED, notes, print_json, results


def verify(
    src: options.Source,
    dst: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="Grown checkpoint, with its growkernels.json.",
            show_default=False,
        ),
    ],
    verify_logits: options.VerifyLogits = None,
    json: options.Json = False,
) -> None:
    """Check a grown checkpoint against the source it came from. Exit status 0 if all holds, 1 if not.

    Names, shapes and config against the plan in growkernels.json; random slices of every tensor against the eager reference,
    bit for bit, learned ones within the rounding of float32 sums; sums over copies against the source's weights; and, where
    both models fit in a quarter of the free memory, their outputs on the same tokens.
    """
    with notes.status("verifying"):
        import growkernels
        from growkernels.report.tables import verification_report

        verification = growkernels.verify(src, dst, logits=verify_logits)
    if json:
        print_json({"source": src, "target": dst, **verification.to_json()})
    else:
        results.print(verification_report(verification))
    if not verification.passed:
        raise typer.Exit(FAILED)

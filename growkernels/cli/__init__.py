"""The command line. Only the commands import torch and transformers: `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from growkernels import __version__
from growkernels.cli.advise import advise
from growkernels.cli.analyze import analyze
from growkernels.cli.console import Guarded, flowing
from growkernels.cli.doctor import doctor
from growkernels.cli.grow import grow
from growkernels.cli.inspect import inspect
from growkernels.cli.plan import plan
from growkernels.cli.race import race
from growkernels.cli.verify import verify

app = typer.Typer(
    name="growkernels",
    cls=Guarded,
    help=flowing("""Grow a trained model into a bigger one, and start its training from what the small one learned.

[bold]growkernels grow SRC DST --width 2[/] makes a model twice as wide that computes the same function (HyperCloning,
arXiv 2409.12903); [bold]--depth 4[/] stacks its layers four times (Gstack, arXiv 2405.15319); operators named
[bold]ligo[/] learn the growth from a text first (LiGO, arXiv 2303.00980). SRC is a Hugging Face
checkpoint, a folder or a hub id; DST becomes one that stock transformers loads.

A first run: [bold]inspect[/] what a checkpoint is, [bold]plan[/] what a growth would make of it (nothing is written),
[bold]grow[/] it, and [bold]verify[/] it again at any later time.

Exit status: 0 done; 1 a verification failed; 2 the request cannot be carried out, the message says why; 70 an error
in growkernels itself; 130 interrupted, 129 or 143 stopped by SIGHUP or SIGTERM. In every case but 0 DST is left as it was."""),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (grow, plan, verify, inspect, advise, race, analyze, doctor):
    app.command(help=flowing(command.__doc__ or ""))(command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"growkernels {__version__}")
        raise typer.Exit()


@app.callback()
def _group(
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `growkernels` script."""
    app()

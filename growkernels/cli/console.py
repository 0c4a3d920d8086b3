"""Where output goes, and how failures end: results on stdout, everything else on stderr."""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from growkernels.errors import GrowthError, VerificationFailed

#: Results; everything else goes to `notes`, so that `--json` leaves one object on stdout.
results = Console(highlight=False)
notes = Console(stderr=True, highlight=False)

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


def print_json(data: dict[str, Any]) -> None:
    """One object on stdout, indented, ASCII only so that any pipe takes it."""
    typer.echo(json.dumps(data, indent=2))


def warn(text: str) -> None:
    """A warning on stderr."""
    notes.print(f"[bold yellow]Warning:[/] {escape(text)}", soft_wrap=True)


def flowing(text: str) -> str:
    """Help text whose paragraphs are one line each, for the terminal to wrap; indented paragraphs keep their lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else p.replace("\n", " ") for p in paragraphs)


class Guarded(TyperGroup):
    """The command group: turns exceptions into one message on stderr and an exit status."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Notes whether a JSON object is wanted, before any command can fail."""
        ctx.meta["json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        logging.captureWarnings(False)
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *place, **rest: warn(str(message))
            try:
                return super().invoke(ctx)
            except GrowthError as error:
                self._fail(ctx, str(error), "refused", REFUSED)
            except OSError as error:
                self._fail(ctx, str(error), "refused", REFUSED)
            except VerificationFailed as error:
                self._fail(ctx, f"verification failed: {error}", "failed", FAILED)
            except KeyboardInterrupt:
                self._fail(
                    ctx,
                    "interrupted; nothing was put in place",
                    "interrupted",
                    INTERRUPTED,
                )

    @staticmethod
    def _fail(ctx: Any, message: str, kind: str, status: int) -> None:
        notes.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
        if ctx.meta["json"]:
            print_json({"error": {"kind": kind, "message": message, "status": status}})
        raise typer.Exit(status)

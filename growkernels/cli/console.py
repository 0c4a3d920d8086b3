"""Where output goes, and how failures end: results on stdout, everything else on stderr."""

from __future__ import annotations

import inspect
import json
import signal
import warnings
from math import isfinite
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
#: Exit statuses above it say which signal stopped the run.
_SIGNALLED = 128


def print_json(data: dict[str, Any]) -> None:
    """One object on stdout, ASCII only so that any pipe takes it; NaN and Inf, which JSON does not know, become null."""
    typer.echo(json.dumps(_strict(data), indent=2, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def warn(text: str) -> None:
    """A warning on stderr."""
    _note(f"[bold yellow]Warning:[/] {escape(text)}")


def _note(text: str) -> None:
    # In a log every message is one line, to be searched for.
    notes.print(text, soft_wrap=not notes.is_terminal)


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
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *place, **rest: warn(str(message))
            try:
                return super().invoke(ctx)
            except GrowthError as error:
                self._fail(ctx, str(error), "refused", REFUSED)
            except BrokenPipeError:
                raise  # whoever read the output has had enough
            except OSError as error:
                self._fail(ctx, str(error), "refused", REFUSED)
            except VerificationFailed as error:
                self._fail(ctx, f"verification failed: {error}", "failed", FAILED)
            except KeyboardInterrupt as error:
                self._stopped(ctx, "interrupted", error, INTERRUPTED)
            except SystemExit as error:
                # What `Stoppable` makes of a signal.
                if not isinstance(error.code, int) or error.code <= _SIGNALLED:
                    raise
                name = signal.Signals(error.code - _SIGNALLED).name
                self._stopped(ctx, f"stopped by {name}", error, error.code)

    @classmethod
    def _stopped(cls, ctx: Any, how: str, error: BaseException, status: int) -> None:
        text = "; ".join([f"{how}; nothing was put in place", *getattr(error, "__notes__", [])])
        cls._fail(ctx, text, "interrupted", status)

    @staticmethod
    def _fail(ctx: Any, message: str, kind: str, status: int) -> None:
        _note(f"[bold red]Error:[/] {escape(message)}")
        if ctx.meta["json"]:
            print_json({"error": {"kind": kind, "message": message, "status": status}})
        raise typer.Exit(status)

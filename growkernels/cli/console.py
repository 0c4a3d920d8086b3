"""Where output goes, and how failures end: results on stdout, everything else on stderr."""

from __future__ import annotations

import inspect
import json
import os
import signal
import traceback
import warnings
from collections.abc import Iterable
from math import isfinite
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from typer.core import TyperGroup
from typer.exceptions import TyperException

from growkernels import __version__
from growkernels.errors import GrowthError, PeerFailed, VerificationFailed, printable, shorten

#: Results; everything else goes to `notes`, so that `--json` leaves one object on stdout.


class SafeConsole(Console):
    """A console whose text has no effect on the terminal: names of tensors and files may hold any character."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of the renderable, with control characters of its text shown as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


results = SafeConsole(highlight=False)
notes = SafeConsole(stderr=True, highlight=False)

FAILED, REFUSED, INTERNAL, INTERRUPTED = 1, 2, 70, 130
#: Exit statuses above it say which signal stopped the run.
_SIGNALLED = 128


def print_json(data: dict[str, Any]) -> None:
    """One object on stdout, ASCII only so that any pipe takes it; NaN and Inf, which JSON does not know, become null."""
    # DEL is ASCII, and the only control character that JSON lets stand.
    typer.echo(json.dumps(_strict(data), indent=2, allow_nan=False).replace("\x7f", r"\u007f"))


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


def _unexpected(error: Exception) -> str:
    """What to say of an exception that nobody foresaw: what it is, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}growkernels{os.sep}" in frame.filename] or frames
    place = f" ({os.path.basename(ours[-1].filename)}, line {ours[-1].lineno})" if ours else ""
    return (
        f"{type(error).__name__}: {error}{place}. This is an error in growkernels {__version__}, or input that it does "
        f"not know: please report it with this message."
    )


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
            except PeerFailed as error:
                raise typer.Exit(REFUSED) from error  # the first process says why
            except GrowthError as error:
                self._fail(ctx, str(error), "refused", REFUSED)
            except BrokenPipeError:
                raise  # whoever read the output has had enough
            except OSError as error:
                self._fail(ctx, str(error), "refused", REFUSED)
            except MemoryError as error:
                self._fail(ctx, f"memory ran out: {str(error) or 'MemoryError'}", "refused", REFUSED)
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
            except (TyperException, typer.Exit, typer.Abort):
                raise
            except Exception as error:
                self._fail(ctx, _unexpected(error), "internal", INTERNAL)

    @classmethod
    def _stopped(cls, ctx: Any, how: str, error: BaseException, status: int) -> None:
        text = "; ".join([f"{how}; nothing was put in place", *getattr(error, "__notes__", [])])
        cls._fail(ctx, text, "interrupted", status)

    @staticmethod
    def _fail(ctx: Any, message: str, kind: str, status: int) -> None:
        message = shorten(printable(message))
        _note(f"[bold red]Error:[/] {escape(message)}")
        if ctx.meta["json"]:
            print_json({"error": {"kind": kind, "message": message, "status": status}})
        raise typer.Exit(status)

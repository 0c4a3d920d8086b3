"""What is seen of a growth while it runs: bars with the time left while weights are fitted or written, the time taken else."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from growkernels.cli.console import notes


class ProgressDisplay:
    """A context to be called with (stage, done, total): steps of "fitting", else bytes. Shows nothing without a terminal.

    A total of 0 is unknown.
    """

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._stage = ""
        self._hidden = False
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> ProgressDisplay:
        self("reading the layout", 0, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()

    def hide(self) -> None:
        """Show nothing from now on."""
        self._shown.close()
        self._hidden = True

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self._hidden or not notes.is_terminal:
            return
        if stage != self._stage:
            self._shown.close()
            self._stage = stage
            columns: tuple[ProgressColumn, ...]
            if stage == "fitting":
                columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            elif total:
                columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            else:
                columns = (SpinnerColumn(), TimeElapsedColumn())
            progress = Progress(TextColumn("{task.description}"), *columns, console=notes, transient=True)
            task = progress.add_task(stage, total=total or None, completed=done)
            self._bar = (self._shown.enter_context(progress), task)
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=done)

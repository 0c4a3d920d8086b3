"""What is seen of a growth while it runs: a bar with rate and time left while weights are written, the time taken else."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from rich.progress import (
    BarColumn,
    DownloadColumn,
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
    """A context to be called with (stage, done, total), in bytes; a total of 0 is unknown. Shows nothing without a terminal."""

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._stage = ""
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> ProgressDisplay:
        self("reading the layout", 0, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not notes.is_terminal:
            return
        if stage != self._stage:
            self._shown.close()
            self._stage = stage
            columns: tuple[ProgressColumn, ...]
            if total:
                columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            else:
                columns = (SpinnerColumn(), TimeElapsedColumn())
            progress = Progress(TextColumn("{task.description}"), *columns, console=notes, transient=True)
            self._bar = (self._shown.enter_context(progress), progress.add_task(stage, total=total or None))
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=done)

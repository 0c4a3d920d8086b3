"""The processes that share one growth: what each says to all others, and how all of them end when one fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from growkernels.errors import GrowthError, PeerFailed, VerificationFailed
from growkernels.executors.files.exchange import sync_all
from growkernels.executors.files.shards import Shard
from growkernels.executors.files.staging import staged

#: What a process reports to the others; anything else ends it, and the others by the closed connection.
_REPORTED = (GrowthError, VerificationFailed, OSError, MemoryError)
#: A process may write for hours before the others hear of it; one that ends closes its connections at once.
_PATIENCE = timedelta(days=2)

_T = TypeVar("_T")


class Ranks:
    """The processes of one growth; this one is number `rank` of `size`. They share a file system and exchange small messages.

    One process alone needs no torch.distributed, which is then not imported.
    """

    def __init__(self, rank: int = 0, size: int = 1, local: int = 0) -> None:
        """local: number of the process among those of its machine."""
        self.rank, self.size, self._local = rank, size, local
        self._group: Any = None

    @classmethod
    def of_torchrun(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """The processes that torchrun started, this one among them; one alone if torchrun did not."""
        # Other launchers set RANK as well, for programs of one process among them: those would wait for ever.
        if "TORCHELASTIC_RUN_ID" not in environment or environment.get("WORLD_SIZE", "1") == "1":
            return cls()
        return cls(int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment["LOCAL_RANK"]))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that makes the folder, writes the small files and reports."""
        return self.rank == 0

    def gather(self, value: _T) -> list[_T]:
        """The values that all processes call this with, by rank. Raises GrowthError if a process has ended."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        try:
            if self._group is None:
                dist.init_process_group("gloo", timeout=_PATIENCE)
                self._group = dist.group.WORLD
            dist.all_gather_object(values, value, group=self._group)
        except (RuntimeError, ValueError) as error:
            raise GrowthError(
                f"process {self.rank} of {self.size} lost the others: one of them ended, or cannot be reached ({error}). "
                f"Nothing was put in place."
            ) from error
        return values

    def each(self, step: Callable[[], _T]) -> _T:
        """What the step gives here, once all processes are through with theirs.

        Raises the error of the first process that failed: in process 0, which tells the user, with the number of the other;
        elsewhere PeerFailed, once process 0 has ended its connections.
        """
        if self.size == 1:
            return step()
        value: Any = None
        error: Exception | None = None
        try:
            value = step()
        except _REPORTED as caught:
            error = caught
        failures = self.gather(None if error is None else (isinstance(error, VerificationFailed), str(error)))
        found = [(rank, *failure) for rank, failure in enumerate(failures) if failure is not None]
        if not found:
            return value
        rank, in_verification, text = found[0]
        if not self.is_first:
            with suppress(GrowthError):
                self.gather(None)
            raise PeerFailed(text) from error
        if error is not None:
            raise error
        kind = VerificationFailed if in_verification else GrowthError
        raise kind(f"process {rank} of {self.size}: {text}")

    def first(self, step: Callable[[], _T]) -> _T:
        """What the step gives in the first process, where alone it runs."""
        value = self.each(lambda: step() if self.is_first else None)
        return self.gather(value)[0]  # type: ignore[return-value]

    def same(self, step: Callable[[], _T], identity: Callable[[_T], str]) -> _T:
        """What the step gives, once it is known that all processes were given the same. Raises GrowthError otherwise."""
        found = self.each(step)
        for rank, other in enumerate(said := self.gather(identity(found) if self.size > 1 else "")):
            if other != said[0]:
                raise GrowthError(
                    f"process {rank} would grow something else than the first one: another source, other options, or other "
                    f"versions of growkernels or transformers on its machine. Give all processes the same."
                )
        return found

    def device(self, name: str) -> str:
        """The device of this process: where a name has no number, that of the process on its machine."""
        return name if self.size == 1 or ":" in name or name == "cpu" else f"{name}:{self._local}"

    def share(self, shards: Sequence[Shard]) -> list[list[Shard]]:
        """The files that each process writes, in their order: the largest first, each to the one with the least so far."""
        shares: list[list[Shard]] = [[] for _ in range(self.size)]
        sizes = [0] * self.size
        for shard in sorted(shards, key=lambda shard: -shard.nbytes):
            least = sizes.index(min(sizes))
            shares[least].append(shard)
            sizes[least] += shard.nbytes
        order = {shard.file: number for number, shard in enumerate(shards)}
        return [sorted(share, key=lambda shard: order[shard.file]) for share in shares]

    @contextmanager
    def staged(self, dst: Path, overwrite: bool = False, source: Path | None = None) -> Iterator[Path]:
        """`staging.staged` for all processes: the first one makes the folder and puts it in place, all write into it.

        What each has written is on the disk before the first puts the folder in place.
        """
        with ExitStack() as stack:
            folder = self.first(lambda: stack.enter_context(staged(dst, overwrite, source)))
            self.each(lambda: self._check_seen(folder))
            yield folder
            # A file system of several machines flushes what was written on each of them on its own.
            self.each(lambda: None if self.is_first else sync_all(folder))
        # The first one gets here once the folder is in place; if it fails there, its connection closes.
        self.gather(None)

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *error: object) -> None:
        """End the connections to the other processes, which those that still wait for this one take for its end."""
        if self._group is not None:
            import torch.distributed as dist

            dist.destroy_process_group()
            self._group = None

    def _check_seen(self, folder: Path) -> None:
        if not folder.is_dir():
            raise GrowthError(
                f"{folder.parent} is another folder for process {self.rank} than for the first one; the processes of a growth "
                f"need a file system that all of them see."
            )

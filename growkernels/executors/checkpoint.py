"""Carrying out a plan from checkpoint to checkpoint, in bounded memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from growkernels.errors import GrowthError
from growkernels.executors.device import CPU
from growkernels.executors.files.shards import DEFAULT_SHARD_SIZE, check_room, plan_shards, write_index
from growkernels.executors.files.side_copies import copy_side_files
from growkernels.executors.learned import open_matrices
from growkernels.executors.preflight import Preflight
from growkernels.executors.ranks import Ranks
from growkernels.executors.rules import check_fit
from growkernels.executors.run import run
from growkernels.executors.sinks.files import FileSink
from growkernels.executors.sources.checkpoint import Source
from growkernels.executors.sources.device import DeviceSource
from growkernels.plans import Plan, Rule

#: Room for configs, index and manifest, which are not known to the byte beforehand.
_SMALL_FILES = 16 << 20


def execute(
    source: Source,
    plan: Plan,
    folder: Path,
    *,
    max_shard_size: int = DEFAULT_SHARD_SIZE,
    allow_nonfinite: bool = False,
    device: torch.device = CPU,
    progress: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
) -> Plan:
    """Write the grown checkpoint into the empty `folder`: weights, config, and the source's files beside them.

    max_shard_size: bytes; device: where tensors are computed; progress: called with (bytes computed, bytes in all); ranks:
    the processes that share the work, each of which calls this and writes files of its own, None for this one alone.
    Returns the plan with the measured standard deviation of every noise. Memory does not depend on the model's size. Raises
    GrowthError, with `folder` to be thrown away, if the plan does not fit the source, a weight is not finite (unless
    `allow_nonfinite`) or does not fit the target's dtype, or the disk has no room.
    """
    specs = {rule.target: rule.spec for rule in plan.rules}
    if len(specs) != len(plan.rules):
        raise GrowthError("the plan names a target tensor twice; make it again.")
    for rule in plan.rules:
        check_fit(source, rule)
    ranks = ranks or Ranks()
    shards = plan_shards(specs, max_shard_size)
    needed = sum(shard.nbytes for shard in shards) + source.side.nbytes + _SMALL_FILES
    ranks.each(lambda: check_room(folder, needed))
    mine = ranks.share(shards)[ranks.rank]
    names = {name for shard in mine for name in shard.entries}
    matrices = open_matrices(plan, device)
    tensors = DeviceSource(source, device)
    preflight = Preflight(tensors, allow_nonfinite)

    def write() -> tuple[Rule, ...]:
        with _background(source, digest=ranks.is_first) as background:
            sink = FileSink(folder, mine, device, background)
            own = [rule for rule in plan.rules if rule.target in names]
            rules = run(tensors, own, sink, lambda _: matrices, preflight, progress)
            sink.finish()
        source.check_unchanged()
        return rules

    def write_small_files() -> None:
        write_index(folder, shards)
        (folder / "config.json").write_text(json.dumps(plan.config, indent=2) + "\n")
        copy_side_files(source.side, plan, source.tensors, folder)

    measured = {rule.target: rule for rules in ranks.gather(ranks.each(write)) for rule in rules}
    ranks.first(write_small_files)
    return plan.with_rules(tuple(measured[rule.target] for rule in plan.rules))


@contextmanager
def _background(source: Source, digest: bool) -> Iterator[ThreadPoolExecutor]:
    """A thread that hands finished tensors to the disk; another reads ahead, for the source's digest, where it is wanted."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(1) as behind:
        identity = ahead.submit(source.digest, lambda: not stop.is_set()) if digest else None
        try:
            yield behind
            if identity is not None:
                identity.result()
        finally:
            stop.set()
            behind.shutdown(cancel_futures=True)

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
from growkernels.executors.rules import check_fit
from growkernels.executors.run import run
from growkernels.executors.sinks.files import FileSink
from growkernels.executors.sources.checkpoint import Source
from growkernels.executors.sources.device import DeviceSource
from growkernels.plans import Plan

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
) -> Plan:
    """Write the grown checkpoint into the empty `folder`: weights, config, and the source's files beside them.

    max_shard_size: bytes; device: where tensors are computed; progress: called with (bytes computed, bytes in all).
    Returns the plan with the measured standard deviation of every noise. Memory does not depend on the model's size. Raises
    GrowthError, with `folder` to be thrown away, if the plan does not fit the source, a weight is not finite (unless
    `allow_nonfinite`) or does not fit the target's dtype, or the disk has no room.
    """
    specs = {rule.target: rule.spec for rule in plan.rules}
    if len(specs) != len(plan.rules):
        raise GrowthError("the plan names a target tensor twice; make it again.")
    for rule in plan.rules:
        check_fit(source, rule)
    shards = plan_shards(specs, max_shard_size)
    check_room(folder, sum(shard.nbytes for shard in shards) + source.side.nbytes + _SMALL_FILES)
    matrices = open_matrices(plan, device)
    tensors = DeviceSource(source, device)
    preflight = Preflight(tensors, allow_nonfinite)
    with _background(source) as background:
        sink = FileSink(folder, shards, device, background)
        rules = run(tensors, plan.rules, sink, lambda _: matrices, preflight, progress)
        sink.finish()
    source.check_unchanged()
    write_index(folder, shards)
    (folder / "config.json").write_text(json.dumps(plan.config, indent=2) + "\n")
    copy_side_files(source.side, plan, source.tensors, folder)
    return plan.with_rules(rules)


@contextmanager
def _background(source: Source) -> Iterator[ThreadPoolExecutor]:
    """A thread that hands finished tensors to the disk; another reads ahead, for the source's digest."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as digest, ThreadPoolExecutor(1) as behind:
        identity = digest.submit(source.digest, lambda: not stop.is_set())
        try:
            yield behind
            identity.result()
        finally:
            stop.set()
            behind.shutdown(cancel_futures=True)

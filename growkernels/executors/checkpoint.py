"""Carrying out a plan from mapped files into mapped files: every target tensor written once, in place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.executors.device import CPU, Workplace
from growkernels.executors.files.shards import (
    DEFAULT_SHARD_SIZE,
    MappedShard,
    check_room,
    plan_shards,
    write_index,
)
from growkernels.executors.files.side_files import copy_side_files
from growkernels.executors.learned import expand_rule, open_matrices, round_once
from growkernels.executors.measure import Use, check_values, with_fills
from growkernels.executors.rules import check_fit, signal, source_of, with_signal
from growkernels.executors.sources.checkpoint import Source
from growkernels.plans import Learned, Plan, Tile

Progress = Callable[[int, int], None]
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
    progress: Progress | None = None,
) -> Plan:
    """Write the grown checkpoint into the empty `folder`: weights, config, and the source's files beside them.

    max_shard_size: bytes; device: where tensors are computed; progress: called with (bytes computed, bytes in all).
    Returns the plan with the measured standard deviation of every noise. Memory does not depend on the model's size. Raises
    GrowthError, with `folder` to be thrown away, if the plan does not fit the source, a weight is not finite (unless
    `allow_nonfinite`) or does not fit the target's dtype, or the disk has no room.
    """
    rules = {rule.target: rule for rule in plan.rules}
    if len(rules) != len(plan.rules):
        raise GrowthError("the plan names a target tensor twice; make it again.")
    for rule in plan.rules:
        check_fit(source, rule)
    shards = plan_shards({name: rule.spec for name, rule in rules.items()}, max_shard_size)
    total = sum(rule.spec.nbytes for rule in plan.rules)
    check_room(folder, sum(shard.nbytes for shard in shards) + source.side.nbytes + _SMALL_FILES)
    matrices = open_matrices(plan, device)
    squares: dict[tuple[str, float], float] = {}
    checked: set[tuple[str, torch.dtype, float]] = set()
    done = 0
    with _background(source) as behind:
        work = Workplace(device, behind)
        for shard in shards:
            file = MappedShard(folder, shard)
            for name in shard.entries:
                rule = rules[name]
                weights, place = [work.fetch(source.tensor(one)) for one in rule.drawn], file.tensor(name)
                for one, weight in zip(rule.drawn, weights, strict=True):
                    if (seen := (one, place.dtype, rule.divisor)) not in checked:
                        check_values([Use(one, weight, place.dtype, rule.divisor)], allow_nonfinite)
                        checked.add(seen)
                if (wanted := signal(rule)) is not None:
                    if wanted not in squares:
                        squares[wanted] = float(ops.mean_square(weights, [wanted[1]]))
                    rules[name] = rule = with_signal(rule, squares[wanted])
                rules[name] = rule = with_fills(rule, weights)
                out = work.room(place)
                match rule.how:
                    case Tile() as tile:
                        ops.tile_rules_([out], [source_of(weights, out)], [tile])
                    case Learned() as learned:
                        value = expand_rule(learned, weights, matrices)
                        check_values([Use(name, value, place.dtype)], allow_nonfinite)
                        out.copy_(round_once(value, out.dtype))
                work.deliver(out, place)
                behind.submit(file.write_back, name)
                done += rule.spec.nbytes
                if progress is not None:
                    progress(done, total)
        work.finish()
    source.check_unchanged()
    write_index(folder, shards)
    (folder / "config.json").write_text(json.dumps(plan.config, indent=2) + "\n")
    copy_side_files(source.side, plan, source.tensors, folder)
    return plan.with_rules(tuple(rules.values()))


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

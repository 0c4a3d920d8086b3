"""Carrying out a plan from mapped files into mapped files: every target tensor written once, in place."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import isfinite, prod
from pathlib import Path

import torch

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.executors.measure import check_values
from growkernels.executors.shards import (
    DEFAULT_SHARD_SIZE,
    MappedShard,
    check_room,
    plan_shards,
    write_index,
)
from growkernels.executors.source import Source
from growkernels.ops import TileSpec
from growkernels.ops.reference import noise_std
from growkernels.plan import DTYPE_BYTES, Plan, Rule

Progress = Callable[[int, int], None]
#: Room for configs, index and manifest, which are not known to the byte beforehand.
_SMALL_FILES = 16 << 20
_ONE_ROW = (0, 1, 1, 1)


def execute(
    source: Source,
    plan: Plan,
    folder: Path,
    *,
    max_shard_size: int = DEFAULT_SHARD_SIZE,
    allow_nonfinite: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Write the grown checkpoint into the empty `folder`: weights, config, the source's tokenizer and generation files.

    max_shard_size: bytes; progress: called with (bytes written, bytes in all). Returns the plan with the measured
    standard deviation of every noise. Memory does not depend on the model's size. Raises GrowthError, with `folder` to
    be thrown away, if the plan does not fit the source, a weight is not finite (unless `allow_nonfinite`) or does not
    fit the target's dtype, or the disk has no room.
    """
    rules = {rule.target: rule for rule in plan.rules}
    if len(rules) != len(plan.rules):
        raise GrowthError("the plan names a target tensor twice; make it again.")
    for rule in plan.rules:
        _check_fit(source, rule)
    shards = plan_shards({name: rule.spec for name, rule in rules.items()}, max_shard_size)
    total = sum(rule.spec.nbytes for rule in plan.rules)
    check_room(
        folder,
        sum(shard.nbytes for shard in shards) + sum(path.stat().st_size for path in source.carried) + _SMALL_FILES,
    )
    squares: dict[tuple[str, float], float] = {}
    checked: set[tuple[str, torch.dtype, float]] = set()
    done = 0
    with _background(source) as behind:
        for shard in shards:
            file = MappedShard(folder, shard)
            for name in shard.entries:
                rule = rules[name]
                weight, out = source.tensor(rule.source), file.tensor(name)
                if (seen := (rule.source, out.dtype, rule.divisor)) not in checked:
                    check_values(rule.source, weight, out.dtype, rule.divisor, allow_nonfinite)
                    checked.add(seen)
                rules[name] = rule = _measured(rule, weight, squares)
                out, weight = _as_rows(rule, out), _as_rows(rule, weight)
                ops.tile_rules_([out], [weight], [_spec(rule)])
                behind.submit(file.write_back, name)
                done += rule.spec.nbytes
                if progress is not None:
                    progress(done, total)
    write_index(folder, shards)
    (folder / "config.json").write_text(json.dumps(plan.config, indent=2) + "\n")
    for path in source.carried:
        shutil.copyfile(path, folder / path.name)
    return plan.with_rules(tuple(rules.values()))


def _check_fit(source: Source, rule: Rule) -> None:
    spec = source.tensors.get(rule.source)
    if spec is None:
        raise GrowthError(f"{rule.target} grows from {rule.source}, which {source.name} does not have.")
    for name, dtype in ((rule.source, spec.dtype), (rule.target, rule.spec.dtype)):
        if dtype not in DTYPE_BYTES:
            raise GrowthError(f"{name} is {dtype}; weights are grown from and to {', '.join(DTYPE_BYTES)}.")
    ends = tuple(max((s.start + s.length for s in axis.segments), default=0) for axis in rule.axes)
    if len(ends) != len(spec.shape) or any(end > size for end, size in zip(ends, spec.shape, strict=True)):
        raise GrowthError(f"{rule.target} needs {rule.source} of at least {list(ends)}; it has {list(spec.shape)}.")
    if len(ends) > 2 and not (rule.is_copy and spec.shape == rule.spec.shape):
        raise GrowthError(f"{rule.target} has {len(ends)} axes; matrices and vectors are grown, others only copied.")
    if rule.noise is not None and rule.noise.std is None and rule.noise.snr_db is None:
        raise GrowthError(f"{rule.target} has noise with neither a standard deviation nor a signal-to-noise ratio.")


def _measured(rule: Rule, weight: torch.Tensor, squares: dict[tuple[str, float], float]) -> Rule:
    """The rule with the standard deviation that its signal-to-noise ratio asks for (noise version 1, "Sigma")."""
    if rule.noise is None or rule.noise.std is not None:
        return rule
    # Over the block that carries signal: for the diagonal structure that is W itself.
    divisor = 1.0 if rule.structure == "diagonal" else rule.divisor
    if (rule.source, divisor) not in squares:
        squares[rule.source, divisor] = float(ops.mean_square([weight], [divisor]))
    std = noise_std(squares[rule.source, divisor], rule.noise.snr_db)
    # A tensor with NaN or Inf, let through on request, has no strength to measure and takes no noise.
    return rule.with_std(std if isfinite(std) else 0.0)


def _as_rows(rule: Rule, tensor: torch.Tensor) -> torch.Tensor:
    """A view whose columns are the input axis; vectors, and whatever is only copied, as they lie."""
    if tensor.ndim != 2:
        return tensor.reshape(-1)
    return tensor.t() if rule.input_axis == 0 else tensor


def _spec(rule: Rule) -> TileSpec:
    """The rule as numbers, for tensors laid out by `_as_rows`."""
    axes = [axis.flat() for axis in rule.axes]
    if len(axes) == 2:
        rows, cols = axes[::-1] if rule.input_axis == 0 else axes
    else:
        rows, cols = _ONE_ROW, axes[0] if len(axes) == 1 else (0, prod(rule.spec.shape), 1, 1)
    noise = rule.noise
    return TileSpec(
        rows=rows,
        cols=cols,
        divisor=rule.divisor,
        shift=rule.shift,
        diagonal=rule.structure == "diagonal",
        noise_std=noise.std or 0.0 if noise else 0.0,
        key=noise.key if noise else 0,
    )


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

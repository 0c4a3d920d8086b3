"""The one loop of every growth: targets computed from their sources, bucket by bucket, and handed to a sink.

A growth of files, of a live model, of an optimizer's state is a source, a list of rules and a sink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from growkernels import ops
from growkernels.executors.files.stopping import check_stopped
from growkernels.executors.learned import expand_rule, round_once
from growkernels.executors.preflight import Matrices, Preflight
from growkernels.executors.rules import is_moved, source_of
from growkernels.executors.sinks.base import Sink
from growkernels.executors.sources.base import Tensors, TensorSource
from growkernels.ops.tile.packing import buffer_numel
from growkernels.plans import Learned, Rule, Tile


class Bucket(NamedTuple):
    """Rules whose targets are computed by one call, and the sources that are freed after it."""

    rules: list[Rule]
    used_up: list[str]


def run(
    source: TensorSource,
    rules: Sequence[Rule],
    sink: Sink,
    matrices: Matrices,
    preflight: Preflight | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Rule, ...]:
    """Compute the tensor of every rule, on its source's device, and give it to the sink.

    preflight: checks every bucket before it is computed; None where all rules are `prepare`d. progress: called with (bytes
    computed, bytes in all). Returns the rules in the order of the run, with the measured standard deviation of every noise.
    Memory at once: the targets that the sink holds, one bucket, and the sources that are not yet freed (see `buckets`).
    """
    total, done = sum(rule.spec.nbytes for rule in rules), 0
    finished: list[Rule] = []
    for bucket, used_up in buckets(rules, sink.bucket):
        ready = bucket if preflight is None else preflight.prepare(bucket)
        _compute(source, ready, sink, matrices, preflight)
        for name in used_up:
            source.free(name)
        finished += ready
        done += sum(rule.spec.nbytes for rule in ready)
        if progress is not None:
            progress(done, total)
        check_stopped()
    return tuple(finished)


def buckets(rules: Sequence[Rule], size: int) -> Iterator[Bucket]:
    """What is computed together and what is freed when: the two memory policies.

    Files, size 0: one tensor in flight. The order is that of the rules, and a rule's sources are freed at once, to be read
    again by the next rule that needs them.

    Memory: lists of at most `size` bytes of targets (a larger tensor is a list of its own), and a source is freed after its
    last rule. Rules of the same sources stand together: in the target's order, stacks of layers would keep every source to
    the last stack.
    """
    if size == 0:
        for rule in rules:
            yield Bucket([rule], list(dict.fromkeys(rule.sources)))
        return
    lists = list(_cut(rules, size))
    last = {name: number for number, bucket in enumerate(lists) for rule in bucket for name in rule.sources}
    for number, bucket in enumerate(lists):
        used = dict.fromkeys(name for rule in bucket for name in rule.sources)
        yield Bucket(bucket, [name for name in used if last[name] == number])


def _cut(rules: Sequence[Rule], size: int) -> Iterator[list[Rule]]:
    by_source: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        by_source.setdefault(rule.sources, []).append(rule)
    bucket: list[Rule] = []
    left = size
    for rule in (rule for group in by_source.values() for rule in group):
        if rule.spec.nbytes > left and bucket:
            yield bucket
            bucket, left = [], size
        bucket.append(rule)
        left -= rule.spec.nbytes
    if bucket:
        yield bucket


def peak_memory(
    source: TensorSource, rules: Sequence[Rule], size: int, freed: Callable[[str], bool]
) -> dict[torch.device, int]:
    """Bytes beyond those in use at the start that a run into memory needs at its peak, on each device.

    size: the sink's bucket; freed: whether `source.free` gives back the memory of a tensor.
    """
    used: dict[torch.device, int] = {}
    most: dict[torch.device, int] = {}
    for bucket, used_up in buckets(rules, size):
        buffers: dict[torch.device, int] = {}
        for rule in bucket:
            device = source.device(rule.source)
            used[device] = used.get(device, 0) + rule.spec.nbytes
            buffers[device] = buffers.get(device, 0) + buffer_bytes(rule)
        for device, more in buffers.items():
            most[device] = max(most.get(device, 0), used[device] + more)
        for name in filter(freed, used_up):
            used[source.device(name)] -= source.tensors[name].nbytes
    return most


def buffer_bytes(rule: Rule) -> int:
    """Bytes of a buffer that a target is computed in before it is copied to its place; mostly none."""
    if not isinstance(rule.how, Tile) or not rule.how.is_random:
        return 0
    return buffer_numel(rule.how) * rule.spec.nbytes // max(rule.spec.numel, 1)


def unchanged(source: Tensors, rules: Sequence[Rule]) -> dict[str, Rule]:
    """Source tensors that are a target as they are, and the first such target of each."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.is_copy and rule.spec == source.tensors[rule.source]:
            found.setdefault(rule.source, rule)
    return found


def _compute(
    source: TensorSource, rules: Sequence[Rule], sink: Sink, matrices: Matrices, preflight: Preflight | None
) -> None:
    """Compute the targets of the rules, those that are not learned by one call for each device, and give them to the sink."""
    outs: list[torch.Tensor] = []
    devices: dict[torch.device, list[tuple[torch.Tensor, torch.Tensor, Tile]]] = {}
    for rule in rules:
        device, weights = source.device(rule.source), [source.tensor(name) for name in rule.drawn]
        for weight in weights:
            if weight.device.type != "cpu":
                # Its memory may belong to another stream, which must not have it back before this one is through.
                weight.record_stream(torch.accelerator.current_stream(weight.device))
        match rule.how:
            case Tile() as tile:
                out = sink.empty(rule, device)
                if is_moved(rule, source):
                    out.copy_(weights[0])
                    outs.append(out)
                    continue
                devices.setdefault(device, []).append((out, source_of(weights, out), tile))
            case Learned() as learned:
                value = expand_rule(learned, weights, matrices(device))
                if preflight is not None:
                    preflight.check_target(rule, value)
                out = round_once(value, getattr(torch, rule.spec.dtype))
        outs.append(out)
    for jobs in devices.values():
        ops.tile_rules_([out for out, _, _ in jobs], [weight for _, weight, _ in jobs], [tile for _, _, tile in jobs])
    for rule, out in zip(rules, outs, strict=True):
        sink.done(rule, out)

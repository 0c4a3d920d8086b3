"""Tensors in memory from tensors in memory: many rules to a launch, sources let go of as soon as they are used up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch

from growkernels import ops
from growkernels.executors.device import CPU
from growkernels.executors.learned import expand_rule, round_once
from growkernels.executors.measure import Use, check_values, with_fills
from growkernels.executors.rules import Tensors, check_fit, signal, source_of, with_signal
from growkernels.ops.backends import ops_of
from growkernels.plans import Learned, Rule, Tile

#: Bytes of targets computed by one call: enough that a call's own cost is nothing, little beside a model.
BUCKET = 256 << 20
#: The learned matrices of a plan, on a device.
Matrices = Callable[[torch.device], Mapping[str, torch.Tensor]]


def prepare(
    source: Tensors, rules: Sequence[Rule], matrices: Matrices, allow_nonfinite: bool = False
) -> tuple[Rule, ...]:
    """The rules with the measured standard deviation of every noise, once everything that could fail has been checked.

    Raises GrowthError if a rule does not fit the source, a weight is not finite (unless `allow_nonfinite`) or does not fit
    the target's dtype. What learned matrices give is known once it is computed: once for this check, and again to be kept.
    """
    for rule in rules:
        check_fit(source, rule)
    uses = dict.fromkeys((name, rule.spec.dtype, rule.divisor) for rule in rules for name in rule.drawn)
    for tensor in {source.tensor(name).device: source.tensor(name) for name, *_ in uses}.values():
        ops_of(None, tensor)  # raises where no kernel runs on the device
    values = [Use(name, source.tensor(name), getattr(torch, dtype), divisor) for name, dtype, divisor in uses]
    check_values(values, allow_nonfinite)
    for rule in rules:
        if isinstance(rule.how, Learned):
            use = Use(rule.target, _learned(source, rule, rule.how, matrices), getattr(torch, rule.spec.dtype))
            check_values([use], allow_nonfinite)
    squares = _mean_squares(source, dict.fromkeys(wanted for rule in rules if (wanted := signal(rule)) is not None))
    rules = [rule if (wanted := signal(rule)) is None else with_signal(rule, squares[wanted]) for rule in rules]
    return tuple(with_fills(rule, [source.tensor(name) for name in rule.drawn]) for rule in rules)


def _mean_squares(source: Tensors, wanted: Iterable[tuple[str, float]]) -> dict[tuple[str, float], float]:
    """Each mean square, all of a device by one call and read at once."""
    devices: dict[torch.device, list[tuple[str, float]]] = {}
    for name, divisor in wanted:
        devices.setdefault(source.tensor(name).device, []).append((name, divisor))
    found: dict[tuple[str, float], float] = {}
    for signals in devices.values():
        values = ops.mean_square([source.tensor(name) for name, _ in signals], [divisor for _, divisor in signals])
        found |= dict(zip(signals, values.tolist(), strict=True))
    return found


def unchanged(source: Tensors, rules: Sequence[Rule]) -> dict[str, Rule]:
    """Source tensors that are a target as they are, and the first such target of each."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.is_copy and rule.spec == source.tensors[rule.source]:
            found.setdefault(rule.source, rule)
    return found


def buckets(rules: Sequence[Rule], size: int = BUCKET) -> Iterator[list[Rule]]:
    """The rules, those of the same sources together, in lists of at most `size` bytes; a larger tensor is a list of its own.

    Together, because a source lives until its last rule: in the target's order, stacks of layers would keep all of it alive
    up to the last stack.
    """
    by_source: dict[tuple[str, ...], list[Rule]] = {}
    for rule in rules:
        by_source.setdefault(rule.sources, []).append(rule)
    bucket: list[Rule] = []
    room = size
    for rule in (rule for group in by_source.values() for rule in group):
        if rule.spec.nbytes > room and bucket:
            yield bucket
            bucket, room = [], size
        bucket.append(rule)
        room -= rule.spec.nbytes
    if bucket:
        yield bucket


def most_alive(source: Tensors, rules: Sequence[Rule], freed: Callable[[str], bool]) -> dict[torch.device, int]:
    """Bytes beyond those alive at the start that `fill` needs at its peak, on each device."""
    device_of = _devices(source, rules)
    alive: dict[torch.device, int] = {}
    most: dict[torch.device, int] = {}
    for bucket, done in _with_last_uses(rules):
        for rule in bucket:
            device = device_of[rule.source]
            alive[device] = alive.get(device, 0) + rule.spec.nbytes
            most[device] = max(most.get(device, 0), alive[device])
        for name in filter(freed, done):
            alive[source.tensor(name).device] -= source.tensors[name].nbytes
    return most


def fill(
    source: Tensors,
    rules: Sequence[Rule],
    matrices: Matrices,
    put: Callable[[Rule, torch.Tensor], None],
    free: Callable[[str], None],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Compute the tensor of every rule, on its source's device.

    `put` takes each tensor, `free` the name of every source that no later rule needs; what is alive at once is the
    targets so far, one bucket, and the sources still to be used. progress: called with (bytes computed, bytes in all).
    """
    device_of = _devices(source, rules)
    total, done = sum(rule.spec.nbytes for rule in rules), 0
    for bucket, used_up in _with_last_uses(rules):
        for rule, out in zip(bucket, _compute(source, bucket, device_of, matrices), strict=True):
            put(rule, out)
        for name in used_up:
            free(name)
        done += sum(rule.spec.nbytes for rule in bucket)
        progress(done, total)


def _devices(source: Tensors, rules: Sequence[Rule]) -> dict[str, torch.device]:
    """The device of every rule's target by its first source; without one (""), that of the first source there is."""
    found = {rule.source: source.tensor(rule.source).device for rule in rules if rule.sources}
    return {"": next(iter(found.values()), CPU), **found}


def _compute(
    source: Tensors, rules: Sequence[Rule], device_of: Mapping[str, torch.device], matrices: Matrices
) -> list[torch.Tensor]:
    """The tensors of the rules, those that are not learned by one call for each device."""
    outs = []
    devices: dict[torch.device, list[tuple[torch.Tensor, torch.Tensor, Tile]]] = {}
    for rule in rules:
        device, dtype = device_of[rule.source], getattr(torch, rule.spec.dtype)
        match rule.how:
            case Tile() as tile:
                out = torch.empty(rule.spec.shape, dtype=dtype, device=device)
                weight = source_of([source.tensor(name) for name in rule.drawn], out)
                devices.setdefault(device, []).append((out, weight, tile))
                outs.append(out)
            case Learned() as learned:
                outs.append(round_once(_learned(source, rule, learned, matrices), dtype))
    for jobs in devices.values():
        ops.tile_rules_([out for out, _, _ in jobs], [weight for _, weight, _ in jobs], [tile for _, _, tile in jobs])
    for weight in (source.tensor(name) for rule in rules for name in rule.drawn):
        if weight.device.type != "cpu":
            # Its memory may belong to another stream, which must not have it back before this one is through.
            weight.record_stream(torch.accelerator.current_stream(weight.device))
    return outs


def _learned(source: Tensors, rule: Rule, learned: Learned, matrices: Matrices) -> torch.Tensor:
    weights = [source.tensor(name) for name in rule.sources]
    return expand_rule(learned, weights, matrices(weights[0].device))


def _with_last_uses(rules: Sequence[Rule]) -> Iterator[tuple[list[Rule], list[str]]]:
    """Buckets, each with the sources that it is the last to use."""
    lists = list(buckets(rules))
    last = {name: number for number, bucket in enumerate(lists) for rule in bucket for name in rule.sources}
    for number, bucket in enumerate(lists):
        used = dict.fromkeys(name for rule in bucket for name in rule.sources)
        yield bucket, [name for name in used if last[name] == number]

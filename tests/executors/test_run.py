"""Buckets: what is computed together, when a source is freed, and what that costs at most."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels.errors import GrowthError
from growkernels.executors.preflight import Preflight, prepare
from growkernels.executors.run import buckets, peak_memory, run, unchanged
from growkernels.ops.backends import registry
from growkernels.plans import Noise, Rule, TensorSpec, Tile

#: For each rule: number of its source, copies of its source's rows.
Draw = list[tuple[int, int]]
DRAWS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=1, max_size=14)


class Weights:
    """A source of six matrices that refuses to give again what was freed."""

    name = "weights"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._values = {f"w{i}": torch.randn(3 + i, 4, generator=generator) for i in range(6)}
        self.tensors = {n: TensorSpec(tuple(v.shape), "float32") for n, v in self._values.items()}

    def tensor(self, name: str) -> torch.Tensor:
        return self._values[name]

    def device(self, name: str) -> torch.device:
        return torch.device("cpu")

    def free(self, name: str) -> None:
        del self._values[name]

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for value in self._values.values())


class Memory:
    """A sink that holds what it is given, and knows the most that was in use with its source."""

    def __init__(self, bucket: int, source: Weights) -> None:
        self.bucket, self.source = bucket, source
        self.start, self.most = source.nbytes, 0
        self.made: dict[str, torch.Tensor] = {}

    def empty(self, rule: Rule, device: torch.device) -> torch.Tensor:
        return torch.full(rule.spec.shape, torch.nan, device=device)

    def done(self, rule: Rule, tensor: torch.Tensor) -> None:
        self.made[rule.target] = tensor
        self.most = max(self.most, sum(value.nbytes for value in self.made.values()) + self.source.nbytes - self.start)


def rules_of(draw: Draw) -> list[Rule]:
    """A rule for each pair, by tiling rows."""
    rules = []
    for place, (number, copies) in enumerate(draw):
        size = 3 + number
        tile = Tile.copies((size, 4), (copies, 1), sum_axis=1)
        rules.append(Rule(f"t{place}", (f"w{number}",), TensorSpec(tile.shape, "float32"), tile))
    return rules


@given(DRAWS, st.integers(1, 600))
@example([(0, 1), (1, 1), (0, 2)], 1)
def test_every_rule_is_in_one_bucket_beside_those_of_its_source(draw: Draw, size: int) -> None:
    rules = rules_of(draw)
    lists = [bucket.rules for bucket in buckets(rules, size)]
    flat = [rule for bucket in lists for rule in bucket]
    assert sorted(rule.target for rule in flat) == sorted(rule.target for rule in rules)
    sources = [rule.source for rule in flat]
    assert all(len(bucket) == 1 or sum(rule.spec.nbytes for rule in bucket) <= size for bucket in lists)
    assert len([i for i, name in enumerate(sources) if i == 0 or sources[i - 1] != name]) == len(set(sources))


@given(DRAWS, st.integers(1, 600))
def test_sources_are_freed_once_and_not_too_early(draw: Draw, size: int) -> None:
    weights, rules = Weights(), rules_of(draw)
    wanted = {rule.target: weights.tensor(rule.source).repeat(rule.how.n_out, 1) for rule in rules}
    sink = Memory(size, weights)
    expected = peak_memory(weights, rules, size, lambda name: True)[torch.device("cpu")]
    done = run(weights, rules, sink, lambda device: {})
    assert sorted(rule.target for rule in done) == sorted(wanted)
    assert sink.most == expected
    assert {f"w{number}" for number, _ in draw} == {f"w{i}" for i in range(6)} - set(weights._values)
    assert sink.made.keys() == wanted.keys()
    assert all(torch.equal(sink.made[name], wanted[name]) for name in wanted)


def test_buffers_of_shared_noise_count_while_they_are_there() -> None:
    """Two matrices of a pair: each is computed beside the other, and copied from there."""
    plain = Tile.identity((3, 4), sum_axis=1)
    tiles = [replace(plain, noise=Noise(std=0.1, share=(number, 2))) for number in range(2)]
    rules = [Rule(f"t{n}", ("w0",), TensorSpec((3, 4), "float32"), tile) for n, tile in enumerate([*tiles, plain])]
    cpu, one = torch.device("cpu"), 4 * 3 * 4
    assert peak_memory(Weights(), rules, 10 * one, lambda name: False)[cpu] == 3 * one + 2 * 2 * one
    assert peak_memory(Weights(), rules, 1, lambda name: False)[cpu] == 2 * one + 2 * one


class Files(Weights):
    """A source that can be read again, as files can, and notes what is held."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, None] = {}
        self.most = 0

    def tensor(self, name: str) -> torch.Tensor:
        self.held[name] = None
        self.most = max(self.most, len(self.held))
        return super().tensor(name)

    def free(self, name: str) -> None:
        del self.held[name]


@given(DRAWS)
def test_one_tensor_at_a_time_in_the_order_of_the_rules(draw: Draw) -> None:
    source, rules = Files(), rules_of(draw)
    sink = Memory(0, source)
    calls: list[tuple[int, int]] = []
    done = run(source, rules, sink, lambda device: {}, Preflight(source), lambda *now: calls.append(now))
    assert done == tuple(rules) and list(sink.made) == [rule.target for rule in rules]
    assert source.most == 1 and not source.held
    sizes = [rule.spec.nbytes for rule in rules]
    assert calls == [(sum(sizes[: i + 1]), sum(sizes)) for i in range(len(sizes))]


def test_what_does_not_change_is_found_once() -> None:
    rules = rules_of([(0, 2), (1, 1), (1, 1), (2, 1)])
    assert unchanged(Weights(), rules) == {"w1": rules[1], "w2": rules[3]}
    half = Rule("t", ("w0",), TensorSpec((3, 4), "bfloat16"), Tile.identity((3, 4)))
    part = Rule("t", ("w5",), TensorSpec((3, 4), "float32"), Tile.identity((3, 4)))
    assert unchanged(Weights(), [half, part]) == {}


def test_a_device_without_kernels_is_found_out_while_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = rules_of([(0, 2), (1, 1)])
    assert prepare(Weights(), rules, lambda device: {}) == tuple(rules)
    monkeypatch.setattr(registry, "FORCED", "no such backend")
    with pytest.raises(GrowthError, match="unknown backend"):
        prepare(Weights(), rules, lambda device: {})

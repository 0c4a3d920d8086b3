"""The same bits from the CUDA kernels, the Triton kernels and the reference."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from growkernels import ops
from tests.gpu.device import BACKENDS, DEVICE, SECONDS, examples
from tests.gpu.properties import PROPERTIES, assert_written
from tests.ops.rules import Seeded
from tests.ops.tensors import DTYPES, assert_same_bits, data, poisoned, with_special
from tests.ops.tools import Drawn

pytestmark = [pytest.mark.usefixtures("poisoned_memory"), pytest.mark.parametrize("backend", BACKENDS)]


#: Seeded examples of each property; they are dealt to tests that may run side by side. Of these each has at least so many.
SEEDED, DEALT, LEAST = examples(2000), 8, examples(50)
#: Hypothesis tries edges more often, and takes ten times as long.
DRAWN = examples(30 if BACKENDS == ("triton",) else 600)


@pytest.mark.parametrize("name", PROPERTIES)
@settings(max_examples=DRAWN, phases=(Phase.explicit, Phase.generate))  # shrinking may take minutes
@given(st.data())
def test_drawn_examples(name: str, backend: str, choices: st.DataObject) -> None:
    PROPERTIES[name](Drawn(choices.draw), backend)


@pytest.mark.parametrize("hand", range(DEALT))
@pytest.mark.parametrize("name", PROPERTIES)
def test_seeded_examples(name: str, hand: int, backend: str, record_property: Callable[[str, object], None]) -> None:
    # Each can be run alone: `python -m tests.gpu.sweep --seed N --examples 1`.
    failed, tried, start = [], 0, time.monotonic()
    for seed in range(hand, SEEDED, DEALT):
        if tried >= LEAST and time.monotonic() - start > SECONDS:
            break
        tried += 1
        try:
            PROPERTIES[name](Seeded(seed), backend)
        except Exception as error:
            failed.append((seed, f"{type(error).__name__}: {error}"))
    record_property("examples", tried)
    assert not failed, f"{len(failed)} of {tried} examples failed, the first of them (seed, why): {failed[:5]}"


@pytest.mark.parametrize("variant", ["symmetric", "diagonal"])
@pytest.mark.parametrize("noise", [(None, None), (0.1, None), (None, 10.0)], ids=["clean", "std", "snr"])
@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_every_pair_of_dtypes(
    backend: str, source: torch.dtype, noise: tuple[float | None, float | None], variant: str
) -> None:
    for target, n_in in itertools.product(DTYPES, (2, 3)):
        values = with_special(data((13, 130), source))
        arguments = 2, n_in, variant, *noise, 2**64 - 5
        out = poisoned((26, 130 * n_in), target, "offset", DEVICE)
        ops.tile_(out, values.to(DEVICE), *arguments, backend=backend)
        assert_written(out, ops.tile(values, *arguments, target, backend="eager"))


def test_every_value_of_small_formats_converts_exactly(backend: str) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    for source, target in itertools.product((torch.bfloat16, torch.float16), DTYPES):
        weight = every.view(source).reshape(256, 256)
        assert_same_bits(ops.tile(weight.to(DEVICE), 1, 1, dtype=target, backend=backend).cpu(), weight.to(target))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_pairs_of_halves(backend: str, dtype: torch.dtype) -> None:
    """Every value of a small format grown to two noisy halves: the second is what the first left, subtracted in 16 bits."""
    weight = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).reshape(64, 1024)
    for std in (2.0**-140, 2.0**-126, 2.0**-30, 2.0**-12, 0.1, 300.0, 2.0**120, 2.0**127):
        arguments = 1, 2, "symmetric", std, None, 12
        expected = ops.tile(weight, *arguments, backend="eager")
        assert_same_bits(ops.tile(weight.to(DEVICE), *arguments, backend=backend).cpu(), expected)


@pytest.mark.parametrize("target", [torch.bfloat16, torch.float16], ids=str)
def test_neighbors_of_midpoints_round_to_even_once(backend: str, target: torch.dtype) -> None:
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(target).double()
    values = values[values.isfinite()].sort().values.unique()
    midpoints = (values[1:] + values[:-1]) / 2
    # By way of float32 the first two would round as the midpoint itself does.
    nudges = (1 - 2.0**-40, 1 + 2.0**-40, 1 - 2.0**-20, 1 + 2.0**-20, 1.0)
    weight = torch.stack([midpoints * nudge for nudge in nudges])
    for source in (torch.float64, torch.float32):
        stored = weight.to(source)
        expected = ops.tile(stored, 1, 1, dtype=target, backend="eager")
        assert_same_bits(ops.tile(stored.to(DEVICE), 1, 1, dtype=target, backend=backend).cpu(), expected)


def test_copies_keep_the_payload_of_nan(backend: str) -> None:
    for dtype, bits in ((torch.float32, torch.int32), (torch.bfloat16, torch.int16), (torch.float64, torch.int64)):
        weight = with_special(data((37, 41), dtype))
        weight.view(bits)[0, 0] += 5
        source = weight.to(DEVICE)
        copies = [ops.tile(source, 2, 1, backend=backend), torch.cat(ops.replicate([source], [0, 0], backend=backend))]
        for copy in copies:
            assert copy.cpu().view(bits).equal(weight.view(bits).repeat(2, 1))


def test_noise_is_counted_over_the_outputs_end_to_end(backend: str) -> None:
    blocks = [data((5, 7)).to(DEVICE), data((11,)).to(DEVICE)]
    outs = ops.replicate(blocks, [0, 1, 0], 1.0, 1.0, 2.0, 99, backend=backend)
    z = torch.empty(5 * 7 + 11 + 5 * 7, device=DEVICE)
    ops.normal_(z, 99, 1, backend=backend)
    flat = torch.cat([blocks[i].reshape(-1) for i in (0, 1, 0)])
    assert_same_bits(torch.cat([out.reshape(-1) for out in outs]), 0.0 * flat + 2 * z)

"""What a GPU adds: streams, graphs, threads, its allocator, several devices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from growkernels import ops
from growkernels.ops import Noise, Tile
from tests.gpu.device import BACKENDS, DEVICE, NAMESPACES
from tests.gpu.work import Work
from tests.ops.tensors import POISON, assert_same_bits

pytestmark = [pytest.mark.usefixtures("cuda"), pytest.mark.parametrize("backend", BACKENDS)]

#: Clock cycles for which a stream is kept busy: a tenth of a second or more on any GPU.
LONG = 250_000_000
NO_MEMORY = 1_000_000


@pytest.fixture
def work(backend: str) -> Work:
    """Every op, run before: kernels are compiled and loaded, and the allocator has what they need."""
    work = Work(backend, DEVICE)
    work.fill(1)
    for _ in range(2):
        work.run()
    torch.cuda.synchronize()
    return work


def test_ops_run_on_the_current_stream(work: Work) -> None:
    stream = torch.cuda.Stream()
    fresh = Work(None, DEVICE)
    fresh.fill(2)
    work.fill(1)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # Anywhere else an op would not wait for these inputs.
        torch.cuda._sleep(LONG)
        work.weight.copy_(fresh.weight)
        work.vector.copy_(fresh.vector)
        work.run()
    stream.synchronize()
    work.check()


def test_calls_do_not_wait_for_the_device(work: Work) -> None:
    # Twice: the first time, pinned memory may be allocated, for which CUDA waits.
    for seed in (3, 4):
        work.fill(seed)
        torch.cuda.synchronize()
        torch.cuda._sleep(LONG)
        awake = torch.cuda.Event()
        awake.record()
        work.run()
        waited = awake.query()
        torch.cuda.synchronize()
        work.check()
    assert not waited, "a call came back only after the device had finished what was queued before it"


def test_graphs_replay_with_new_inputs(work: Work) -> None:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work.run()
    for seed in (4, 5):
        work.fill(seed)
        # Memory that the graph still needs but has given back would be overwritten by this.
        junk = [torch.full((1 << size,), torch.nan, device=DEVICE) for size in range(4, 24) for _ in range(3)]
        graph.replay()
        torch.cuda.synchronize()
        work.check()
        del junk


def test_threads_call_at_once(backend: str) -> None:
    def several(seed: int) -> None:
        work = Work(backend, DEVICE)
        with torch.cuda.stream(torch.cuda.Stream()):
            for turn in range(5):
                work.fill(10 * seed + turn)
                work.run()
                torch.cuda.current_stream().synchronize()
                work.check()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(several, range(4)))


def in_place(backend: str) -> dict[str, tuple[Callable[[], None], list[Tensor]]]:
    """Every op that writes into memory that exists, on inputs of many megabytes, and its outputs."""
    weight = torch.randn(4096, 4096, device=DEVICE).to(torch.bfloat16)
    out = torch.full((8192, 8192), POISON, dtype=torch.bfloat16, device=DEVICE)
    small = [torch.randn(8, 16, device=DEVICE) for _ in range(1000)]
    outs = [torch.full((16, 32), POISON, device=DEVICE) for _ in small]
    copies = [torch.full_like(weight, POISON) for _ in range(3)]
    spec = Tile.copies((8, 16), (2, 2), 1, Noise(std=0.1), key=1)
    library = getattr(torch.ops, NAMESPACES[backend])
    factors, sums = torch.randn(3, 4, device=DEVICE), torch.randn(4, 3, dtype=torch.float64, device=DEVICE)
    layers = list(weight.view(4, 1024, 4096).unbind())
    parts = [copy[:1024] for copy in copies]
    return {
        "tile_": (lambda: ops.tile_(out, weight, 2, 2, backend=backend), [out]),
        "tile_ std": (lambda: ops.tile_(out, weight, 2, 2, noise_std=0.1, backend=backend), [out]),
        "tile_ snr": (lambda: ops.tile_(out, weight, 2, 2, snr_db=10.0, backend=backend), [out]),
        "tile_rules_": (lambda: ops.tile_rules_(outs, small, [spec] * len(small), backend=backend), outs),
        "replicate_": (lambda: ops.replicate_(copies, [weight], [0] * 3, 0.5, 0.2, 0.1, backend=backend), copies),
        "normal_": (lambda: ops.normal_(out, 1, 1, backend=backend), [out]),
        "mix_": (lambda: library.mix_(parts, layers, factors), parts),
        "inner_products_": (lambda: library.inner_products_(sums, layers, parts), [sums]),
    }


@pytest.mark.parametrize(
    "name", ["tile_", "tile_ std", "tile_ snr", "tile_rules_", "replicate_", "normal_", "mix_", "inner_products_"]
)
def test_in_place_ops_allocate_next_to_nothing(backend: str, name: str) -> None:
    run, outs = in_place(backend)[name]
    run()
    torch.cuda.synchronize()
    before, places = torch.cuda.memory_allocated(), [out.data_ptr() for out in outs]
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before < NO_MEMORY
    assert torch.cuda.memory_allocated() == before
    assert [out.data_ptr() for out in outs] == places


def test_functional_ops_allocate_their_output_alone(backend: str) -> None:
    weight = torch.randn(2048, 2048, device=DEVICE)
    ops.tile(weight, 2, 2, snr_db=10.0, backend=backend)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    grown = ops.tile(weight, 2, 2, snr_db=10.0, backend=backend)
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before < grown.nbytes + NO_MEMORY


def test_outputs_come_from_the_pool_in_use(backend: str) -> None:
    weight = torch.randn(1024, 1024, device=DEVICE)
    expected = ops.tile(weight.cpu(), 2, 2, snr_db=10.0, key=1, backend="cpu")
    pool = torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool):
        grown = ops.tile(weight, 2, 2, snr_db=10.0, key=1, backend=backend)
    segments = [(s["address"], s["address"] + s["total_size"]) for s in pool.snapshot()]
    assert any(start <= grown.data_ptr() < stop for start, stop in segments)
    assert_same_bits(grown.cpu(), expected)


EXPANDABLE = """
import sys, torch
from tests.gpu.sweep import sweep
assert sweep(sys.argv[1], 40, 0) == 0
assert any(segment["is_expandable"] for segment in torch.cuda.memory_snapshot())
"""


def test_expandable_segments(backend: str) -> None:
    # The allocator reads its settings once in a process.
    environment = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    command = [sys.executable, "-c", EXPANDABLE, backend]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_tensors_of_another_device_than_the_current_one(backend: str) -> None:
    other = torch.device("cuda", 1)
    work = Work(backend, other)
    work.fill(6)
    torch.cuda.synchronize(other)
    with torch.cuda.stream(torch.cuda.Stream(other)), torch.cuda.device(0):
        work.run()
        assert torch.cuda.current_device() == 0
    torch.cuda.synchronize(other)
    work.check()


def test_tensors_of_two_devices_are_refused(backend: str) -> None:
    here, there = torch.ones(4, 4, device=DEVICE), torch.ones(4, 4)
    spec = Tile.identity((4, 4))
    outs = [torch.full((4, 4), POISON, device=t.device) for t in (here, there)]
    for call in (
        lambda: ops.tile_(outs[0], there, 1, 1, backend=backend),
        lambda: ops.tile_(outs[1], here, 1, 1, backend=backend),
        lambda: ops.tile_rules_(outs, [here, there], [spec] * 2, backend=backend),
        lambda: ops.tile_rules_(outs[::-1], [there, here], [spec] * 2, backend=backend),
        lambda: ops.replicate_(outs, [here, there], [0, 1], backend=backend),
        lambda: ops.replicate([here, there], [0, 1], backend=backend),
        lambda: ops.mean_square([here, there], backend=backend),
    ):
        with pytest.raises(ValueError, match="device"):
            call()
    assert all((out == POISON).all() for out in outs)

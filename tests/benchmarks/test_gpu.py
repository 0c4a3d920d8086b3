"""What the suite does on a GPU, as far as it can be tried without one: its clocks, cases, targets and report."""

from dataclasses import replace

import pytest
import torch

from benchmarks import measure, rivals
from benchmarks.case import COMPILED, EAGER, FLOOR, OURS, OURS_OUT, PAPER, TRITON, Setting
from benchmarks.cases import all_cases
from benchmarks.cases.calls import LIST, PREFIX
from benchmarks.cases.models import LARGEST, ONE_BY_ONE
from benchmarks.clock import Events, Queued, Wall
from benchmarks.results import CaseResult, Measurement, Results
from benchmarks.table import markdown
from benchmarks.targets import targets
from benchmarks.traffic import Traffic
from growkernels.ops.backends import registry

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def queue(monkeypatch):
    """A GPU that writes down what it is asked to do; between two events it counts two milliseconds a call."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            log.append("event")

        def synchronize(self):
            log.append("wait")

        def elapsed_time(self, other):
            return 2.0 * log.count("call")

    class Properties:
        L2_cache_size = 1000

    class Scratch:
        def fill_(self, value):
            log.append("flush")

    def empty(size, **_):
        assert size > Properties.L2_cache_size
        return Scratch()

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: log.append("idle"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: log.append("spin"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    return log


def test_a_call_is_timed_between_events_on_a_cold_cache(queue):
    assert Events(CUDA)(lambda: queue.append("call")) == pytest.approx(2e-3)
    assert queue == ["idle", "flush", "spin", "event", "call", "event", "wait"]


def test_calls_are_queued_while_the_gpu_spins(queue):
    assert Queued()(lambda: queue.append("call"), 3) == pytest.approx(4e-3)  # the fake counts the rehearsal too
    assert queue == ["idle", *["call"] * 3, "idle", "spin", "event", *["call"] * 3, "event", "wait"]


def test_the_host_is_timed_from_idle_to_idle(queue):
    assert Wall(CUDA)(lambda: queue.append("call"), 2) > 0
    assert queue == ["idle", "call", "call", "idle"]
    queue.clear()
    assert Wall(CPU)(lambda: None) > 0 and queue == []


@pytest.fixture
def gpu_cases(monkeypatch):
    """The cases of a GPU, tiny, on the CPU; its kernels stand in for Triton's."""
    monkeypatch.setattr(Setting, "kind", "cuda")
    monkeypatch.setitem(registry.BACKENDS, "triton", registry.BACKENDS["cpu"])
    return {case.name: case for case in all_cases(Setting.tiny(CPU))}


def test_every_provider_of_a_gpu_passes_its_check(gpu_cases):
    assert f"{LARGEST} list x2 bf16" in gpu_cases
    for case in gpu_cases.values():
        providers = {provider.name: provider for provider in case.build()}
        if OURS_OUT in providers and not case.name.startswith("expand"):
            assert TRITON in providers
        for provider in providers.values():
            if provider.name != COMPILED:
                measure._try(provider, case.calls, CPU)


def test_bytes_of_plain_pytorch_are_counted():
    w = torch.randn(64, 64)
    expected = {
        lambda: rivals.tile(w, 2, 2): 5 + 8,  # repeat reads 1 and writes 4, the division reads and writes 4
        lambda: rivals.replicate([w], [0, 0]): 4,
        lambda: rivals.paper_replicate([torch.empty(64, 64)], [w], [0]): 2,
        lambda: rivals.tile_diagonal(w, 2, 2): 4 + 4,  # zeros are written, two blocks read and written
        lambda: torch.zeros_like(w): 1,
        lambda: w.t()[1:].unsqueeze(0): 0,
        lambda: w.expand(3, 64, 64) + 1: 1 + 3,
        lambda: w.clone().add_(1): 2 + 2,
    }
    for run, copies in expected.items():
        with Traffic() as traffic:
            run()
        assert traffic.bytes == copies * w.nbytes


def on_a_gpu(*cases):
    machine = {"name": "chip", "gpu": "Chip", "cuda": "13.0", "backend": "cuda", "processor": "p", "cores": 1}
    machine |= {"threads": 1, "memory_bytes": 2**30, "system": "Linux", "instructions": "avx2"}
    run = {"commit": "abc", "dirty": False, "date": "today", "command": "c", "load_before": 0.0, "load_after": 0.1}
    run |= {"copies": "torch_copy 4300.0 GB/s", "side": 16}
    return Results(machine, {"torch": "2"}, run, {"copy": 4.3e12, "operations": 3e13}, list(cases))


def result(name, bytes=1000, **seconds):
    return CaseResult(name, bytes, 10, 1, {k.replace("__", ", ").replace("_", " "): v for k, v in seconds.items()})


def took(seconds, **more):
    return Measurement([seconds], **more)


def test_targets_of_a_gpu():
    cases = [
        result(
            "tile x2 fp32", ours_in_place=took(1.0), ours=took(1.0), eager=took(2.6, bytes=2600), copy_floor=took(0.95)
        ),
        result("tile x2 noise bf16", ours_in_place=took(1.0), ours=took(1.0), paper=took(4.0), copy_floor=took(0.7)),
        result("tile x2 10 dB fp32", ours_in_place=took(1.0), copy_floor=took(0.9)),
        result("replicate x4 bf16", ours_in_place=took(1.0), ours=took(1.0), copy_floor=took(0.5)),
        result(
            "tile x2 prime fp32",
            ours_in_place=took(1.0),
            ours=took(2.0),
            eager=took(2.0, bytes=2000),
            copy_floor=took(1.0),
            ours_in_place__aligned_source=took(0.4),
        ),
        result(f"{LARGEST} list x2 bf16", ours_in_place=took(1.3), copy_floor=took(1.0)),
        CaseResult(
            PREFIX + LIST,
            8,
            0,
            10,
            {OURS_OUT: took(1e-3, device_seconds=1e-5), ONE_BY_ONE: took(6e-3, device_seconds=4e-4)},
        ),
        CaseResult(PREFIX + "tile_", 8, 0, 9, {OURS: took(16e-6, device_seconds=2e-6), EAGER: took(1e-5)}),
    ]
    cases[0].measurements[COMPILED] = took(1.0)
    found = {target.claim: (round(target.figure, 6), target.met) for target in targets(on_a_gpu(*cases), None)}
    share = "as a share of what bytes allow"
    assert found == {
        "tile x2 fp32, fraction of the copy rate": (0.95, True),
        "tile x2 noise bf16, fraction of the copy rate": (0.7, False),
        "tile x2 noise bf16, times as fast as the paper's": (4.0, False),
        "tile x2 10 dB fp32, fraction of the copy rate": (0.9, True),
        "replicate x4 bf16, fraction of the copy rate": (0.5, False),
        "tile x2 prime fp32, against an aligned source": (2.5, False),
        f"{LARGEST} list x2 bf16, against its copy floor": (1.3, False),
        f"tile x2 prime fp32 (the worst row), speed-up over eager {share}": (0.5, False),
        f"tile x2 fp32 (the worst row), speed-up over torch.compile {share}": (1.0, True),
        f"{PREFIX}{LIST}, times as fast as one call each": (6.0, False),
        f"{PREFIX}{LIST}, times as fast as one call each, the device alone": (40.0, True),
        f"{PREFIX}tile_, one call on 8 x 8": (16.0, False),
    }
    report = markdown(on_a_gpu(*cases), targets(on_a_gpu(*cases), None))
    for text in ("Chip, CUDA 13.0, ours are the cuda kernels", "| tile_ | 16.0 (2.0) |", f"| {LIST} |", FLOOR, PAPER):
        assert text in report


def test_targets_of_products():
    """Six operations at a rate of 10 a second and 100 bytes at 1000 a second are our least; eager has 12 and 800."""
    floors = {"matmul_floor": took(0.6), "copy_floor": took(0.1)}
    ours = {"ours": took(1.0), "ours_in_place": took(0.8)}
    counted = took(1.5, bytes=800, operations=12, extra_bytes=900)
    case = CaseResult(
        "expand 410M to 1.1B bf16",
        100,
        6,
        1,
        {k.replace("_", " "): v for k, v in (floors | ours | {"eager": counted}).items()},
    )
    found = {target.claim: (round(target.figure, 6), target.met) for target in targets(on_a_gpu(case), None)}
    share = "as a share of what operations and bytes allow"
    assert found == {
        "expand 410M to 1.1B bf16, fraction of the matmul rate": (0.75, True),
        f"expand 410M to 1.1B bf16 (the worst row), speed-up over eager {share}": (0.75, False),
    }
    bytes_bind = replace(case, measurements={**case.measurements, "eager": replace(counted, bytes=1600)})
    assert found.keys() == {target.claim for target in targets(on_a_gpu(bytes_bind), None)}
    assert round(targets(on_a_gpu(bytes_bind), None)[1].figure, 6) == round(1.5 * 0.6 / 1.6, 6)
    on_a_cpu = on_a_gpu(replace(case, measurements={**case.measurements, "paper": counted, "ours": took(0.5)}))
    on_a_cpu.machine.pop("gpu")
    on_a_cpu.cases[0].measurements["ours"] = took(0.5, extra_bytes=100)
    found = {target.claim: (target.figure, target.met) for target in targets(on_a_cpu, None)}
    assert found["expand 410M to 1.1B bf16, times as fast as the paper's"] == (3.0, True)
    assert found["expand 410M to 1.1B bf16, less extra memory than the paper's"] == (9.0, True)

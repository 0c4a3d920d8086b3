"""The harness itself: turns, memory, files, targets, tables. Nothing here asserts a time."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks import __main__ as suite
from benchmarks import checks, floor, machine, measure, provenance, rivals
from benchmarks.case import COMPILED, FLOOR, OURS, OURS_OUT, PAPER, TRITON, Case, Provider, Setting, Work
from benchmarks.cases import all_cases
from benchmarks.cases.models import ONE_BY_ONE
from benchmarks.measure import Effort
from benchmarks.picture import draw
from benchmarks.results import CaseResult, Measurement, Results, read
from benchmarks.table import markdown, table
from benchmarks.targets import Target, targets

CPU = torch.device("cpu")


def results(*cases):
    run = {"commit": "abc", "dirty": True, "date": "today", "command": "c", "load_before": 0.0, "load_after": 0.1}
    run |= {"copies": "torch_copy 20.0 GB/s", "side": 16}
    return Results(machine.describe(CPU), provenance.versions(), run, {"copy": 2e10, "operations": 3e10}, list(cases))


def result(name, bytes=1000, operations=10, **seconds):
    named = {k.replace("_", " "): Measurement(v, extra_bytes=7) for k, v in seconds.items()}
    return CaseResult(name, bytes, operations, 1, named)


def test_providers_take_turns():
    order = []
    timers = [lambda name=name: order.append(name) or float(len(order)) for name in "ABC"]
    seconds = measure.interleave(timers, Effort(least=2, most=2))
    assert order == ["A", "B", "C", "A", "B", "C"]
    assert seconds == [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]


def test_rounds_go_on_while_there_is_time():
    ticks = iter(range(100))
    seconds = measure.interleave([lambda: 1.0], Effort(least=2, most=50, seconds=4.5), clock=lambda: next(ticks))
    assert len(seconds[0]) == 6  # four more rounds fit after the two that are asked for


def test_what_fails_or_is_wrong_is_not_timed_and_hides_no_other():
    def wrong(outputs):
        raise AssertionError("two is not one")

    providers = [
        Provider(OURS, lambda: [torch.ones(1)], wrong),
        Provider(TRITON, lambda: 1 // 0, wrong),
        Provider("eager", lambda: [torch.ones(1)], lambda outputs: None),
    ]
    case = Case("a case", Work(8, 0), lambda: providers)
    measured = measure.run_case(case, Setting.tiny(CPU), measure.QUICK)
    assert measured.failures[OURS] == "AssertionError: two is not one"
    assert "ZeroDivisionError" in measured.failures[TRITON]
    assert set(measured.measurements) == {"eager", FLOOR} and measured.base is None
    assert "ours FAILED: AssertionError: two is not one" in suite._line(measured)
    assert "| a case | ours | AssertionError: two is not one |" in markdown(results(measured), [])


def test_a_case_that_cannot_be_built_is_a_failure():
    def build():
        raise MemoryError("64 GB")

    measured = suite._run(Case("large", Work(8, 2), build), Setting.tiny(CPU), measure.QUICK)
    assert measured.failures == {"all": "MemoryError: 64 GB"} and not measured.measurements
    assert targets(results(measured), None) == []
    assert "64 GB" in markdown(results(measured), [])


def test_without_time_what_compiles_is_named_and_not_run():
    providers = [Provider(name, lambda: [torch.ones(1)], lambda outputs: None) for name in (OURS, COMPILED)]
    case = Case("a case", Work(8, 0), lambda: providers)
    measured = measure.run_case(case, Setting.tiny(CPU), Effort(1, 1, 0.0, compiles=False))
    assert set(measured.measurements) == {OURS, FLOOR} and "were over" in measured.failures[COMPILED]


def test_cases_without_time_are_named_left_out_and_no_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(
        suite, "all_cases", lambda _: [Case("first", Work(8, 2), None), Case("second", Work(8, 2), None)]
    )
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--minutes", "0", "--out", str(tmp_path), "--cases", "*s*"])
    monkeypatch.setattr(suite, "copy_rates", lambda _: {"copy": 1e9})
    monkeypatch.setattr(suite, "operation_rate", lambda *_: 1e9)
    monkeypatch.setattr(suite, "_draw", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        suite.main()
    assert ended.value.code == 0
    assert (tmp_path / "README.md").read_text().count("not run: the minutes for the suite were over") == 2


def test_outputs_are_poisoned_before_they_are_checked():
    """What another provider left there is not taken for this one's."""
    out = torch.ones(3)

    def check(outputs):
        assert outputs[0].equal(torch.ones(3))

    idle = Provider(OURS_OUT, lambda: [out], check, fresh=False)
    with pytest.raises(AssertionError):
        measure._try(idle, 1, CPU)
    writing = Provider(OURS_OUT, lambda: [out.fill_(1)], check, fresh=False)
    assert measure._try(writing, 1, CPU).first_seconds > 0


def test_a_case_runs_with_its_floor():
    case = next(case for case in all_cases(Setting.tiny(CPU)) if case.name == "tile x2 prime fp32")
    measured = measure.run_case(case, Setting.tiny(CPU), measure.QUICK)
    assert set(measured.measurements) >= {OURS_OUT, OURS, "eager", FLOOR}
    assert {len(m.seconds) for m in measured.measurements.values()} == {3}
    assert measured.bytes == case.work.bytes


def test_memory_that_is_freed_is_kept():
    """In a process of its own: it is for good."""
    code = """
import resource
import torch
from benchmarks.memory import recycle

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
mapped = min(pages() for _ in range(20))
recycle()
print(mapped, min(pages() for _ in range(20)))
"""
    mapped, kept = map(int, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert mapped > 100 * max(kept, 1)


@pytest.mark.parametrize("copy", [floor.torch_copy, floor.memmove_pieces, floor.memmove_shares, floor.streamed])
@pytest.mark.parametrize("size", [1, 2, 1001, (2 << 20) + 3])
def test_the_floor_moves_its_bytes(copy, size):
    moved = []

    def counting(target, source):
        moved.append(target.numel() + source.numel())
        copy(target, source)

    tested = floor.Floor(size, CPU, counting)
    tested.check(tested.run())
    assert sum(moved) == max(2, size // 2 * 2)


def test_a_large_floor_goes_over_its_buffers_again(monkeypatch):
    monkeypatch.setitem(floor._LARGEST, "cpu", 100)
    moved = []
    tested = floor.Floor(2 * 250, CPU, lambda target, source: moved.append(target.numel()))
    tested.run()
    assert moved == [100, 100, 50]


def test_peak_memory_counts_what_is_freed_again():
    """In a process of its own: threads that tests before have left, torch.compile's say, take memory when they will.

    Resident memory is counted in batches of pages on each thread; 32 MB stand well above that.
    """
    code = """
import torch
from benchmarks.memory import peak_above

def temporary():
    torch.ones(64 << 20, dtype=torch.uint8)
    return [torch.ones(32 << 20, dtype=torch.uint8)]

print(peak_above(temporary, torch.device("cpu")))
"""
    peak = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert peak == "None" or 0.95 * (64 << 20) <= int(peak) <= 1.1 * (64 << 20)


def test_noise_check_accepts_the_rivals_and_refuses_the_wrong_size():
    weight = torch.randn(64, 64)
    for n in (2, 3, 4, 5):
        for rival in (rivals.tile_noisy, rivals.paper_tile_noisy):
            grown = rival(weight, n, n, 0.1)
            if rival is rivals.tile_noisy or n % 2 == 0:
                with pytest.raises(AssertionError, match=r"expected 0\.2"):
                    checks.noise_cancels(grown, weight, n, n, 0.2)
                checks.noise_cancels(grown, weight, n, n, 0.1)
    grown = rivals.tile_noisy(weight, 2, 2, 0.1)
    grown[0, 0] += 0.1
    with pytest.raises(AssertionError):
        checks.noise_cancels(grown, weight, 2, 2, 0.1)


def test_files_hold_every_round(tmp_path):
    written = results(result("tile x2 fp32", ours=[1.0, 3.0, 2.0], copy_floor=[1.0, 1.0, 1.0]))
    (tmp_path / "ops.json").write_text(written.to_json())
    assert read(tmp_path / "ops.json") == written
    header, *rows = [line.split(",") for line in written.to_csv().splitlines()]
    row = dict(zip(header, rows[0], strict=True))
    assert row["provider"] == OURS and row["commit"] == "abc"
    assert (float(row["median_s"]), float(row["max_s"]), float(row["copy_fraction"])) == (2.0, 3.0, 0.5)
    with pytest.raises(ValueError, match="format 9"):
        Results.from_json(written.to_json().replace('"format": 1', '"format": 9'))


def test_targets_know_met_from_not_met():
    measured = results(
        result("tile x2 fp32", ours_in_place=[1.2], ours=[1.5], eager=[3.0], copy_floor=[1.0]),
        result("tile x2 noise bf16", ours_in_place=[1.0], ours=[4.0], eager=[2.0], paper=[14.0], copy_floor=[1.0]),
        CaseResult("m", 8, 0, 1, {OURS_OUT: Measurement([1.0]), ONE_BY_ONE: Measurement([1.0])}),
        result("call: tile_", ours=[9e-6], eager=[1e-5]),
    )
    checkpoint = {"runs": {"cp": [{"seconds": 2.0}], "noise-free": [{"seconds": 2.4}], "10 dB": [{"seconds": 6.0}]}}
    found = {target.claim: (round(target.figure, 6), target.met) for target in targets(measured, checkpoint)}
    assert found == {
        "clean `tile_` x2 fp32 against the copy floor": (1.2, False),
        "noisy `tile_` x2 bf16, times as fast as the paper's": (14.0, True),
        "functional `tile`, times as fast as eager; the slowest row (tile x2 noise bf16)": (0.5, False),
        "m: one call against the sum of its tensors": (1.0, True),
        "call: tile_, one call on 8 x 8": (9.0, True),
        "checkpoint to checkpoint x2, noise-free, against `cp` (fsync both)": (1.2, True),
        "checkpoint to checkpoint x2, 10 dB, against `cp` (fsync both)": (3.0, False),
    }


def test_report_shows_targets_times_memory_and_calls(tmp_path):
    measured = results(
        result("tile x2 fp32", ours_in_place=[1e-3], ours=[2e-3], eager=[17e-3], copy_floor=[1e-3]),
        result("tile x2 noise fp32", ours_in_place=[1e-3], ours=[2e-3], paper=[0.5], copy_floor=[1e-3]),
        result("call: tile", ours=[9e-6], eager=[1e-5]),
    )
    report = markdown(measured, [Target("speed", 2.0, 1.5)])
    for text in ("abc with uncommitted changes", "**not met**", "17.0 (17.0 to 17.0)", "17.0 (8.5)", "| tile | 9.0 |"):
        assert text in report
    assert PAPER in report
    draw(measured, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_tables_align_numbers():
    assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_statistics_are_those_of_numpy():
    seconds = list(np.random.default_rng(0).random(9))
    measured = Measurement(seconds)
    assert measured.median == np.median(seconds) and measured.percentile(90) == np.percentile(seconds, 90)

"""Cases of the benchmark suite on tiny sources: declared work is what the buffers hold, and every provider is right."""

import pytest
import torch

from benchmarks import cases as cases_package
from benchmarks.case import COMPILED, OURS, OURS_OUT, Setting
from benchmarks.cases import all_cases
from benchmarks.cases.calls import PREFIX
from benchmarks.cases.models import llama_1b, pythia_410m
from growkernels import ops

TINY = Setting.tiny(torch.device("cpu"))
CASES = {case.name: case for case in all_cases(TINY)}


def test_names_are_unique_and_do_not_depend_on_size():
    full = [case.name for case in all_cases(Setting(TINY.device))]
    assert full == list(CASES) and len(set(full)) == len(full)


@pytest.mark.parametrize("name", CASES)
def test_every_provider_passes_its_check(name):
    providers = CASES[name].build()
    assert len({provider.name for provider in providers}) == len(providers)
    for provider in providers:
        if provider.name != COMPILED:  # the same formula as eager; compiling all takes minutes
            provider.check(provider.run())


@pytest.mark.parametrize("name", CASES)
def test_declared_bytes_are_sources_once_and_targets_once(name, monkeypatch):
    """Counted from the tensors that the op is given."""
    moved = []

    def counted(*groups):
        moved.append(sum(t.nbytes for group in groups for t in group))

    for op, buffers in {
        "tile_": lambda out, weight, *_, **__: ([out], [weight]),
        "tile_rules_": lambda outs, weights, specs: (outs, weights),
        "replicate_": lambda outs, blocks, *_, **__: (outs, blocks),
        "mean_square": lambda tensors: (tensors,),
    }.items():
        real = getattr(ops, op)

        def spy(*args, buffers=buffers, real=real, **kwargs):
            counted(*buffers(*args, **kwargs))
            return real(*args, **kwargs)

        monkeypatch.setattr(ops, op, spy)
    if name == f"{PREFIX}tile":
        monkeypatch.setattr(ops, "tile", lambda weight, *_: counted([weight] * 5))
    provider = next(p for p in CASES[name].build() if p.name in (OURS_OUT, OURS))
    provider.run()
    # The form with SNR reads its source twice: once for the mean square.
    twice = CASES[name].work.bytes / 6 if "10 dB" in name else 0
    assert sum(moved) + twice == CASES[name].work.bytes


def test_a_check_notices_one_wrong_element():
    for name, case in CASES.items():
        if not name.startswith("tile"):
            continue
        provider = case.build()[0]
        outputs = provider.run()
        outputs[0][0, 0] *= 2
        with pytest.raises(AssertionError):
            provider.check(outputs)


@pytest.mark.parametrize(
    ("model", "layers", "parameters"), [(pythia_410m, 24, 405_334_016), (llama_1b, 16, 1_235_814_400)]
)
def test_models_have_their_published_sizes(model, layers, parameters):
    """Pythia-410M and Llama-3.2-1B (tied head)."""
    assert sum(torch.Size(shape).numel() for shape, _, _ in model(layers, 1)) == parameters


def test_no_case_is_forgotten():
    """Every module of the package that makes cases is asked for them."""
    from pathlib import Path

    folder = Path(cases_package.__file__).parent
    modules = {path.stem for path in folder.glob("*.py") if "def cases(" in path.read_text()}
    assert modules == {module for module in vars(cases_package) if module in modules}

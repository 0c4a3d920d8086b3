"""Cases of the benchmark suite on tiny sources: declared work is what the buffers hold, and every provider is right."""

import importlib
import pkgutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import cases as cases_package
from benchmarks.case import COMPILED, OURS, OURS_OUT, Setting
from benchmarks.cases import all_cases
from benchmarks.cases.expand import product_shape
from benchmarks.cases.models import llama_1b, llama_8b, pythia_410m
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
        "tile_rules_": lambda outs, weights, specs, **__: (outs, weights),
        "replicate_": lambda outs, blocks, *_, **__: (outs, blocks),
        "mean_square": lambda tensors, **__: (tensors,),
        "tile": lambda weight, *_, **__: ([weight],),
        "expand_": lambda out, weights, *matrices, **_: ([out], weights, matrices[:3]),
        # With its gradients: that of the result is read, those of the matrices are written.
        "expand": lambda weights, *matrices, **_: (weights, matrices[:3], [m for m in matrices[:3] if m.requires_grad]),
    }.items():
        real = getattr(ops, op)

        def spy(*args, buffers=buffers, real=real, name=op, **kwargs):
            result = real(*args, **kwargs)
            returned = {"tile": 1, "expand": 1 + any(isinstance(a, torch.Tensor) and a.requires_grad for a in args)}
            counted(*buffers(*args, **kwargs), [result] * returned.get(name, 0))
            return result

        monkeypatch.setattr(ops, op, spy)
    provider = next(p for p in CASES[name].build() if p.name in (OURS_OUT, OURS))
    provider.run()
    # The form with SNR reads its source twice: once for the mean square.
    twice = CASES[name].work.bytes / 6 if "10 dB" in name else 0
    assert sum(moved) + twice == CASES[name].work.bytes


@pytest.mark.parametrize("name", CASES)
def test_a_check_notices_one_wrong_element(name):
    provider = CASES[name].build()[0]
    outputs = provider.run()
    first = outputs if isinstance(outputs, torch.Tensor) else outputs[0] if outputs else None
    if first is None:
        pytest.skip("what it wrote is not handed out; the check reads it where it lies")
    first.view(-1)[0] += 1
    with pytest.raises(AssertionError):
        provider.check(outputs)


@pytest.mark.parametrize(
    ("model", "layers", "parameters"),
    [(pythia_410m, 24, 405_334_016), (llama_1b, 16, 1_235_814_400), (llama_8b, 32, 8_030_261_248)],
)
def test_models_have_their_published_sizes(model, layers, parameters):
    """Pythia-410M, Llama-3.2-1B (tied head), Llama-3.1-8B."""
    assert sum(torch.Size(shape).numel() for shape, _, _ in model(layers, 1)) == parameters


def test_no_case_is_forgotten():
    """Every module of the package makes cases, and all of them are in the list."""
    for module in pkgutil.iter_modules(cases_package.__path__):
        made = [case.name for case in importlib.import_module(f"{cases_package.__name__}.{module.name}").cases(TINY)]
        assert made and set(made) <= set(CASES), module.name


@given(st.integers(2 * 64**3, 10**15), st.sampled_from([64, 256, 1024, 8192]))
def test_the_products_of_a_floor_have_the_operations_of_the_case(operations: int, largest: int) -> None:
    side, inner, count = product_shape(operations, largest)
    assert side <= largest
    assert abs(2 * side**2 * inner * count / operations - 1) <= 8 / (inner - 8)
    assert inner >= side / 2

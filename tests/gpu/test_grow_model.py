"""Whole models on a GPU: grown there, they have the bits of those grown on the CPU, and run."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import growkernels
from tests.families import FAMILIES, make_model
from tests.gpu.device import DEVICE
from tests.ops.tensors import assert_same_bits

pytestmark = [pytest.mark.usefixtures("cuda"), pytest.mark.filterwarnings("ignore")]

GROWTHS: dict[str, dict[str, Any]] = {
    "wide": {"width": 2},
    "three times as wide, diagonal": {"width": 3, "variant": "diagonal", "noise_snr_db": 20.0},
    "deep": {"depth": 2},
    "both, noise-free": {"width": 2, "depth": 2, "noise_snr_db": None},
}


def assert_same_state(actual: nn.Module, expected: nn.Module) -> None:
    """Equal names, and tensors of equal bits; all of `actual` on the GPU."""
    states = actual.state_dict(), expected.state_dict()
    assert list(states[0]) == list(states[1])
    for name, tensor in states[0].items():
        assert tensor.device.type == DEVICE.type, name
        if tensor.is_floating_point():
            assert_same_bits(tensor.cpu(), states[1][name])
        else:
            assert tensor.cpu().equal(states[1][name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_live_model_grows_as_on_the_cpu(family: str, growth: str, dtype: torch.dtype) -> None:
    model = make_model(family)[1].to(dtype)
    there = copy.deepcopy(model).to(DEVICE)
    growkernels.grow_model(model, **GROWTHS[growth])
    growkernels.grow_model(there, **GROWTHS[growth])
    assert_same_state(there, model)


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_grows_into_gpu_memory_as_on_the_cpu(family: str, growth: str, tmp_path: Path) -> None:
    make_model(family)[1].save_pretrained(tmp_path)
    there = growkernels.load_grown(tmp_path, device="cuda", **GROWTHS[growth])
    assert_same_state(there, growkernels.load_grown(tmp_path, device="cpu", **GROWTHS[growth]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_grown_model_computes_what_the_small_one_did(family: str) -> None:
    model = make_model(family)[1].to(DEVICE)
    tokens = torch.randint(3, 97, (2, 16), device=DEVICE)
    with torch.no_grad():
        before = model(tokens).logits
        growkernels.grow_model(model, width=2)
        after = model(tokens).logits
    # The bound to which verification holds a growth that keeps the function, in float32.
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()


def test_growth_in_place_needs_the_memory_of_the_grown_model() -> None:
    gc.collect()
    before = torch.cuda.memory_allocated()
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_key_value_heads": 4}
    model = make_model("llama", **sizes, num_hidden_layers=8, vocab_size=32_000)[1].to(torch.bfloat16).to(DEVICE)
    small = sum(p.nbytes for p in model.parameters())
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    growkernels.grow_model(model, width=2)
    torch.cuda.synchronize()
    grown = sum(p.nbytes for p in model.parameters())
    assert grown > 3 * small
    assert torch.cuda.max_memory_allocated() - before <= grown + (256 << 20)

"""Depth growth: every target layer is its source layer, bit for bit, and stock transformers runs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import growkernels
from growkernels.verification.logits import outputs
from tests.end_to_end.support import grown, load, saved, tokens
from tests.families import FAMILIES

LAYER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(first.view(torch.uint8), second.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("float32", "bfloat16"))
@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({"depth": 2}, (0, 1, 0, 1)),
        ({"depth": 2, "depth_operator": "interpolate"}, (0, 0, 1, 1)),
        ({"layers": "0,(0-1)*2,1"}, (0, 0, 1, 0, 1, 1)),
    ],
    ids=("gstack", "interpolate", "layers"),
)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_copies(
    family: str, options: dict, index: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    source = saved(tmp_path, family, dtype=dtype)
    target = grown(source, tmp_path / "target", **options)
    first, second = (load_file(source / "model.safetensors"), load_file(target / "model.safetensors"))
    seen = set()
    for name, value in second.items():
        layer = LAYER.search(name)
        origin = LAYER.sub(str(index[int(layer[0])]), name, count=1) if layer else name
        assert same_bits(value, first[origin]), name
        seen.add((origin, layer and int(layer[0])))
    layered = {name for name in first if LAYER.search(name)}
    assert seen == {(n, None) for n in first if n not in layered} | {
        (LAYER.sub(str(source_layer), name, count=1), layer)
        for name in layered
        for layer, source_layer in enumerate(index)
    }
    model = load(target)
    assert model.config.num_hidden_layers == len(index)
    assert all(torch.isfinite(value).all() for value in outputs(model, tokens(model)).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_width_and_depth_in_one_run_is_width_of_depth(family: str, tmp_path: Path) -> None:
    """Noise-free, the two commute: growing in one run, or in depth and then in width, gives the same bits."""
    source = saved(tmp_path, family)
    both = grown(source, tmp_path / "both", width=2, depth=2, noise_snr_db=None)
    deep = grown(source, tmp_path / "deep", depth=2)
    wide = grown(deep, tmp_path / "wide", width=2, noise_snr_db=None)
    first, second = (load_file(both / "model.safetensors"), load_file(wide / "model.safetensors"))
    assert first.keys() == second.keys()
    assert all(same_bits(first[name], second[name]) for name in first)
    assert (both / "config.json").read_text() == (wide / "config.json").read_text()


def test_depth_is_reported_and_not_judged(tmp_path: Path) -> None:
    report = growkernels.grow_checkpoint(saved(tmp_path, "llama"), tmp_path / "target", depth=2)
    logits = report.verification.logits
    assert logits is not None
    assert logits.passed
    assert all(c.bound is None and c.error > 0 for c in logits.comparisons)

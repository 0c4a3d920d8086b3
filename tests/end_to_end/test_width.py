"""Width growth of every family computes what its source computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from growkernels.verification.logits import compare, outputs
from tests.end_to_end.support import all_in_float64, grown, load, saved, tokens
from tests.families import FAMILIES, variants

SIZES = ({"width": 2}, {"width": 3}, {"ffn": 2})
NOISE = (None, 10.0)
STRUCTURES = ("symmetric", "diagonal")


def errors(source: Path, target: Path, dtype: torch.dtype) -> dict[str, float]:
    """Largest difference of every output over the source's largest value."""
    first, second = load(source, dtype), load(target, dtype)
    ids = tokens(first)
    if dtype == torch.float64:
        with all_in_float64():
            wanted, found = outputs(first, ids), outputs(second, ids)
    else:
        wanted, found = outputs(first, ids), outputs(second, ids)
    assert wanted.keys() == found.keys()
    assert wanted
    return {name: compare(name, dtype, wanted[name], found[name], None).error for name in wanted}


@pytest.mark.parametrize("noise", NOISE, ids=("clean", "noisy"))
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("size", SIZES, ids=("width2", "width3", "ffn2"))
@pytest.mark.parametrize("family", FAMILIES)
def test_function_is_preserved(
    family: str, size: dict[str, int], structure: str, noise: float | None, sources: Path, tmp_path: Path
) -> None:
    for dtype, most in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        source = saved(sources, family, dtype=dtype)
        target = grown(source, tmp_path / str(dtype), variant=structure, noise_snr_db=noise, **size)
        for name, error in errors(source, target, dtype).items():
            assert error <= most, (name, dtype)


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(("family", "variant"), [pair for pair in variants() if pair[1] != "plain"])
def test_variants_of_each_family(family: str, variant: str, structure: str, sources: Path, tmp_path: Path) -> None:
    source = saved(sources, family, variant, torch.float64)
    target = grown(source, tmp_path / "target", width=2, ffn=3, variant=structure)
    for name, error in errors(source, target, torch.float64).items():
        assert error <= 1e-12, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_copy_of_the_grown_model_is_the_same(family: str, sources: Path, tmp_path: Path) -> None:
    target = grown(saved(sources, family), tmp_path / "target", width=2)
    model = load(target)
    model.save_pretrained(tmp_path / "again")
    again = load(tmp_path / "again")
    ids = tokens(model)
    for name, value in outputs(model, ids).items():
        assert torch.equal(value, outputs(again, ids)[name]), name
    first, second = (load_file(target / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors"))
    assert all(torch.equal(first[name], value) for name, value in second.items())


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("llama", "tied"),
        ("qwen3", "tied"),
        ("gemma", "plain"),
        ("gpt2", "plain"),
        ("gpt_neox", "tied"),
        ("bert", "plain"),
    ],
)
def test_tied_models_stay_tied(family: str, variant: str, sources: Path, tmp_path: Path) -> None:
    target = grown(saved(sources, family, variant), tmp_path / "target", width=2, depth=2)
    model = load(target)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    names = load_file(target / "model.safetensors").keys()
    assert not [
        name for name in names if name in ("lm_head.weight", "embed_out.weight", "cls.predictions.decoder.weight")
    ]


@pytest.mark.parametrize(("family", "variant"), [("llama", "tied"), ("gemma", "plain"), ("gpt2", "plain")])
def test_untied_on_request(family: str, variant: str, sources: Path, tmp_path: Path) -> None:
    source = saved(sources, family, variant, torch.float64)
    target = grown(source, tmp_path / "target", width=2, untie=True)
    model = load(target, torch.float64)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    assert max(errors(source, target, torch.float64).values()) <= 1e-12

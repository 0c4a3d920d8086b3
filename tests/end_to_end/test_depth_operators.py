"""Depth operators end to end: what stock classes compute from the grown files, in float64, against the source's own modules."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

import growkernels
import tests.emulated  # noqa: F401  # registers its backend
from growkernels.errors import GrowthError
from growkernels.ops.backends import registry
from tests.cli.support import json_of, run, save_small
from tests.coverage.sweep import BOUND, Twin
from tests.end_to_end.support import saved

#: Twins with four layers, and what their class is told beside. Only BERT adds before it norms.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "gpt_neox": {},
    "gpt2": {},
    "qwen3": {},
    "gemma2": {},
    "bert@mlm": {},
}
PRE_NORM = [name for name in FAMILIES if not name.startswith("bert")]
#: Ending of every parameter that adds to the stream, and what its stored value is more than its gain.
WRITERS = {
    "llama": (r"(o_proj|down_proj)\.weight", 0.0),
    "llama tied": (r"(o_proj|down_proj)\.weight", 0.0),
    "gpt_neox": (r"(attention\.dense|dense_4h_to_h)\.(weight|bias)", 0.0),
    "gpt2": (r"c_proj\.(weight|bias)", 0.0),
    "qwen3": (r"(o_proj|down_proj)\.weight", 0.0),
    "gemma2": (r"post_(attention|feedforward)_layernorm\.weight", 1.0),
}


@pytest.fixture(scope="module")
def twin_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Twin]:
    """The twin of a family, made once."""
    made: dict[str, Twin] = {}

    def find(name: str) -> Twin:
        if name not in made:
            made[name] = Twin(name.partition(" ")[0], tmp_path_factory.mktemp("twin"), **FAMILIES[name])
        return made[name]

    return find


def against_own_layers(twin: Twin, change: Callable[[PreTrainedModel], None] | None = None, **options: Any) -> float:
    """The error of a growth against the source's own modules in the order of its plan, after a change of their values."""
    order = growkernels.plan(twin.source, **options).layer_index
    model = twin.grow("grown", **options)
    path = max((name for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList)), key=len)
    wanted = twin.rewired(model, (path,), ",".join(map(str, order)))
    if change is not None:
        change(wanted)
    return twin.error(twin.run(model), twin.run(wanted))


@pytest.mark.parametrize("options", [{"depth": 2}, {"num_layers": 5}, {"depth": 3, "block": 2}], ids=str)
@pytest.mark.parametrize("family", PRE_NORM)
def test_layers_between_change_nothing(family: str, options: dict[str, int], twin_of: Callable[[str], Twin]) -> None:
    assert twin_of(family).wider("grown", depth_operator="llama_pro", **options) <= BOUND


@pytest.mark.parametrize("family", PRE_NORM)
def test_layers_on_top_change_nothing(family: str, twin_of: Callable[[str], Twin]) -> None:
    twin = twin_of(family)
    assert twin.wider("grown", depth_operator="zero", num_layers=7) <= BOUND
    plan = growkernels.plan(twin.source, depth_operator="zero", num_layers=7)
    assert [claim.holds for claim in plan.claims] == ["exactly"]


@pytest.mark.parametrize("operator", ["hypercloning", "lemon", "zero", "net2net"])
@pytest.mark.parametrize("family", PRE_NORM)
def test_layers_change_nothing_in_a_model_that_grows_wider_at_once(
    family: str, operator: str, twin_of: Callable[[str], Twin]
) -> None:
    size = {"intermediate_size": 50} if operator == "net2net" else {"width": 2}
    options = {"width_operator": operator, "noise_snr_db": None, **size}
    assert twin_of(family).wider("both", depth_operator="llama_pro", num_layers=6, **options) <= BOUND


@pytest.mark.parametrize("family", PRE_NORM)
def test_layers_change_nothing_where_activations_are_tiny(
    family: str, twin_of: Callable[[str], Twin], tmp_path: Path
) -> None:
    """Embeddings times 1e-4: the eps of a norm is no longer small against what it norms."""
    small = Twin.__new__(Twin)
    small.__dict__.update(twin_of(family).__dict__, folder=tmp_path, source=tmp_path / "source")
    shutil.copytree(twin_of(family).source, small.source)
    file = small.source / "model.safetensors"
    tensors = {n: t * 1e-4 if re.search(r"embed|wte|wpe", n) else t for n, t in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    small.model = small.load(small.source)
    small.outputs = small.run(small.model)
    assert small.outputs.isfinite().all() and twin_of(family).error(small.outputs, twin_of(family).outputs) > 1e-3
    assert small.wider("grown", depth_operator="llama_pro", depth=2) <= BOUND


@pytest.mark.parametrize("operator", ["gstack", "interpolate", "solar", "midas", "lidas"])
@pytest.mark.parametrize("family", FAMILIES)
def test_copies_are_the_sources_own_layers(family: str, operator: str, twin_of: Callable[[str], Twin]) -> None:
    assert against_own_layers(twin_of(family), depth_operator=operator, num_layers=6) <= BOUND


@pytest.mark.parametrize("family", PRE_NORM)
def test_faded_copies_write_their_part(family: str, twin_of: Callable[[str], Twin]) -> None:
    ending, offset = WRITERS[family]

    @torch.no_grad()
    def halve(model: PreTrainedModel) -> None:
        for name, parameter in model.named_parameters():
            if re.search(ending, name) and re.search(r"\.\d+\.", name):
                parameter.copy_((parameter + offset) / 2 - offset)

    assert against_own_layers(twin_of(family), halve, depth_operator="interpolate", depth=2, fade=True) <= BOUND


def test_what_fade_leaves_is_of_second_order(twin_of: Callable[[str], Twin], tmp_path: Path) -> None:
    """Ten times smaller blocks leave a hundred times less, where plain copies leave ten times less."""

    def errors(gain: float) -> tuple[float, float]:
        twin = Twin.__new__(Twin)
        twin.__dict__.update(twin_of("llama").__dict__, folder=tmp_path, source=tmp_path / f"source {gain}")
        shutil.copytree(twin_of("llama").source, twin.source)
        file = twin.source / "model.safetensors"
        tensors = {n: t * gain if re.search(WRITERS["llama"][0], n) else t for n, t in load_file(file).items()}
        save_file(tensors, file, {"format": "pt"})
        twin.model = twin.load(twin.source)
        twin.outputs = twin.run(twin.model)
        plain, faded = ({"depth": 2, "depth_operator": "interpolate", "fade": fade} for fade in (False, True))
        return twin.wider("plain", **plain), twin.wider("faded", **faded)

    (plain, faded), (plain_small, faded_small) = errors(1e-2), errors(1e-3)
    assert plain / plain_small == pytest.approx(10, rel=0.2) and faded / faded_small == pytest.approx(100, rel=0.2)
    assert faded < plain / 10


@pytest.mark.parametrize("family", FAMILIES)
def test_random_layers_are_drawn_and_averages_are_means(family: str, twin_of: Callable[[str], Twin]) -> None:
    twin = twin_of(family)
    source = load_file(twin.source / "model.safetensors")
    for operator in ("random", "average"):
        model = twin.grow(operator, depth_operator=operator, num_layers=5)
        assert twin.run(model).isfinite().all()
    drawn, mean = (load_file(twin.folder / name / "model.safetensors") for name in ("random", "average"))
    # random: 0 * 1 2 3 with the new layer behind the cut; average: 0 1 2 3 and the mean of 3 and 2.
    for name, value in drawn.items():
        place = re.search(r"(?<=\.)\d+(?=\.)", name)
        if place is None or place[0] != "1":
            continue
        if value.ndim > 1:
            assert value.std() == pytest.approx(0.02, rel=0.2) and not value.eq(source[name]).any(), name
        else:
            bias, offset = name.endswith("bias"), family == "gemma2"
            assert value.eq(0.0 if bias or offset else 1.0).all(), name
    for name, value in mean.items():
        place = re.search(r"(?<=\.)\d+(?=\.)", name)
        if place is not None and place[0] == "4":
            last, before = (source[re.sub(r"(?<=\.)4(?=\.)", layer, name, count=1)] for layer in ("3", "2"))
            assert torch.equal(value, (last + before) / 2), name


@pytest.mark.parametrize(
    "options", [{"depth_operator": "llama_pro"}, {"depth_operator": "zero"}, {"fade": True}], ids=str
)
def test_bert_is_refused(options: dict[str, Any], twin_of: Callable[[str], Twin]) -> None:
    with pytest.raises(GrowthError, match="a norm follows every sum"):
        twin_of("bert@mlm").grow("refused", depth=2, **options)


GROWTHS: dict[str, dict[str, Any]] = {
    "identity": {"depth_operator": "llama_pro", "depth": 2},
    "faded": {"depth_operator": "interpolate", "depth": 3, "fade": True},
    "drawn": {"depth_operator": "random", "depth": 2, "seed": 3},
    "mean": {"depth_operator": "average", "depth": 2},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("growth", GROWTHS)
def test_every_backend_writes_the_same_bits(
    growth: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tmp_path, "llama", dtype=dtype)
    files = []
    for backend in ("eager", "cpu", "emulated"):
        monkeypatch.setattr(registry, "FORCED", backend)
        report = growkernels.grow_checkpoint(source, tmp_path / backend, verify_logits=False, **GROWTHS[growth])
        assert report.verification is not None and report.verification.passed
        files.append((tmp_path / backend / "model.safetensors").read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize(
    ("arguments", "keeps"),
    [
        (("--depth-operator", "llama_pro", "--depth", "2"), True),
        (("--depth-operator", "llama_pro", "--depth", "2", "--block", "2"), True),
        (("--depth-operator", "zero", "--num-layers", "3"), True),
        (("--depth-operator", "llama_pro", "--layers", "0,0,1"), True),
        (("--depth-operator", "solar", "--num-layers", "4"), False),
        (("--depth-operator", "midas", "--num-layers", "4", "--block", "2"), False),
        (("--depth-operator", "lidas", "--num-layers", "3"), False),
        (("--depth-operator", "random", "--depth", "2"), False),
        (("--depth-operator", "average", "--depth", "2"), False),
        (("--depth-operator", "interpolate", "--depth", "2", "--fade"), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands(arguments: tuple[str, ...], keeps: bool, tmp_path: Path) -> None:
    source = save_small(tmp_path / "source")
    result = run("grow", source, tmp_path / "target", *arguments, "--json", "--verify-logits")
    assert result.exit_code == 0, result.output
    found = json_of(result)
    assert found["summary"]["preserves_function"] is keeps
    errors = [comparison["error"] for comparison in found["verification"]["logits"]["comparisons"]]
    assert errors and all((error == 0) is keeps for error in errors)
    assert growkernels.verify(source, tmp_path / "target").passed


@pytest.mark.parametrize("growth", GROWTHS)
def test_models_in_memory_get_the_bits_of_files(growth: str, tmp_path: Path) -> None:
    source = saved(tmp_path, "gpt2")
    growkernels.grow_checkpoint(source, tmp_path / "grown", no_verify=True, **GROWTHS[growth])
    stock, small = (AutoModelForCausalLM.from_pretrained(path) for path in (tmp_path / "grown", source))
    wanted = stock.state_dict()
    live = growkernels.grow_model(small, **GROWTHS[growth])
    loaded = growkernels.load_grown(source, **GROWTHS[growth])
    for model in (live, loaded):
        assert model.state_dict().keys() == wanted.keys()
        assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())

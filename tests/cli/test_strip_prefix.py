"""A checkpoint whose names a wrapper has prefixed: named, and grown without the prefix on request, to the same bits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import growkernels
from growkernels import GrowthError
from tests.cli.support import json_of, run
from tests.families import make_model


def rename(src: Path, to: Path, change: Callable[[str], str]) -> Path:
    shutil.copytree(src, to)
    tensors = load_file(src / "model.safetensors")
    save_file({change(name): value for name, value in tensors.items()}, to / "model.safetensors", {"format": "pt"})
    return to


WRAPPED: dict[str, tuple[str, Callable[[str], str]]] = {
    "compiled": ("_orig_mod.", lambda name: f"_orig_mod.{name}"),
    "data parallel": ("module.", lambda name: f"module.{name}"),
    "both": ("module._orig_mod.", lambda name: f"module._orig_mod.{name}"),
    "compiled layers": ("_orig_mod.", lambda name: name.replace("layers.0.", "layers.0._orig_mod.")),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_plan_names_the_prefix_and_grow_leaves_it_out(src: Path, tmp_path: Path, case: str) -> None:
    prefix, change = WRAPPED[case]
    wrapped = rename(src, tmp_path / "wrapped", change)
    for command in (
        ["plan", wrapped, "--width", 2],
        ["inspect", wrapped],
        ["grow", wrapped, tmp_path / "no", "--width", 2],
    ):
        refused = run(*command, columns=300)
        assert (
            refused.exit_code == 2 and f"--strip-prefix {prefix} " in refused.stderr and "emove" not in refused.stderr
        )
    options = ["--strip-prefix", prefix]
    assert run("plan", wrapped, "--width", 2, *options).exit_code == 0
    assert run("inspect", wrapped, *options).exit_code == 0
    result = run("grow", wrapped, tmp_path / "dst", "--width", 2, "--verify-logits", "--json", *options)
    assert result.exit_code == 0, result.stderr
    assert json_of(result)["verification"]["logits"]["passed"]
    assert run("grow", src, tmp_path / "plain", "--width", 2).exit_code == 0
    plain, grown = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "dst"))
    assert plain.keys() == grown.keys() and all(torch.equal(plain[name], grown[name]) for name in plain)
    # The manifest remembers: no option is needed later.
    checked = run("verify", wrapped, tmp_path / "dst", "--verify-logits", "--json")
    assert checked.exit_code == 0 and json_of(checked)["logits"]["passed"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_loading_leaves_it_out_too(src: Path, tmp_path: Path) -> None:
    wrapped = rename(src, tmp_path / "wrapped", lambda name: f"module.{name}")
    model = growkernels.load_grown(wrapped, width=2, strip_prefix="module.")
    wanted = growkernels.load_grown(src, width=2)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), wanted.state_dict().values(), strict=True)
    )
    assert growkernels.plan(wrapped, width=2, strip_prefix="module.") == growkernels.plan(src, width=2)


def test_refusals_of_a_live_model_speak_of_it() -> None:
    """Whoever has a model in memory has no config.json, and no checkpoint to download again."""
    _, model = make_model("llama")
    model.model.layers[1] = torch.compile(model.model.layers[1])
    with pytest.raises(GrowthError, match=r"model\.layers\.1 of the model is wrapped by torch\.compile: put its"):
        growkernels.grow_model(model, depth=2)
    for spoil in (
        lambda model: model.model.layers.__delitem__(1),
        lambda model: setattr(model.model.layers[0].mlp, "extra", torch.nn.Linear(2, 2)),
        lambda model: setattr(model.model.layers[0].mlp, "up_proj", torch.nn.Linear(32, 8, bias=False)),
        lambda model: model.register_parameter("steps", torch.nn.Parameter(torch.tensor(3), requires_grad=False)),
        lambda model: setattr(model.model, "norm", torch.nn.Identity()),
        lambda model: setattr(model.config, "quantization_config", {"bits": 4}),
    ):
        _, model = make_model("llama")
        spoil(model)
        with pytest.raises(GrowthError) as refused:
            growkernels.grow_model(model, depth=2)
        text = str(refused.value)
        assert "checkpoint" not in text and "config.json" not in text and "download" not in text.lower(), text

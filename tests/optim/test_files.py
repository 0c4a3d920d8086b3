"""A Trainer's checkpoint grown whole: training that resumes from the grown folder goes on as the source's would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer
from transformers import AutoModelForCausalLM, PreTrainedModel

import growkernels
from growkernels.errors import GrowthError
from tests.families import make_model
from tests.optim.support import gap, quiet_growth, train
from tests.optim.test_groups import decayed

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NOISE_FREE: dict[str, Any] = {"noise_snr_db": None, "optimizer": True, "verify_logits": False}


def saved(folder: Path, make: Any, family: str = "llama", **variant: Any) -> tuple[PreTrainedModel, Optimizer]:
    """A model and an optimizer that were trained and saved as a Trainer saves them."""
    _, model = make_model(family, **variant)
    optimizer = make(model)
    train(model, optimizer, range(4))
    model.save_pretrained(folder)
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    for name in ("scheduler.pt", "rng_state.pth", "scaler.pt"):
        torch.save({"of": name}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 4}))
    return model, optimizer


MAKES: dict[str, Any] = {
    "the Trainer's groups": lambda m: AdamW(decayed(m, named=False), lr=1e-3),
    "names": lambda m: AdamW(decayed(m), lr=1e-3),
    "one group": lambda m: SGD(m.parameters(), lr=1e-2, momentum=0.9),
}


@pytest.mark.parametrize("options", [{"width": 2}, {"depth": 2}], ids=str)
@pytest.mark.parametrize("name", MAKES)
def test_a_grown_folder_holds_the_state_of_a_live_growth(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path / "small", MAKES[name])
    report = growkernels.grow_checkpoint(tmp_path / "small", tmp_path / "big", **NOISE_FREE, **options)
    found = torch.load(tmp_path / "big" / "optimizer.pt", weights_only=True)
    quiet_growth(model, optimizer, **options)
    wanted = optimizer.state_dict()
    assert found["param_groups"] == wanted["param_groups"]
    assert found["state"].keys() == wanted["state"].keys()
    for number, held in wanted["state"].items():
        assert all(torch.equal(value, found["state"][number][entry]) for entry, value in held.items())
    for carried in ("scheduler.pt", "rng_state.pth", "scaler.pt", "trainer_state.json"):
        assert (tmp_path / "big" / carried).read_bytes() == (tmp_path / "small" / carried).read_bytes()
        assert carried in report.side_files.copied and carried not in report.side_files.left
    # And an optimizer of the grown model goes on from it.
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "big")
    resumed = growkernels.optim.attach(MAKES[name](grown))
    resumed.load_state_dict(found)
    assert gap(train(grown, resumed, range(4, 8)), train(model, optimizer, range(4, 8))) < 1e-6


def test_a_state_that_was_grown_itself_grows_again(tmp_path: Path) -> None:
    model, optimizer = saved(tmp_path / "small", MAKES["the Trainer's groups"], "gpt2")
    growkernels.grow_checkpoint(tmp_path / "small", tmp_path / "wide", width=2, **NOISE_FREE)
    growkernels.grow_checkpoint(tmp_path / "wide", tmp_path / "wider", width=3, **NOISE_FREE)
    quiet_growth(model, optimizer, width=2)
    quiet_growth(model, optimizer, width=3)
    found = torch.load(tmp_path / "wider" / "optimizer.pt", weights_only=True)
    assert found["param_groups"] == optimizer.state_dict()["param_groups"]


def test_without_the_option_no_state_goes_along(tmp_path: Path) -> None:
    saved(tmp_path / "small", MAKES["one group"])
    report = growkernels.grow_checkpoint(tmp_path / "small", tmp_path / "big", width=2, verify_logits=False)
    assert not (tmp_path / "big" / "optimizer.pt").exists()
    assert "optimizer.pt" in report.side_files.left


def permuted(model: PreTrainedModel) -> AdamW:
    return AdamW(list(model.parameters())[::-1])


def ambiguous(model: PreTrainedModel) -> AdamW:
    """Two groups: the Trainer's decays the embedding of positions, which the other way does too; equal sizes, other names."""
    named = list(model.named_parameters())
    return AdamW([{"params": [p for _, p in named[:3]]}, {"params": [p for _, p in named[3:]]}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (permuted, r"parameters in 1 groups of .*optimizer\.pt fit no way in which groups are made"),
        (ambiguous, "in 2 groups of .* fit no way"),
    ],
)
def test_parameters_without_sure_names_are_refused(make: Any, message: str, tmp_path: Path) -> None:
    saved(tmp_path / "small", make)
    with pytest.raises(GrowthError, match=message):
        growkernels.grow_checkpoint(tmp_path / "small", tmp_path / "big", width=2, **NOISE_FREE)
    assert not (tmp_path / "big").exists()


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "small", MAKES["one group"])
    file = tmp_path / "small" / "optimizer.pt"
    for content, message in (
        ({"param_groups": []}, "is not the state of an optimizer"),
        (AdamW, "cannot be read safely"),
        (
            {"state": {}, "param_groups": [{"lr": 1.0, "zeal": 2.0, "params": [0]}]},
            r"not recognized by its options \(lr, zeal\)",
        ),
    ):
        torch.save(content, file)
        with pytest.raises(GrowthError, match=message):
            growkernels.grow_checkpoint(tmp_path / "small", tmp_path / "big", width=2, **NOISE_FREE)
    file.unlink()
    with pytest.raises(GrowthError, match=r"optimizer\.pt is not there: --optimizer grows the state"):
        growkernels.grow_checkpoint(tmp_path / "small", tmp_path / "big", width=2, **NOISE_FREE)
    assert not (tmp_path / "big").exists()


def test_learned_growth_has_no_rule_for_the_state(tmp_path: Path) -> None:
    saved(tmp_path / "small", MAKES["one group"])
    with pytest.raises(GrowthError, match="learned growth has no rule for the optimizer's state"):
        growkernels.grow_checkpoint(
            tmp_path / "small", tmp_path / "big", width=2, width_operator="ligo", optimizer=True, verify_logits=False
        )

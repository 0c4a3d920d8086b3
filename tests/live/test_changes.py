"""Models that were changed in ways of torch are refused by name, with the way back; after it they grow."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from transformers import PreTrainedModel

import growkernels
from growkernels import GrowthError
from tests.families import make_model
from tests.live.support import Untouched

Change = Callable[[PreTrainedModel], object]


def projection(model: PreTrainedModel) -> nn.Module:
    return model.model.layers[1].mlp.up_proj


def share(model: PreTrainedModel) -> None:
    model.model.layers[1] = model.model.layers[0]


def own(model: PreTrainedModel) -> None:
    model.model.layers[1] = deepcopy(model.model.layers[0])


def empty(model: PreTrainedModel) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.new_empty(0)


CHANGES: dict[str, tuple[Change, str, Change | None]] = {
    "pruned": (
        lambda model: prune.l1_unstructured(projection(model), "weight", 0.5),
        r"layers\.1\.mlp\.up_proj\.weight is pruned.*prune\.remove\(module, 'weight'\)",
        lambda model: prune.remove(projection(model), "weight"),
    ),
    "parametrized": (
        lambda model: parametrizations.weight_norm(projection(model)),
        r"up_proj\.weight is parametrized.*remove_parametrizations\(module, 'weight'\)",
        lambda model: parametrize.remove_parametrizations(projection(model), "weight"),
    ),
    "shared": (share, r"model\.layers\.1 and model\.layers\.0 are one module.*copy\.deepcopy", own),
    "empty": (empty, r"embed_tokens\.weight is empty.*ZeRO-3.*GatheredParameters", None),
    "quantized": (
        lambda model: torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, inplace=True),
        r"q_proj is quantized.*grow the model before it is quantized",
        None,
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", CHANGES)
def test_changed_models_are_refused_with_the_way_back(change: str) -> None:
    make, message, undo = CHANGES[change]
    _, model = make_model("llama")
    make(model)
    before = Untouched(model)
    with pytest.raises(GrowthError, match=message) as refused:
        growkernels.grow_model(model, width=2)
    before.check()
    assert "checkpoint" not in str(refused.value)
    if undo is not None:
        undo(model)
        growkernels.grow_model(model, width=2)
        assert model.config.hidden_size == 64

"""What of a live model stays itself: objects, memory, and everything that does not follow from the config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import growkernels
from growkernels.verification.logits import outputs
from tests.end_to_end.support import tokens
from tests.families import FAMILIES, make_model
from tests.live.support import assert_same_bits

#: What plans warn of is tested with the plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def layers(model: nn.Module) -> nn.ModuleList:
    """The stack of layers."""
    return next(module for module in model.modules() if isinstance(module, nn.ModuleList))


@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({"depth": 2}, (0, 1, 0, 1)),
        ({"depth": 2, "depth_operator": "interpolate"}, (0, 0, 1, 1)),
        ({"layers": "1,1,0,1"}, (1, 1, 0, 1)),
    ],
    ids=("gstack", "interpolate", "layers"),
)
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_keep_their_modules_parameters_and_memory(
    family: str, options: dict[str, Any], index: tuple[int, ...]
) -> None:
    _, model = make_model(family)
    old = list(layers(model))
    values = [{name: p.detach().clone() for name, p in layer.named_parameters()} for layer in old]
    memory = [{name: (p, p.data_ptr()) for name, p in layer.named_parameters()} for layer in old]
    inside = {id(parameter) for layer in old for parameter in layer.parameters()}
    outside = {name: (p, p.data_ptr()) for name, p in model.named_parameters() if id(p) not in inside}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    growkernels.grow_model(model, **options)
    assert all(parameter.grad is None for parameter in model.parameters())
    seen: set[int] = set()
    pointers = set()
    for place, source in enumerate(index):
        layer = layers(model)[place]
        first = source not in seen
        seen.add(source)
        assert (layer is old[source]) == first
        for name, parameter in layer.named_parameters():
            old_parameter, pointer = memory[source][name]
            assert (parameter is old_parameter) == first and (parameter.data_ptr() == pointer) == first, name
            assert_same_bits(parameter, values[source][name], name)
            assert parameter.data_ptr() not in pointers
            pointers.add(parameter.data_ptr())
    now = dict(model.named_parameters())
    assert all(now[name] is parameter and parameter.data_ptr() == at for name, (parameter, at) in outside.items())


def test_modules_stay_in_width_growth_and_old_parameters_are_emptied() -> None:
    _, model = make_model("qwen3")
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    growkernels.grow_model(model, width=2)
    assert dict(model.named_modules()) == modules
    for name, parameter in model.named_parameters():
        if "q_norm" in name or "k_norm" in name:  # one weight for each feature of a head: they do not change
            assert parameter is parameters[name]
        else:
            assert parameter is not parameters[name] and parameters[name].numel() == 0, name


def test_an_old_optimizer_moves_nothing_and_a_new_one_trains_while_the_old_loss_lives() -> None:
    _, model = make_model("llama")
    ids = tokens(model)
    old = torch.optim.AdamW(model.parameters(), lr=0.01)
    loss = model(ids, labels=ids).loss
    loss.backward()
    growkernels.grow_model(model, width=2, depth=2)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(p.grad is None for group in old.param_groups for p in group["params"])
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    old.step()
    for name, parameter in model.named_parameters():
        assert_same_bits(parameter, before[name], name)
    new = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        new.zero_grad()
        step = model(ids, labels=ids).loss
        step.backward()
        new.step()
        losses.append(step.item())
    assert losses[2] < losses[1] < losses[0] and loss.item() > 0


def test_modes_dropout_and_frozen_parameters() -> None:
    _, model = make_model("gpt2")
    model.train()
    model.transformer.h[1].eval()
    model.transformer.h[0].attn.attn_dropout.p = 0.25
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "h.1.mlp" not in name and "wpe" not in name
    growkernels.grow_model(model, width=2, depth=2)
    blocks = model.transformer.h
    assert model.training and [block.training for block in blocks] == [True, False, True, False]
    assert not blocks[3].mlp.training and blocks[2].mlp.training
    assert [block.attn.attn_dropout.p for block in blocks] == [0.25, 0.1, 0.25, 0.1]
    for name, parameter in model.named_parameters():
        frozen = "h.1.mlp" in name or "h.3.mlp" in name or "wpe" in name
        assert parameter.requires_grad != frozen, name


def test_gradient_checkpointing_goes_on_in_copies() -> None:
    _, model = make_model("llama")
    model.gradient_checkpointing_enable(every_n_layers=2)
    model.train()
    growkernels.grow_model(model, depth=2)
    assert [layer.gradient_checkpointing for layer in layers(model)] == [True, False, True, False]
    ids = tokens(model)
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.gradient_checkpointing_disable()
    assert not any(layer.gradient_checkpointing for layer in layers(model))


def test_hooks_stay_on_their_modules_and_copies_have_none() -> None:
    _, model = make_model("llama")
    calls: list[str] = []
    handle = layers(model)[0].register_forward_hook(lambda *_: calls.append("layer"))
    model.register_forward_pre_hook(lambda *_: calls.append("model"))
    growkernels.grow_model(model, width=2, depth=2)
    model(tokens(model))
    assert calls == ["model", "layer"]
    handle.remove()
    model(tokens(model))
    assert calls == ["model", "layer", "model"]


def test_hidden_states_of_copies_are_returned_where_they_were_asked_for_before() -> None:
    _, model = make_model("llama")
    ids = tokens(model)
    assert len(model(ids, output_hidden_states=True).hidden_states) == 3
    growkernels.grow_model(model, depth=2)
    assert len(model(ids, output_hidden_states=True).hidden_states) == 5


def test_the_config_is_a_new_object_with_what_was_set_on_the_old() -> None:
    _, model = make_model("llama")
    old, generation = model.config, model.generation_config
    model.set_attn_implementation("eager")
    old.use_cache = False
    old.name_or_path = "somewhere"
    generation.max_new_tokens = 7
    growkernels.grow_model(model, width=2, depth=2)
    assert (old.hidden_size, old.num_hidden_layers) == (32, 2)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (64, 4)
    assert model.config._attn_implementation == "eager" and not model.config.use_cache
    assert model.config.name_or_path == "somewhere" and model.generation_config is generation
    assert {id(module.config) for module in model.modules() if hasattr(module, "config")} == {id(model.config)}
    assert [layer.self_attn.layer_idx for layer in layers(model)] == [0, 1, 2, 3]


def test_attributes_and_modules_of_ones_own() -> None:
    _, model = make_model("llama")
    model.run_name, model.callbacks = "run 7", [print]
    model.model.meter = nn.Identity()
    model.model.register_buffer("seen", torch.tensor([3, 4]), persistent=False)
    growkernels.grow_model(model, width=2, depth=2)
    assert model.run_name == "run 7" and model.callbacks == [print]
    assert isinstance(model.model.meter, nn.Identity) and model.model.seen.tolist() == [3, 4]


def test_buffers_keep_what_was_done_to_them_unless_the_config_decides() -> None:
    _, model = make_model("gemma")
    model.bfloat16()
    rotary = model.model.rotary_emb.inv_freq
    rotary.mul_(0.5)
    growkernels.grow_model(model, width=2, depth=2)
    assert model.model.rotary_emb.inv_freq is rotary
    scale = model.model.embed_tokens.embed_scale
    assert scale.dtype == torch.bfloat16 and float(scale) == 8.0


@pytest.mark.slow
def test_a_compiled_forward_is_compiled_again() -> None:
    _, model = make_model("llama")
    compiled: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled.append(len(inputs))
        return graph.forward

    ids = tokens(model)
    model.compile(backend=backend)
    before = outputs(model, ids)["logits"]
    with pytest.raises(growkernels.GrowthError, match=r"is not the model but torch\.compile: grow its \._orig_mod"):
        growkernels.grow_model(torch.compile(model, backend=backend), width=2)
    growkernels.grow_model(model, width=2)
    count = len(compiled)
    after = outputs(model, ids)["logits"]
    assert len(compiled) > count
    assert (after - before).abs().max() <= 1e-4 * before.abs().max()

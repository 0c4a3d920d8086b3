"""Random small architectures and optimizers: a growth in width without noise goes on as the source."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, Optimizer
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tests.optim.lion import Lion
from tests.optim.support import gap, quiet_growth, train

#: Options that keep a training of few steps far from chaos.
OPTIMIZERS: dict[str, Any] = {
    "AdamW": lambda ps: AdamW(ps, lr=1e-3, weight_decay=0.1),
    "AdamW amsgrad": lambda ps: AdamW(ps, lr=1e-3, amsgrad=True),
    "Adam": lambda ps: Adam(ps, lr=1e-3, weight_decay=0.01),
    "Adamax": lambda ps: Adamax(ps, lr=1e-3, weight_decay=0.01),
    "Adagrad": lambda ps: Adagrad(ps, lr=1e-2),
    "SGD": lambda ps: SGD(ps, lr=1e-2, momentum=0.9, weight_decay=0.01),
    "SGD dampened": lambda ps: SGD(ps, lr=1e-2, momentum=0.5, dampening=0.3),
    "Lion": lambda ps: Lion(ps, lr=1e-4, weight_decay=0.1),
}


@st.composite
def models(draw: st.DrawFn) -> PreTrainedModel:
    heads, kv = draw(st.sampled_from([(1, 1), (2, 1), (2, 2), (4, 2), (6, 3)]))
    layers, tied, vocab, size = draw(st.integers(1, 2)), draw(st.booleans()), 97, 4
    torch.manual_seed(draw(st.integers(0, 9)))
    if draw(st.booleans()):
        inner = draw(st.sampled_from([None, 12]))
        config = GPT2Config(
            vocab_size=vocab,
            n_embd=heads * size,
            n_head=heads,
            n_layer=layers,
            n_inner=inner,
            n_positions=16,
            tie_word_embeddings=tied,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
        )
        model: PreTrainedModel = GPT2LMHeadModel(config)
    else:
        bias = draw(st.booleans())
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab,
                hidden_size=heads * size,
                num_attention_heads=heads,
                num_key_value_heads=kv,
                intermediate_size=draw(st.sampled_from([8, 20])),
                num_hidden_layers=layers,
                mlp_bias=bias,
                max_position_embeddings=16,
                tie_word_embeddings=tied,
            )
        )
    return model.double()


def grouped(model: nn.Module, make: Any, groups: int) -> Optimizer:
    """Parameters dealt to groups with learning rates of their own."""
    optimizer: Optimizer = make([{"params": list(model.parameters())[number::groups]} for number in range(groups)])
    for number, group in enumerate(optimizer.param_groups):
        group["lr"] *= 1 + number
    return optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=5, phases=[Phase.generate])
@given(data=st.data())
def test_random_models_go_on(name: str, data: st.DataObject) -> None:
    model = data.draw(models())
    options: dict[str, Any] = {"width": data.draw(st.integers(2, 4))}
    # Not with L2 that Adam divides, nor with a single key and value head: the table says so.
    several = getattr(model.config, "num_key_value_heads", 2) > 1 or model.config.num_attention_heads == 1
    if name not in ("Adam", "Adamax") and several and data.draw(st.booleans()):
        options["variant"] = "diagonal"
    groups, before = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3))
    twin = type(model)(model.config).double()
    twin.load_state_dict(model.state_dict())
    optimizer, its = (grouped(one, OPTIMIZERS[name], groups) for one in (model, twin))
    train(model, optimizer, range(before))
    train(twin, its, range(before))
    quiet_growth(model, optimizer, **options)
    after = range(before, before + 4)
    # Four steps of sums of up to some hundred products in another order: far less than 1e-11 in float64.
    assert gap(train(model, optimizer, after), train(twin, its, after)) < 1e-11

"""Moments entry by entry: those of a model grown late are those of one grown at once; and what begins without a source."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim import AdamW
from transformers import GPTBigCodeConfig, GPTBigCodeForCausalLM

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.optim.kinds import Entry
from growkernels.optim.moments import correct_runs, moment_rule
from growkernels.optim.scales import scales
from growkernels.plans import IndexVector, Rule, Segment, TensorSpec, Tile
from tests.families import make_model
from tests.optim.support import double, quiet_growth, train

#: Two sums of the same products in another order, over 12 steps of float64: thousands of roundings of 1e-16 at most.
BOUND = 1e-12


def adamw(model: torch.nn.Module) -> AdamW:
    return AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


@pytest.mark.parametrize(
    ("family", "variant", "options"),
    [
        ("llama", {"attention_bias": True}, {"width": 2}),
        ("llama", {"tie_word_embeddings": True}, {"width": 3}),
        ("llama", {"num_key_value_heads": 1}, {"width": 2, "ffn": 4}),
        ("gpt2", {}, {"width": 2, "variant": "diagonal"}),
        ("gpt_neox", {}, {"width": 2}),
    ],
    ids=str,
)
def test_moments_are_those_of_a_model_that_was_grown_at_once(
    family: str, variant: dict[str, Any], options: dict[str, Any]
) -> None:
    late, early = double(family, **variant), double(family, **variant)
    optimizers = adamw(late), adamw(early)
    train(late, optimizers[0], range(12))
    quiet_growth(late, optimizers[0], **options)
    quiet_growth(early, optimizers[1], **options)
    train(early, optimizers[1], range(12))
    compared = 0
    for (name, a), b in zip(late.named_parameters(), early.parameters(), strict=True):
        for entry in ("exp_avg", "exp_avg_sq"):
            found, wanted = optimizers[0].state[a][entry], optimizers[1].state[b][entry]
            largest = float(wanted.abs().max())
            if largest > 1e-12:  # the gradient of key biases is zero, and its rounding noise has no copies
                compared += 1
                assert float((found - wanted).abs().max()) < BOUND * largest, (name, entry)
    assert compared > 20


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"intermediate_size": 90, "width_operator": "net2net"}),
        ("qwen3", {"num_heads": 6, "num_kv_heads": 3, "width_operator": "net2net"}),
        ("llama", {"hidden_size": 40, "width_operator": "net2net"}),
    ],
    ids=str,
)
def test_first_moments_of_uneven_copies_are_their_gradients(family: str, options: dict[str, Any]) -> None:
    """One step from nothing: moments grown from the source's are a tenth of the grown model's own gradients."""
    late, early = double(family, head_dim=8), double(family, head_dim=8)
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.9)) for model in (late, early)]
    train(late, optimizers[0], range(1))
    quiet_growth(late, optimizers[0], **options)
    quiet_growth(early, optimizers[1], **options)
    train(early, optimizers[1], range(1))
    for (name, a), b in zip(late.named_parameters(), early.parameters(), strict=True):
        for entry in ("exp_avg", "exp_avg_sq"):
            found, wanted = optimizers[0].state[a][entry], optimizers[1].state[b][entry]
            largest = float(wanted.abs().max())
            assert float((found - wanted).abs().max()) < BOUND * largest, (name, entry)


def test_an_asymmetric_state_keeps_the_first_copies() -> None:
    _, model = make_model("llama")
    optimizer = adamw(model)
    train(model, optimizer, range(4))
    old = {name: optimizer.state[p] for name, p in model.named_parameters()}
    quiet_growth(model, optimizer, width=2, state="asymmetric")
    held = optimizer.state[model.model.layers[0].mlp.up_proj.weight]
    source = old["model.layers.0.mlp.up_proj.weight"]
    # c = 1/2, K = 4, so that s = 1/2: powers of two, and every product is exact.
    rows, columns = source["exp_avg"].shape
    assert torch.equal(held["exp_avg"][:rows, :columns], source["exp_avg"] / 2)
    assert torch.equal(held["exp_avg_sq"][:rows, :columns], source["exp_avg_sq"] / 4)
    for new in (held["exp_avg"][rows:], held["exp_avg"][:, columns:]):
        assert not new.any()
    mean = source["exp_avg_sq"].double().mean() / 4
    for new in (held["exp_avg_sq"][rows:], held["exp_avg_sq"][:, columns:]):
        torch.testing.assert_close(new, mean.float().expand_as(new), rtol=1e-6, atol=0)


def test_no_entry_of_an_asymmetric_state_moves_too_far() -> None:
    """Zero second moments under a running step would move it 6.5 learning rates at once."""
    _, model = make_model("llama")
    optimizer = AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0)
    for _ in range(2000):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    optimizer.zero_grad()
    quiet_growth(model, optimizer, width=2, state="asymmetric", multipliers=None)
    largest = 0.0
    for _ in range(50):
        before = [p.detach().clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.full_like(p, 0.5)  # s = 1/2 of most tensors
        optimizer.step()
        moved = [float((p - old).abs().max()) for p, old in zip(model.parameters(), before, strict=True)]
        names = [name for name, _ in model.named_parameters()]
        largest = max([largest, *(m for m, name in zip(moved, names, strict=True) if "proj" in name)])
    assert largest <= 1.1e-3


def test_parts_with_fewer_copies_have_larger_moments() -> None:
    """A fused projection of a model with one key and value head: queries are copied, key and value are not."""
    config = GPTBigCodeConfig(n_embd=32, n_layer=1, n_head=4, n_positions=64, vocab_size=97, multi_query=True)
    model = GPTBigCodeForCausalLM(config)
    optimizer = adamw(model)
    train(model, optimizer, range(3))
    attention = model.transformer.h[0].attn
    held = optimizer.state[attention.c_attn.weight]
    first, second = held["exp_avg"].clone(), held["exp_avg_sq"].clone()
    quiet_growth(model, optimizer, width=2)
    held = optimizer.state[attention.c_attn.weight]
    # Two copies of the columns divided by two; of the rows two where they are queries (s = 1/2), one elsewhere (s = 1).
    query, other = first[:32], first[32:]
    wanted = torch.cat([query / 2, query / 2, other])
    assert torch.equal(held["exp_avg"], torch.cat([wanted, wanted], 1))
    query, other = second[:32], second[32:]
    wanted = torch.cat([query / 4, query / 4, other])
    assert torch.equal(held["exp_avg_sq"], torch.cat([wanted, wanted], 1))


def test_learned_growth_begins_fresh_and_takes_moments_by_least_squares_on_request() -> None:
    learned: dict[str, Any] = {"width": 2, "width_operator": "ligo", "init_noise": 0.0}
    _, model = make_model("llama")
    optimizer = adamw(model)
    train(model, optimizer, range(3))
    quiet_growth(model, optimizer, **learned)
    assert not optimizer.state
    train(model, optimizer, range(3, 5))
    _, model = make_model("llama")
    optimizer = adamw(model)
    train(model, optimizer, range(3))
    up = "model.layers.0.mlp.up_proj.weight"
    old = optimizer.state[model.get_parameter(up)]
    quiet_growth(model, optimizer, state="grow", **learned)
    held = optimizer.state[model.get_parameter(up)]
    # Its matrices begin as copies, for which the rule of copies is s = 1/2: exact up to the roundings of three products.
    wide = old["exp_avg"].repeat(2, 2) / 2
    torch.testing.assert_close(held["exp_avg"], wide, rtol=1e-5, atol=1e-6 * float(wide.abs().max()))
    # The squares of the entries add over copies: one of them each.
    wide = old["exp_avg_sq"].repeat(2, 2) / 4
    torch.testing.assert_close(held["exp_avg_sq"], wide, rtol=1e-5, atol=1e-6 * float(wide.abs().max()))
    assert torch.equal(held["step"], old["step"])
    train(model, optimizer, range(3, 5))


def test_factored_moments_have_no_rule_under_learned_growth() -> None:
    _, model = make_model("llama")
    optimizer = torch.optim.Adafactor(model.parameters())
    train(model, optimizer, range(1))
    with pytest.raises(GrowthError, match="no rule under learned growth"):
        quiet_growth(model, optimizer, width=2, width_operator="ligo", state="grow")


def test_features_with_different_numbers_of_copies_share_out_their_moments() -> None:
    """Columns are divided by their copies, as in Net2Net: every copy of a row then has its share of the gradient."""
    columns = IndexVector((Segment(0, 1), Segment(1, 1), Segment(0, 1)))
    tile = Tile((IndexVector.gather([0, 1, 2, 0]), columns), sum_axis=1, divisors=((), (2.0, 1.0, 2.0)))
    rule = Rule("new", ("old",), TensorSpec((4, 3), "float64"), tile)
    moment = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = scales(rule)
    assert not found.is_even
    for power in (1, 2):
        made = moment_rule(rule, Entry(power), "m of {}", "float64", 0.0, False)
        assert made is not None and isinstance(made.how, Tile)
        grown = torch.full((4, 3), torch.nan, dtype=torch.float64)
        ops.tile_rules_([grown], [moment], [made.how])
        correct_runs(rule, Entry(power), grown)
        share = torch.tensor([0.5, 1.0, 1.0, 0.5], dtype=torch.float64).unsqueeze(1) ** power
        wanted = moment[[0, 1, 2, 0]][:, [0, 1, 0]] * share
        assert torch.equal(grown, wanted)

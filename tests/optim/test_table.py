"""The table says what a growth will do to every tensor's options, and what is not exact; growths then do that."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from torch.optim import SGD, Adafactor, Adam, AdamW, Muon

import growkernels
from growkernels.optim import table
from tests.families import make_model
from tests.optim.support import quiet_growth, train


def plan(tmp_path: Path, model_options: dict[str, Any], **options: Any) -> growkernels.Plan:
    _, model = make_model("llama", **model_options)
    model.save_pretrained(tmp_path)
    return growkernels.plan(tmp_path, **{"noise_snr_db": None, **options})


def test_rows_hold_the_scales_and_the_factors(tmp_path: Path) -> None:
    _, model = make_model("llama", tie_word_embeddings=True)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    train(model, optimizer, range(1))
    found = table(plan(tmp_path, {"tie_word_embeddings": True}, width=3), optimizer)
    assert found.exact and str(found).endswith("exact")
    rows = {row.name: row for row in found.rows}
    q = rows["model.layers.0.self_attn.q_proj.weight"]
    assert (q.c, q.copies, q.s) == (1 / 3, 9, 1 / 3)
    assert q.factors == {"lr": 1 / 3, "weight_decay": 3.0, "eps": 1 / 3}
    # A tied head: the norm before it takes the division, the embedding none.
    assert (rows["model.norm.weight"].c, rows["model.norm.weight"].s) == (1 / 3, 1.0)
    assert (rows["model.embed_tokens.weight"].c, rows["model.embed_tokens.weight"].s) == (1.0, 1 / 3)
    quiet_growth(model, optimizer, width=3)
    record = optimizer.param_groups[0]["growkernels"]
    names = [name for name, _ in model.named_parameters()]
    for option in ("lr", "weight_decay", "eps"):
        assert record[option] == [rows[name].factors[option] for name in names]


@pytest.mark.parametrize(
    ("options", "variant", "make", "reason"),
    [
        ({"depth": 2}, {}, AdamW, "not exact: "),
        ({"width": 2, "noise_snr_db": 10.0}, {}, AdamW, "noise makes the copies differ"),
        (
            {"width": 2, "untie": True},
            {"tie_word_embeddings": True},
            AdamW,
            "the untied head and the embedding get gradients",
        ),
        ({"width": 2, "variant": "diagonal"}, {}, Adafactor, "training fills the zero blocks"),
        ({"width": 2, "variant": "diagonal"}, {}, lambda ps: Adam(ps, weight_decay=0.1), "L2 pulls at the blocks"),
        ({"width": 2, "variant": "diagonal"}, {"num_key_value_heads": 1}, AdamW, "k_proj.weight reads some copies"),
        ({"width": 2, "ffn": 4, "variant": "diagonal"}, {}, AdamW, "down_proj.weight reads some copies"),
        ({"width": 2}, {}, lambda ps: Muon([p for p in ps if p.ndim == 2]), "Newton-Schulz steps run in bfloat16"),
        ({"depth": 2, "depth_operator": "llama_pro"}, {}, SGD, "new entries have gradients of their own"),
    ],
)
def test_what_is_not_exact_is_said(
    options: dict[str, Any], variant: dict[str, Any], make: Any, reason: str, tmp_path: Path
) -> None:
    _, model = make_model("llama", **variant)
    found = table(plan(tmp_path, variant, **options), make(list(model.parameters())))
    assert not found.exact
    assert reason in str(found)


def test_the_range_of_the_factors_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    _, model = make_model("llama")
    optimizer = AdamW(model.parameters(), lr=1e-3)
    with caplog.at_level(logging.INFO, "growkernels"):
        quiet_growth(model, optimizer, width=2)
    [record] = [r for r in caplog.records if r.name == "growkernels"]
    assert record.getMessage() == (
        "AdamW steps with factors of its options: lr times 0.5 to 1, weight_decay times 1 to 2, eps times 0.5 to 1"
    )

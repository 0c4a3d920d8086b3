"""Small models of two families, trained here: what they have learned is there after growth."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import Gemma2Config, Gemma2ForCausalLM, MixtralConfig, MixtralForCausalLM, PreTrainedModel

from growkernels import grow_checkpoint

_SIZES = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
#: Experts chosen by a router, which a file holds one by one; norms around blocks, a tied head and capped logits.
_MODELS = {
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**_SIZES, num_local_experts=4, num_experts_per_tok=2)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**_SIZES, query_pre_attn_scalar=12, sliding_window=16)),
}
_LENGTH = 32


def _text() -> torch.Tensor:
    """The license of this project as ids below 96."""
    text = (Path(__file__).parents[2] / "LICENSE").read_text()
    return torch.tensor([min(max(ord(letter) - 32, 0), 95) for letter in text])


def _loss(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=tokens[:, :-1]).logits
    return cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def _held_out(text: torch.Tensor) -> torch.Tensor:
    return text[-16 * _LENGTH :].view(16, _LENGTH)


def _train(kind: str, steps: int) -> PreTrainedModel:
    torch.manual_seed(0)
    model, text = _MODELS[kind](), _text()[: -16 * _LENGTH]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        starts = torch.randint(len(text) - _LENGTH, (16, 1), generator=generator)
        optimizer.zero_grad()
        _loss(model, text[starts + torch.arange(_LENGTH)]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize(("kind", "steps"), [("mixtral", 60), pytest.param("gemma2", 120, marks=pytest.mark.slow)])
def test_what_a_model_has_learned_is_kept(kind, steps, tmp_path):
    model, tokens = _train(kind, steps), _held_out(_text())
    model.save_pretrained(tmp_path / "source")
    with torch.inference_mode():
        wanted = model(input_ids=tokens).logits
        learned = float(_loss(model, tokens))
    assert learned < math.log(96) - 1.5, "the source must have learned something"
    for options in ({"width": 2}, {"width": 3, "noise_snr_db": None}, {"width": 2, "ffn": 3}):
        report = grow_checkpoint(tmp_path / "source", tmp_path / "grown", overwrite=True, **options)
        assert report.verification.passed and report.verification.logits.comparisons
        grown = type(model).from_pretrained(tmp_path / "grown")
        with torch.inference_mode():
            got = grown(input_ids=tokens).logits
            # Over a thousand roundings of 2^-24 in a row.
            assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-4
            assert abs(float(_loss(grown, tokens)) - learned) < 1e-4 * learned
    # An order of layers that the model was not trained with is another function, which still knows most of it.
    grow_checkpoint(tmp_path / "source", tmp_path / "grown", overwrite=True, layers="0,1,1")
    with torch.inference_mode():
        deeper = float(_loss(type(model).from_pretrained(tmp_path / "grown"), tokens))
    assert deeper != learned and deeper < learned + 0.5

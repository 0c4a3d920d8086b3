"""A small model that is trained, its clones with and without noise, those trained on, and one from scratch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import growkernels

VOCABULARY = 64


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny models: more threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def llama(hidden: int, **changes: int) -> LlamaForCausalLM:
    """Two layers, grouped heads of eight features."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": hidden // 8,
        "num_key_value_heads": hidden // 16,
        "max_position_embeddings": 64,
        "tie_word_embeddings": False,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes}))


def train(model: LlamaForCausalLM, steps: int) -> None:
    """AdamW on sequences of a random Markov chain, the same in every run."""
    generator = torch.Generator().manual_seed(1)
    chain = torch.softmax(3 * torch.randn(VOCABULARY, VOCABULARY, generator=generator), -1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _ in range(steps):
        tokens = torch.randint(VOCABULARY, (8, 1), generator=generator)
        for _ in range(16):
            following = torch.multinomial(chain[tokens[:, -1]], 1, generator=generator)
            tokens = torch.cat([tokens, following], 1)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints; nobody writes to it."""
    folder = tmp_path_factory.mktemp("models")
    small = llama(32)
    train(small, 150)
    small.save_pretrained(folder / "src")
    clones = {
        "clean": {"width": 2, "noise_snr_db": None},
        "noisy": {"width": 2, "noise_snr_db": 10.0},
        "quiet": {"width": 2, "noise_snr_db": 40.0},
        "diagonal": {"width": 2, "noise_snr_db": 10.0, "variant": "diagonal"},
        "bfloat16": {"width": 2, "noise_snr_db": 10.0, "dtype": "bfloat16"},
        "three": {"width": 3, "noise_snr_db": 10.0},
        "ffn": {"ffn": 2, "noise_snr_db": None},
        "deep": {"depth": 2},
        "interpolated": {"depth": 2, "depth_operator": "interpolate"},
        "both": {"depth": 2, "width": 2},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, options in clones.items():
            growkernels.grow_checkpoint(folder / "src", folder / name, no_verify=True, **options)
    for name in ("clean", "noisy", "quiet", "diagonal", "deep"):
        model = LlamaForCausalLM.from_pretrained(folder / name, dtype=torch.float32)
        train(model, 100)
        model.save_pretrained(folder / f"{name}-trained")
    scratch = llama(64)
    scratch.save_pretrained(folder / "fresh")
    train(scratch, 150)
    scratch.save_pretrained(folder / "scratch")
    return folder

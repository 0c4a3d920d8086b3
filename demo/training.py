"""A plain training loop, good enough to get a small model to write Python-like text in a minute."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from demo import text

LENGTH = 256


def small_llama(seed: int = 0) -> LlamaForCausalLM:
    """A Llama of 1.0 M parameters with grouped-query attention, random weights."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=text.VOCAB_SIZE,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=5,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=LENGTH,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=256,
            eos_token_id=257,
            pad_token_id=258,
            dtype="float32",
        )
    )


def held_out_loss(model: PreTrainedModel, tokens: torch.Tensor) -> float:
    """Mean cross-entropy in nats per byte over int64 [count, length] windows."""
    model.eval()
    with torch.inference_mode():
        losses = [model(input_ids=chunk, labels=chunk).loss.item() * len(chunk) for chunk in tokens.split(16)]
    return sum(losses) / len(tokens)


def train(
    model: PreTrainedModel,
    data: Iterator[torch.Tensor],
    steps: int,
    peak: float,
    warmup: int,
    on_step: Callable[[int, float], None],
) -> None:
    """`steps` of AdamW: linear warm-up to `peak`, cosine decay to a tenth of it; `on_step(step, loss)` after each."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.95), fused=True)
    model.train()
    for step in range(steps):
        progress = (step + 1 - warmup) / max(1, steps - warmup)
        scale = (step + 1) / warmup if step < warmup else 0.55 + 0.45 * math.cos(math.pi * progress)
        for group in optimizer.param_groups:
            group["lr"] = peak * scale
        batch = next(data)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        on_step(step + 1, loss.item())

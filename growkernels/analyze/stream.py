"""How much each layer changes the residual stream, where the model fits into memory and transformers can run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cosine_similarity
from transformers.utils import logging

from growkernels.analyze.matrices import Checkpoint

#: Largest checkpoint, in bytes of float32 weights, that is run; analysis is to stay below 1 GB of memory.
_MOST = 400 << 20
_TOKENS = 64


@dataclass(frozen=True, slots=True)
class StreamChange:
    """What one layer does to the stream, over random tokens.

    Attributes:
        layer: Its number.
        change: ||out - in|| / ||in||.
        cosine: Between what goes in and what comes out; near 1 for a layer that does little.
    """

    layer: int
    change: float
    cosine: float


def run_layers(checkpoint: Checkpoint) -> tuple[list[StreamChange], str]:
    """Run the model on 64 random tokens in float32.

    Args:
        checkpoint: What is analyzed.

    Returns:
        One entry for each layer, and why there are none; empty if there are.
    """
    size = 4 * sum(weight.view.numel() for weight in checkpoint.weights)
    if size > _MOST:
        return [], f"the model takes {size / 1e9:.2g} GB in float32; only up to {_MOST / 1e9:.2g} GB are run"
    if checkpoint.config.get("auto_map"):
        return [], "the model needs code of its own, which is never run"
    from transformers import AutoModel

    try:
        with quiet():
            model = AutoModel.from_pretrained(checkpoint.path, dtype=torch.float32, local_files_only=True).eval()
        return _run(model, checkpoint.layers), ""
    except Exception as error:  # models of any kind fail in any way; the rest of the analysis does not need them
        return [], f"transformers cannot run it: {' '.join(str(error).split())[:200]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from telling of heads that are left out, and from drawing bars."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _run(model: nn.Module, count: int) -> list[StreamChange]:
    layers = next((m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count), None)
    if layers is None:
        raise ValueError(f"it has no list of {count} layers")
    changes: list[StreamChange] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        before = args[0] if args else kwargs["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        change, cosine = (after - before).norm() / before.norm(), cosine_similarity(before, after, dim=-1).mean()
        changes.append(StreamChange(len(changes), float(change), float(cosine)))

    # Hooks and not `output_hidden_states`, whose last entry is behind the final norm.
    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    config: Any = model.config
    vocabulary = int(config.get_text_config().vocab_size)
    positions = getattr(config, "max_position_embeddings", None) or _TOKENS
    tokens = torch.randint(vocabulary, (1, min(_TOKENS, positions)), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        model(input_ids=tokens)
    for hook in hooks:
        hook.remove()
    return changes

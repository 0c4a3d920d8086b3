"""Training a tiny model and its grown form side by side, in float64, on the same batches."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

import growkernels
from tests.families import make_model

Make = Callable[[PreTrainedModel], Optimizer]
#: Steps before the growth, and by default those after it.
BEFORE, AFTER = 6, 100


def batch(step: int, vocab: int = 97) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randint(0, vocab, (2, 10), generator=generator)


class InDouble(TorchFunctionMode):
    """Model classes cast norms and softmax to float32: here what is float64 stays so."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.float:
            return args[0].double()
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            kwargs = {name: torch.float64 if value is torch.float32 else value for name, value in kwargs.items()}
        return func(*args, **kwargs)


def loss_of(model: PreTrainedModel, step: int) -> torch.Tensor:
    tokens = batch(step)
    with InDouble() if model.dtype == torch.float64 else nullcontext():
        logits = model(input_ids=tokens).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def train(model: PreTrainedModel, optimizer: Optimizer, steps: range, clip: Any = None) -> list[float]:
    losses = []
    for step in steps:
        loss = loss_of(model, step)
        loss.backward()
        if clip is not None:
            clip(model, optimizer)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def double(family: str, **variant: Any) -> PreTrainedModel:
    """A tiny model in float64."""
    _, model = make_model(family, **variant)
    return model.double()


def quiet_growth(model: PreTrainedModel, optimizer: Any, **options: Any) -> PreTrainedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return growkernels.grow_model(model, optimizer, **{"noise_snr_db": None, **options})


def twins(make: Make, model: PreTrainedModel) -> tuple[PreTrainedModel, Optimizer, PreTrainedModel, Optimizer]:
    """A model with its optimizer, trained for some steps, and another of the same bits."""
    other = copy.deepcopy(model)
    optimizer, twin = make(model), make(other)
    for one, its in ((model, optimizer), (other, twin)):
        train(one, its, range(BEFORE))
    return model, optimizer, other, twin


def gap(found: list[float], wanted: list[float]) -> float:
    """The largest relative difference of two curves of losses."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, wanted, strict=True))


def disturb(model: PreTrainedModel, size: float = 1e-15) -> None:
    """Change every weight by about its last bit: what the control of chaotic training starts from."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_(1 + size * noise)

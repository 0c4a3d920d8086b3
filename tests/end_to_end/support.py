"""Saved sources, growths of them, and stock models that compute in float64 all through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.executors import execute, open_source
from growkernels.layouts import ModelLayout, discover
from growkernels.operators import GrowthOptions, make_plan
from growkernels.verification.logits import load_model
from tests.families import make_variant


def saved(folder: Path, family: str, variant: str = "plain", dtype: torch.dtype = torch.float32, **extra: Any) -> Path:
    """A tiny random model of the family as a checkpoint; made once for each folder."""
    path = folder / f"{family}-{variant}-{str(dtype).removeprefix('torch.')}"
    if not path.exists():
        _, model = make_variant(family, variant, **extra)
        model.to(dtype).save_pretrained(path)
    return path


@cache
def _layout(folder: Path) -> ModelLayout:
    source = open_source(folder)
    return discover(source.config, source.tensors)


def grown(source: Path, target: Path, **options: Any) -> Path:
    """The source grown without staging and verification, which have their own tests; its layout is found once."""
    target.mkdir()
    execute(open_source(source), make_plan(_layout(source), GrowthOptions(**options)), target)
    return target


def load(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The checkpoint by stock transformers, no tensor missing or unused; eager attention, whose casts can be patched."""
    model, unmatched = load_model(folder, dtype)
    assert not unmatched
    model.set_attn_implementation("eager")
    return model


def tokens(model: PreTrainedModel, count: int = 3, length: int = 40) -> torch.Tensor:
    """Random token ids, int64 [count, length]."""
    return torch.randint(model.config.vocab_size, (count, length), generator=torch.Generator().manual_seed(5))


@contextmanager
def all_in_float64() -> Iterator[None]:
    """Stock model code casts norms, softmax and rotary angles to float32; inside, those casts go to float64."""
    convert, softmax = torch.Tensor.to, nn.functional.softmax

    def wide(value: Any) -> Any:
        return torch.float64 if value is torch.float32 else value

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return convert(self, *map(wide, args), **{key: wide(value) for key, value in kwargs.items()})

    def wide_softmax(*args: Any, **kwargs: Any) -> torch.Tensor:
        return softmax(*args, **{key: wide(value) for key, value in kwargs.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "to", to)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(nn.functional, "softmax", wide_softmax)
        yield

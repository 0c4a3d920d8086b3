"""What a benchmark is: declared work, and providers that each do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

OURS, OURS_OUT, EAGER, COMPILED, PAPER = "ours", "ours in place", "eager", "torch.compile", "paper"
TRITON, FLOOR = "ours in place, triton", "copy floor"

#: Operations of one normal of noise version 1, counted from its definition: 7 Philox rounds of 8 operations for four
#: normals, and 32 floating-point operations for two (logarithm 14, square root 1, sine and cosine 12, the rest 5).
NORMAL = 30


@dataclass(frozen=True)
class Setting:
    """Where and how large: `side` of the square main source, `shrink` divides the sizes of whole models."""

    device: torch.device
    side: int = 4096
    shrink: int = 1

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`: it decides which cases and providers there are."""
        return self.device.type

    @classmethod
    def full(cls, device: torch.device) -> Setting:
        """What is reported. Every case is larger than the caches: on an H200 those hold 50 to 60 MB."""
        return cls(device, side=8192 if device.type == "cuda" else 4096)

    @classmethod
    def quick(cls, device: torch.device) -> Setting:
        """Small enough to try everything in a minute or two; the figures mean little."""
        return cls(device, side=512, shrink=8)

    @classmethod
    def tiny(cls, device: torch.device) -> Setting:
        """For tests of the harness: every case in milliseconds."""
        return cls(device, side=16, shrink=64)


@dataclass(frozen=True)
class Work:
    """The least a case can move and compute: each source byte read once, each target byte written once."""

    bytes: int
    operations: int


@dataclass(frozen=True)
class Provider:
    """One way to do the work. `check` gets what `run` returns and raises AssertionError if the outputs are not right.

    `fresh`: `run` allocates and returns the outputs, so that they do not count as extra memory.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None]
    fresh: bool = True


@dataclass(frozen=True)
class Case:
    """`build` makes one set of buffers and the providers on them; `calls` are timed together where one is too short.

    `rounds`: the fewest that are run where that is less than usual, for cases whose rivals take minutes.
    """

    name: str
    work: Work
    build: Callable[[], list[Provider]]
    calls: int = 1
    rounds: int | None = None


def in_place(setting: Setting, run: Callable[[str | None], Any], check: Callable[[Any], None]) -> list[Provider]:
    """Ours into memory that exists, by the default backend; and on a GPU by the Triton kernels."""
    ours = [(OURS_OUT, None), *([(TRITON, "triton")] if setting.kind == "cuda" else ())]
    return [Provider(name, partial(run, backend), check, fresh=False) for name, backend in ours]


def data(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Random weights of a usual size: never zeros, which some memory systems move faster."""
    return torch.randn(shape, device=device).mul_(0.02).to(dtype)


def untouched_never(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An output whose pages exist already, full of NaN so that what is not written shows."""
    return torch.full(shape, torch.nan, dtype=dtype, device=device)


def short(dtype: torch.dtype) -> str:
    """`fp32`, `bf16`."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]

"""What the settings of a fit may be."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from numbers import Real
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from growkernels.errors import GrowthError

#: More than any fit needs, and no integer of torch overflows.
MOST = 2**31 - 1


def whole_number(value: Any, name: str, least: int, most: int = MOST) -> int:
    """The value as an int. Raises GrowthError unless it is a whole number of a range; True and 1.0 are none."""
    try:
        number = least - 1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise GrowthError(f"{name} is {_short(value)}; expected a whole number from {least} to {most}.")
    return number


def schedule(steps: Any, lr: Any, warmup: Any) -> tuple[int, float, int]:
    """Steps, peak learning rate and warm-up steps; no warm-up given is a tenth of the steps. Raises GrowthError."""
    steps = whole_number(steps, "steps", 1)
    if isinstance(lr, bool) or not isinstance(lr, Real) or not 0 < _float(lr) < inf:
        raise GrowthError(f"lr is {_short(lr)}; expected a positive number, such as 0.001.")
    if warmup is None:
        return steps, float(lr), max(1, steps // 10)
    warmup = whole_number(warmup, "warmup", 0)
    if warmup > steps:
        raise GrowthError(f"warmup is {warmup} and steps {steps}; expected no more steps of warm-up than of all.")
    return steps, float(lr), warmup


def file_path(value: Any, name: str) -> Path:
    """The value as a path. Raises GrowthError for what is none."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value) or not str(value):
        raise GrowthError(f"{name} is {_short(value)}; expected a path.")
    return Path(value)


def iterator(batches: Any) -> Iterator[Any]:
    """What gives one batch after the other. Raises GrowthError for what does not."""
    if isinstance(batches, Mapping):
        raise GrowthError("batches is a single batch; expected one after the other: give [batch].")
    try:
        return iter(batches)
    except TypeError as error:
        raise GrowthError(
            f"batches is {_short(batches)}; expected one batch after the other, as a list or a DataLoader gives them."
        ) from error


def described(batch: Mapping[str, Tensor]) -> str:
    """Names, shapes and dtypes."""
    return ", ".join(f"{name} {list(value.shape)} {value.dtype}" for name, value in batch.items())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory; on a CPU torch has no class of its own for that."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


@contextmanager
def memory_for(batch: Mapping[str, Tensor]) -> Iterator[None]:
    """A step on this batch. Raises GrowthError if it has not enough memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise GrowthError(
            f"there is no memory for a step on a batch of {described(batch)} beside the grown weights; give fewer or shorter "
            f"windows a batch, or grow less."
        ) from error


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return inf


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        text = type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."

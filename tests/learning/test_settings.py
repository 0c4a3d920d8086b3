"""What a fit and its text may be asked for: all else is a GrowthError that names it, never another error."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels import Fit, GrowthError
from growkernels.learning import TextBatches
from growkernels.learning.checks import MOST, schedule
from tests.cli.support import save_tokenizer

CONFIG = {"architectures": ["LlamaForCausalLM"], "vocab_size": 97, "max_position_embeddings": 64}
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.fractions(),
    st.complex_numbers(),
    st.lists(st.integers(), max_size=2),
)


@given(ANYTHING, ANYTHING, ANYTHING)
@example(10, 1e-3, None)
@example(np.int64(10), np.float32(1e-3), np.int32(2))
@example(10, Fraction(1, 7), 10)
@example(10, 10**400, None)
@example(10**5000, 1, None)
@example(10, 10**5000, None)
@example(10, Fraction(1, 10**400), None)
def test_a_schedule_is_whole_steps_and_a_rate_or_refused(steps: Any, lr: Any, warmup: Any) -> None:
    whole = [
        isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= value <= MOST
        for value, least in ((steps, 1), (0 if warmup is None else warmup, 0))
    ]
    real = isinstance(lr, int | float | np.floating | Fraction) and not isinstance(lr, bool)
    sound = all(whole) and real and lr > 0 and (warmup is None or warmup <= steps)
    if not sound or (isinstance(lr, int | Fraction) and lr > sys.float_info.max) or float(lr) == 0:
        with pytest.raises(GrowthError, match=r"^(steps|lr|warmup) is "):
            schedule(steps, lr, warmup)
        return
    found = schedule(steps, lr, warmup)
    assert [type(value) for value in found] == [int, float, int]
    assert found == (steps, float(lr), max(1, steps // 10) if warmup is None else warmup)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, and a text beside it."""
    path = tmp_path_factory.mktemp("text")
    save_tokenizer(path)
    (path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    return path


def text_batches(folder: Path, **changed: Any) -> TextBatches:
    settings = {"file": folder / "text.txt", "checkpoint": folder, "config": CONFIG, "size": 2, "length": 8}
    return TextBatches(**{**settings, **changed})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"size": True}, "size is True; expected a whole number from 1"),
        ({"size": 1.5}, r"size is 1\.5"),
        ({"size": "8"}, "size is '8'"),
        ({"size": 0}, "size is 0"),
        ({"size": 10**30}, "size is 10"),
        ({"length": 1}, "length is 1; expected a whole number from 2"),
        ({"length": None}, "length is None"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"file": None}, "the text is None; expected a path"),
        ({"file": 5}, "the text is 5"),
        ({"file": ""}, "the text is ''"),
        ({"file": "a\0b"}, "the text is 'a"),
        ({"checkpoint": None}, "checkpoint is None; expected a path"),
        ({"config": None}, "config is NoneType; expected the dictionary"),
        ({"config": {**CONFIG, "max_position_embeddings": 1}}, "the model takes 1 token"),
    ],
    ids=str,
)
def test_texts_that_cannot_be_meant_are_refused(folder: Path, changed: dict, words: str) -> None:
    with pytest.raises(GrowthError, match=words):
        text_batches(folder, **changed)


@pytest.mark.parametrize("step", [-1, True, "a", 1.5, None])
def test_steps_of_a_text_count_from_0(folder: Path, step: Any) -> None:
    with pytest.raises(GrowthError, match="step is "):
        text_batches(folder).since(step)


def test_batches_too_large_for_the_memory_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    batches = text_batches(folder, size=1000)
    monkeypatch.setattr(torch, "randint", full)
    with pytest.raises(GrowthError, match="no memory for 1000 windows of 8 tokens"):
        next(batches.since(0))


def test_batches_since_a_step_are_those_of_its_number(folder: Path) -> None:
    batches = text_batches(folder, seed=2**64 - 1)
    first = batches.since(0)
    for _ in range(3):
        next(first)
    assert torch.equal(next(first)["input_ids"], next(batches.since(3))["input_ids"])


def test_the_digest_is_that_of_the_tokens(folder: Path) -> None:
    (folder / "copy.txt").write_bytes((folder / "text.txt").read_bytes())
    (folder / "other.txt").write_text((folder / "text.txt").read_text()[:-1] + "!")
    masked = {**CONFIG, "architectures": ["BertForMaskedLM"]}
    digest = text_batches(folder).digest()
    assert text_batches(folder, file=folder / "copy.txt", size=1, length=3).digest() == digest
    assert text_batches(folder, file=folder / "other.txt").digest() != digest
    assert text_batches(folder, config=masked).digest() != digest


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"text": 5}, "the text is 5"),
        ({"steps": 0}, "steps is 0; expected a whole number from 1"),
        ({"steps": "10"}, "steps is '10'"),
        ({"lr": -1.0}, r"lr is -1\.0; expected a positive number"),
        ({"steps": 2, "warmup": 3}, "warmup is 3 and steps 2"),
        ({"batch": 0}, "batch is 0"),
        ({"length": 1}, "length is 1"),
        ({"checkpoint": 5}, "the fit's checkpoint is 5"),
    ],
    ids=str,
)
def test_fits_that_cannot_be_meant_are_refused(changed: dict, words: str) -> None:
    with pytest.raises(GrowthError, match=words):
        Fit(**{"text": "text.txt", **changed})

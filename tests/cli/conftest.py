"""Checkpoints that the tests of the command line share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cli.support import save_small


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models are fitted: more threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama; nobody writes to it."""
    return save_small(tmp_path_factory.mktemp("models") / "llama", tie_word_embeddings=True)


@pytest.fixture
def src(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, in a folder of its own beside which the targets go."""
    return shutil.copytree(pristine, tmp_path / "src")

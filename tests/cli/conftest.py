"""Checkpoints that the tests of the command line share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.support import save_small


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama; nobody writes to it."""
    return save_small(tmp_path_factory.mktemp("models") / "llama", tie_word_embeddings=True)


@pytest.fixture
def src(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it, in a folder of its own beside which the targets go."""
    return shutil.copytree(pristine, tmp_path / "src")

"""A tiny checkpoint with a tokenizer of characters, a text, and candidates."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cli.support import save_small, save_tokenizer

CANDIDATES = """\
stack: {depth: 2}
wide: {width: 2, noise_snr_db: 40}
learned: {depth: 2, depth_operator: ligo, fit_steps: 2}
fresh: {scratch: stack}
"""


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny models: more threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with src, ways.yaml and text.txt; nobody writes to them."""
    folder = tmp_path_factory.mktemp("race")
    save_tokenizer(save_small(folder / "src"))
    (folder / "ways.yaml").write_text(CANDIDATES)
    words = ["grow", "kernel", "layer", "width", "depth", "copy"]
    chosen = random.Random(0)
    (folder / "text.txt").write_text(" ".join(chosen.choice(words) for _ in range(2000)))
    return folder

"""A slice of `make torture` for every run of the tests: under a minute, the same inputs each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from tests.torture.full_disk import STEP, fill_up
from tests.torture.fuzz import Findings, fuzz, try_corpus
from tests.torture.injected import in_memory, inject
from tests.torture.kills import kill
from tests.torture.readers import Reader, make_readers

READERS = ("header", "index", "config", "archive", "manifest", "state", "side files")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors: more threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return make_readers(tmp_path_factory.mktemp("readers"))


def clean(findings: Findings, least: int) -> None:
    assert not findings.failures, "\n".join(findings.failures)
    assert findings.count >= least


def test_every_reader_is_tried(readers: dict[str, Reader]) -> None:
    assert tuple(readers) == READERS
    for reader in readers.values():
        reader.read()


@pytest.mark.parametrize("name", READERS)
def test_inputs_that_once_failed(readers: dict[str, Reader], name: str) -> None:
    clean(try_corpus(readers[name]), 1)


@pytest.mark.parametrize("name", READERS)
def test_damaged_inputs(readers: dict[str, Reader], name: str) -> None:
    clean(fuzz(readers[name], list(range(300))), 300)


@pytest.mark.parametrize("overwrite", [False, True])
def test_errors_of_the_operating_system(overwrite: bool) -> None:
    with TemporaryDirectory(dir=in_memory()) as folder:
        clean(inject(Path(folder), overwrite, every=11), 200)


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    clean(fill_up(tmp_path, step=4 * STEP), 20)


@pytest.mark.slow  # by the clock: not the same in each run
def test_kills(tmp_path: Path) -> None:
    clean(kill(tmp_path, 12, seed=1), 12)

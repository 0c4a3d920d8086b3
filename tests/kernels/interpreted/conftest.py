"""The interpreter is chosen when Triton is imported, for the whole process: elsewhere there is nothing to collect here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if os.environ.get("TRITON_INTERPRET") != "1" else None


@pytest.fixture(scope="session", autouse=True)
def language_patched_once() -> Iterator[None]:
    """Our device functions run without patches of their own: the kernel that calls them has patched triton.language.

    The interpreter patches it again at each of their calls, in 1.6 ms: half the time of these tests.
    """
    from triton.runtime.interpreter import InterpretedFunction

    patching = InterpretedFunction.__call__

    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        if not function.fn.__module__.startswith("growkernels."):
            return patching(function, *args, **kwargs)
        return function.rewrite()(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpretedFunction, "__call__", call)
        yield

"""With what, and from which commit, something was run. Needs nothing but Python."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "numpy", "triton", "transformers", "safetensors")


def versions(*more: str) -> dict[str, str]:
    """Of Python and of every package that matters and is there."""
    found = {"python": platform.python_version()}
    for package in (*_PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> tuple[str, bool]:
    """The commit, and whether files other than results differ from it.

    Outside a checkout (a copy on another machine) what GROWKERNELS_COMMIT says, or "unknown".
    """
    if given := os.environ.get("GROWKERNELS_COMMIT"):
        return given, False
    try:
        head = output("git", "rev-parse", "--short=12", "HEAD")
        changed = output("git", "status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
    return head, bool(changed)


def output(*command: str) -> str:
    """What a command prints. Raises OSError or CalledProcessError."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

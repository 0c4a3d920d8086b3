"""Paths as users give them."""

from __future__ import annotations

from pathlib import Path

from growkernels.errors import GrowthError


def user_path(given: str | Path) -> Path:
    """The path with `~` replaced by the home folder. Raises GrowthError for what is no path, or names no user."""
    if "\0" in str(given):
        raise GrowthError(f"{str(given)!r} is no path: it holds a zero byte.")
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise GrowthError(f"{given}: {str(error).rstrip('.')}; give the whole path.") from error

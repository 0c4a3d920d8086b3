"""Figures of matplotlib, which is optional: made where it is installed, and saved with a message where that fails."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from growkernels.errors import GrowthError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """An empty white figure.

    Args:
        width: Inches.
        height: Inches.
        dpi: Pixels per inch.

    Raises:
        GrowthError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise GrowthError(
            "a picture needs matplotlib; install it (`pip install matplotlib`), or leave the picture out."
        )
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, facecolor="white", layout="constrained")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG. Raises GrowthError if the file cannot be written."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise GrowthError(
            f"cannot write the picture to {path}: {error.strerror}. Name a file in a writable folder."
        ) from error

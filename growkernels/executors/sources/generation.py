"""The generation config beside the weights, which stock transformers reads with the model."""

from __future__ import annotations

from pathlib import Path

import transformers
from transformers import GenerationConfig

from growkernels.errors import GrowthError
from growkernels.layouts.knobs import quiet

_FILE = "generation_config.json"


def read_generation_config(folder: Path, architecture: str) -> GenerationConfig | None:
    """The generation config that `from_pretrained` would give the model of a checkpoint folder; None for its default.

    Raises GrowthError where `from_pretrained` would fail: the grown model could not be loaded either.
    """
    kind = getattr(transformers, architecture, None)
    if kind is None or not kind.can_generate() or not (folder / _FILE).is_file():
        return None
    try:
        with quiet():
            return GenerationConfig.from_pretrained(folder)
    except OSError:  # no JSON: transformers goes on without it
        return None
    except Exception as error:  # its checks raise many kinds
        raise GrowthError(
            f"{folder / _FILE} is refused by transformers, which could not load the grown model with it either: "
            f"{str(error) or type(error).__name__} Correct it, or remove it."
        ) from error

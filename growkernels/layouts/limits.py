"""Configs that no model has: refused by their numbers, before anything is built from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts.classes import split_layer

#: transformers makes lists as long as these say, over and over.
_MOST_LAYERS, _MOST_LABELS = 100_000, 100_000


def check_config(config: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise GrowthError for a config whose lists would take for ever to build. `names` are those of the stored tensors."""
    for key, value in config.items():
        if "layer" in key and isinstance(value, int) and value > _MOST_LAYERS:
            held = len({split_layer(name)[1] for name in names} - {None})
            raise GrowthError(
                f"The number of layers is {_text(value)} in config.json, but {held} in the checkpoint ({key}). The config is "
                "not that of these weights: take both from the same checkpoint."
            )
    for key in ("num_labels", "id2label", "label2id"):
        value = config.get(key)
        count = len(value) if isinstance(value, dict | list) else value
        if isinstance(count, int) and count > _MOST_LABELS:
            raise GrowthError(
                f"config.json sets {key} to {_text(count)}: more than {_MOST_LABELS} labels are not supported. Correct "
                f"config.json."
            )


def _text(number: int) -> str:
    return str(number) if number < 10**30 else "absurd"

"""Configs that are not those of their weights: single sizes and lists changed, everything else as it was."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from growkernels.layouts.keys import (
    CYCLES,
    FIRST_LAYERS,
    LAST_LAYERS,
    LAYER_LISTS,
    LAYER_NUMBERS,
    LAYERS,
    PINNED,
    SYMBOLS,
)

_SIZES = {*SYMBOLS, *LAYERS, *PINNED, *FIRST_LAYERS, *LAST_LAYERS}
_MORE = re.compile(
    r"(experts|_rank|head_dim|_d_state|state_size|_d_conv|conv_kernel|n_groups?|_per_tok|num_layers|embed_dim)"
)
_LISTS = {*LAYER_LISTS, *LAYER_NUMBERS, *CYCLES}


def spoiled(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every config that differs in one size or list, with what differs: sizes one more and doubled, lists cut and longer."""
    for path, value in _leaves(config, ()):
        key = path[-1]
        if isinstance(value, list) and value and key in _LISTS:
            others: tuple[Any, ...] = (value[:-1], [*value, value[-1]])
        elif type(value) is int and value > 0 and (key in _SIZES or _MORE.search(key)):
            others = (value + 1, 2 * value)
        else:
            continue
        for other in others:
            changed = copy.deepcopy(config)
            level = changed
            for name in path[:-1]:
                level = level[name]
            level[key] = other
            yield f"{'.'.join(path)} {value} -> {other}", changed


def _leaves(level: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in level.items():
        # Of towers beside the text model, whose sizes are not ours.
        if isinstance(value, dict) and key.endswith("config") and not re.search("vision|audio", key):
            yield from _leaves(value, (*path, key))
        elif not isinstance(value, dict):
            yield (*path, key), value

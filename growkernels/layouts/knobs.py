"""Reading and writing the sizes in a `config.json`, in its stored keys."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.utils import logging

from growkernels.errors import GrowthError
from growkernels.layouts.families import Family

#: How attention is computed says nothing about the weights, and asks for packages that may not be there.
RUNTIME_KEYS = ("_attn_implementation", "_attn_implementation_internal", "attn_implementation")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from logging: probing would repeat its advice on the config many times."""
    verbosity = logging.get_verbosity()
    if verbosity == logging.CRITICAL:
        # Setting it clears the caches of all loggers: a tenth of the time of a plan, if done for every config and class.
        yield
        return
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def config_object(family: Family, config: Mapping[str, Any]) -> PreTrainedConfig:
    """The config as transformers reads it. Raises GrowthError where it does not."""
    stored = {key: value for key, value in copy.deepcopy(dict(config)).items() if key not in RUNTIME_KEYS}
    try:
        with quiet():
            # Not from_dict: it makes the text of a log entry each time, which takes twice as long as reading.
            loaded = CONFIG_MAPPING[family.model_type](**stored)
    except Exception as error:  # transformers and its validators raise many kinds
        reason = " ".join(str(error).split()).rstrip(".")
        raise GrowthError(
            f"transformers cannot read this {family.model_type} config: {reason}. Mend config.json."
        ) from error
    if not isinstance(loaded.dtype, torch.dtype | None):
        given = stored["torch_dtype"] if stored.get("dtype") is None else stored["dtype"]
        raise GrowthError(f"config.json sets dtype to {given!r}; expected the name of a dtype, such as bfloat16.")
    return loaded


def read_sizes(family: Family, loaded: PreTrainedConfig) -> dict[str, int]:
    """Sizes in the config's units: hidden, heads, kv_heads, ffn, vocab, head_dim; defaults where not stored."""
    sizes: dict[str, Any] = {symbol: getattr(loaded, key) for symbol, key in family.knobs.items()}
    sizes.setdefault("kv_heads", sizes["heads"])
    if sizes["ffn"] is None and family.ffn_default:
        sizes["ffn"] = family.ffn_default * sizes["hidden"]
    pinned = getattr(loaded, family.head_dim) if family.head_dim else None
    sizes["head_dim"] = pinned or sizes["hidden"] // max(sizes["heads"], 1)
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise GrowthError(f"config.json: {name} is {size!r}; a positive whole number is needed.")
    return sizes


def set_key(family: Family, config: dict[str, Any], key: str, value: object) -> None:
    """Write `key` wherever it is stored, under its own name or an alias of the class; under its own name if nowhere."""
    for name in _stored_names(family, config, key) or [key]:
        config[name] = value


def set_sizes(family: Family, config: dict[str, Any], sizes: Mapping[str, int]) -> PreTrainedConfig:
    """Write sizes into their stored keys; a key that is absent or null stays so where the class derives the same size.

    Returns the config as transformers now reads it. Raises GrowthError for sizes that the class cannot have.
    """
    keys: dict[str, str] = {**family.knobs}
    if family.head_dim:
        keys["head_dim"] = family.head_dim
    for symbol, key in keys.items():
        if any(config[name] is not None for name in _stored_names(family, config, key)):
            set_key(family, config, key, sizes[symbol])
    loaded = config_object(family, config)
    read = read_sizes(family, loaded)
    if derived := {symbol: key for symbol, key in keys.items() if read[symbol] != sizes[symbol]}:
        for symbol, key in derived.items():
            set_key(family, config, key, sizes[symbol])
        loaded = config_object(family, config)
        read = read_sizes(family, loaded)
    for symbol in (*keys, "head_dim"):
        if read[symbol] != sizes[symbol]:
            raise GrowthError(
                f"A {family.model_type} config cannot hold {symbol} = {sizes[symbol]} (it gives {read[symbol]}): "
                "grow hidden and heads by the same ratio."
            )
    return loaded


def _stored_names(family: Family, config: Mapping[str, Any], key: str) -> list[str]:
    aliases = CONFIG_MAPPING[family.model_type].attribute_map
    return [name for name in config if name == key or aliases.get(name) == key]

"""Reading and writing the sizes in a `config.json`, in its stored keys."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from types import SimpleNamespace
from typing import Any, cast

import torch
from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.utils import logging

from growkernels.errors import GrowthError
from growkernels.layouts.base import Ratio, Symbol
from growkernels.layouts.family import Family
from growkernels.layouts.keys import LABELS, LAYERS, PINNED, POSITIONS, SAME_AS_HIDDEN, SYMBOLS

#: How attention is computed says nothing about the weights, and asks for packages that may not be there.
RUNTIME_KEYS = ("_attn_implementation", "_attn_implementation_internal", "attn_implementation")

#: Of more labels than this only the number is read: transformers checks each of them 10 times for every config it makes.
FEW_LABELS = 1000

MISSING: Any = object()

#: What to do about sizes that a class refuses.
_OTHER_SIZES = "Give other sizes."

#: The key of what single layers have other than the rest.
OVERRIDES = "per_layer_config"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from logging: probing would repeat its advice on the config many times."""
    verbosity = logging.get_verbosity()
    if verbosity == CRITICAL:
        # Setting it clears the caches of all loggers: a tenth of the time of a plan, if done for every config and class.
        yield
        return
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def config_object(family: Family, config: Mapping[str, Any], remedy: str = "Fix config.json.") -> PreTrainedConfig:
    """The config as transformers reads it; of other classes, its keys as attributes. Raises GrowthError where it does not."""
    many_labels = _has_many_labels(config)
    left_out = (*RUNTIME_KEYS, *LABELS) if many_labels else RUNTIME_KEYS
    stored = {key: _decoded(copy.deepcopy(value)) for key, value in config.items() if key not in left_out}
    if family.build is not None:
        return cast(PreTrainedConfig, SimpleNamespace(**stored))
    try:
        with quiet():
            # Not from_dict: it makes the text of a log entry each time, which takes twice as long as reading.
            loaded = CONFIG_MAPPING[family.model_type](**stored)
    except Exception as error:  # transformers and its validators raise many kinds
        reason = " ".join(str(error).split()).rstrip(".")
        raise GrowthError(f"transformers cannot read this {family.model_type} config: {reason}. {remedy}") from error
    if many_labels:
        names, number = config.get("id2label"), config.get("num_labels")
        count = number if names is None else len(names)
        if count is not None:
            # Past the class's own checks of what is set.
            vars(loaded)["id2label"] = dict.fromkeys(range(count), "")
    if not isinstance(loaded.dtype, torch.dtype | None):
        given = stored["torch_dtype"] if stored.get("dtype") is None else stored["dtype"]
        raise GrowthError(f"config.json sets dtype to {given!r}; expected the name of a dtype, such as bfloat16.")
    return loaded


def _has_many_labels(config: Mapping[str, Any]) -> bool:
    values = [config.get(key) for key in LABELS]
    counts = [len(value) if isinstance(value, dict) else value for value in values]
    return any(isinstance(count, int) and count > FEW_LABELS for count in counts)


def _decoded(value: Any) -> Any:
    """JSON has no infinities: transformers writes {"__float__": "Infinity"}, which its configs do not read themselves."""
    if isinstance(value, dict):
        if set(value) == {"__float__"}:
            return float(value["__float__"])
        return {key: _decoded(item) for key, item in value.items()}
    return [_decoded(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Knobs:
    """The keys of a config that size the model, as paths: dotted where they are nested."""

    symbols: Mapping[str, Symbol]
    layers: tuple[str, ...]
    positions: tuple[str, ...]
    pinned: tuple[str, ...]
    #: Path of the text model's own config: empty, or such as `text_config.`.
    text: str

    def of(self, symbol: Symbol) -> tuple[str, ...]:
        """The paths that count `symbol`, the main one first."""
        return tuple(path for path, counted in self.symbols.items() if counted == symbol)


def find_knobs(family: Family, loaded: PreTrainedConfig) -> Knobs:
    """Which keys of a config count what, by the generic table and the family's row."""
    text = text_path(loaded)
    own = vars(text_config(loaded))
    # Not those that are only other names of the class for one of its keys.
    found = {key: symbol for key, symbol in SYMBOLS.items() if key in own and _is_size(own[key])}
    paths = {text + key: symbol for key, symbol in found.items()}
    hidden = next((own[key] for key, symbol in found.items() if symbol == "hidden"), None)
    paths |= {text + key: "hidden" for key in SAME_AS_HIDDEN if key in own and own[key] == hidden}
    for path, symbol in family.keys.items():
        if symbol is None:
            paths.pop(path, None)
        elif read(loaded, path) is not MISSING:
            paths[path] = symbol
    layers = tuple(family.layers.split()) or tuple(text + key for key in LAYERS if key in own)[:1]
    return Knobs(
        paths,
        layers,
        tuple(text + key for key in POSITIONS if isinstance(own.get(key), int) and own[key]),
        tuple(text + key for key in PINNED if key in own),
        text,
    )


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, (int, list)) and not isinstance(value, bool))


def text_path(loaded: PreTrainedConfig) -> str:
    """Where the config of the text model stands in its model's: empty, or such as `text_config.`."""
    text = text_config(loaded)
    if text is loaded:
        return ""
    return next(f"{name}." for name, value in vars(loaded).items() if value is text)


def text_config(loaded: PreTrainedConfig) -> PreTrainedConfig:
    """The config of the text model: the config itself for most."""
    if not isinstance(loaded, PreTrainedConfig):
        return loaded
    try:
        text = loaded.get_text_config(decoder=True)
    except ValueError:  # several texts, and none of them the only one
        return loaded
    # Of an encoder and decoder in one config it makes a new one; what files call decoder may be anything.
    return (
        text if isinstance(text, PreTrainedConfig) and any(value is text for value in vars(loaded).values()) else loaded
    )


def read(loaded: Any, path: str) -> Any:
    """The value at a dotted path; `MISSING` where there is none."""
    for key in path.split("."):
        # Not the attribute where it can be helped: configs raise where layers override it.
        own = loaded if isinstance(loaded, dict) else getattr(loaded, "__dict__", {})
        value = own[key] if key in own else getattr(loaded, key, MISSING)
        loaded = read_overrides(own) if key == OVERRIDES else value
    return loaded


def read_overrides(own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What single layers have other than the rest, by layer number, as the config stores it."""
    spec = own.get("_heterogeneity_spec")
    overrides = {} if spec is None else spec.per_layer_overrides
    return {str(layer): dict(values) for layer, values in sorted(overrides.items()) if values}


def read_sizes(family: Family, loaded: PreTrainedConfig, knobs: Knobs) -> dict[str, int]:
    """Sizes in the config's units: hidden, heads, kv_heads, ffn, vocab, head_dim; of those that the config has."""
    sizes: dict[str, Any] = {}
    for symbol in ("hidden", "heads", "kv_heads", "ffn", "vocab"):
        values = [read(loaded, path) for path in knobs.of(symbol)]
        if values:
            sizes[symbol] = next((value for value in values if value is not None), None)
    if "heads" in sizes and sizes.get("kv_heads") is None:
        sizes["kv_heads"] = sizes["heads"]
    if sizes.get("ffn", 0) is None:
        sizes["ffn"] = family.ffn_default * sizes["hidden"] if family.ffn_default else None
        if sizes["ffn"] is None:
            del sizes["ffn"]
    if "heads" in sizes:
        pinned = read(loaded, f"{knobs.text}head_dim")
        sizes["head_dim"] = (
            pinned
            if pinned and pinned is not MISSING
            else (sizes["hidden"] // _one(sizes["heads"]) if _whole(sizes) else 0)
        )
    sizes = {name: _one(size) for name, size in sizes.items()}
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise GrowthError(f"config.json: {name} is {size!r}; a positive whole number is needed.")
    return sizes


def _one(size: Any) -> Any:
    """The size that stands for a list of them, layer by layer."""
    return size[0] if isinstance(size, list) and size else size


def _whole(sizes: Mapping[str, Any]) -> bool:
    return all(isinstance(_one(sizes[name]), int) and _one(sizes[name]) > 0 for name in ("hidden", "heads"))


def scaled(value: Any, ratio: Ratio) -> Any:
    """A size, or a list of sizes, times a ratio. Raises GrowthError unless that is whole."""
    if isinstance(value, list):
        return [scaled(item, ratio) for item in value]
    if value is None or isinstance(ratio, int):
        return value if value is None else value * ratio
    product = value * ratio
    if product.denominator != 1:
        raise GrowthError(
            f"the sizes asked for make {value} features {float(product):g}; expected a whole number: give a size with which "
            f"{value} times {ratio} is one."
        )
    return int(product)


def sized(
    family: Family, loaded: PreTrainedConfig, knobs: Knobs, sizes: Mapping[str, int], ratios: Mapping[Symbol, Ratio]
) -> dict[str, Any]:
    """What each key of a size must hold once everything is multiplied by `ratios` (1 where not given)."""
    values: dict[str, Any] = {}
    for path, symbol in knobs.symbols.items():
        value = read(loaded, path)
        if value is None and path == next(iter(knobs.of(symbol))) and symbol in sizes:
            value = sizes[symbol]
        if value is not None:
            values[path] = scaled(value, ratios.get(symbol, 1))
    for path in knobs.pinned:
        value = read(loaded, path)
        if value is not None:
            values[path] = value
    if "head_dim" in sizes:
        values[f"{knobs.text}head_dim"] = scaled(sizes["head_dim"], ratios.get("head_dim", 1))
    return values


def settle(
    family: Family, config: dict[str, Any], expected: Mapping[str, Any], held: Callable[[PreTrainedConfig, str], Any]
) -> PreTrainedConfig:
    """Write values into their stored keys; a key that is absent or null stays so where the class derives the same.

    `held` reads a value as the class understands it. Returns the config as transformers now reads it. Raises GrowthError
    for what the class cannot hold.
    """
    for path, value in expected.items():
        if any(level[name] is not None for level, name in _stored(family, config, path)):
            set_path(family, config, path, value)
    loaded = config_object(family, config, _OTHER_SIZES)
    derived = {path: value for path, value in expected.items() if not _same(held(loaded, path), value)}
    # A class that knows no such key would keep it, and derive the size all the same.
    writable = {path: value for path, value in derived.items() if read(loaded, path) is not MISSING}
    if writable:
        for path, value in writable.items():
            set_path(family, config, path, value)
        loaded = config_object(family, config, _OTHER_SIZES)
    for path, value in expected.items():
        if not _same(got := held(loaded, path), value):
            why = "its class decides on it"
            if path.endswith("head_dim"):
                why = f"grow hidden and heads by the same ratio{_fitting(loaded, held, path, value, expected)}"
            raise GrowthError(f"A {family.model_type} config cannot hold {path} = {value} (it gives {got}): {why}.")
    return loaded


def _fitting(
    loaded: PreTrainedConfig,
    held: Callable[[PreTrainedConfig, str], Any],
    path: str,
    head_dim: int,
    expected: Mapping[str, Any],
) -> str:
    """The numbers of heads, and the hidden size, that heads of a size go with."""
    text = path.removesuffix("head_dim")
    sizes: dict[Symbol, int] = {}
    for found in expected:
        symbol = SYMBOLS.get(found.removeprefix(text))
        if symbol in ("hidden", "heads"):
            sizes.setdefault(symbol, _one(held(loaded, found)))
    if len(sizes) < 2 or sizes["hidden"] % head_dim:
        return ""
    hidden, heads = sizes["hidden"], sizes["heads"]
    larger = f", or head_dim to {hidden // heads}" if hidden % (heads * head_dim) == 0 else ""
    return f", such as to {hidden // head_dim} heads, or to a hidden size of {heads * head_dim}{larger}"


def held_size(family: Family, knobs: Knobs, sizes: Mapping[str, int]) -> Callable[[PreTrainedConfig, str], Any]:
    """How `settle` reads sizes: as the class derives those that are null."""
    main = {symbol: paths[0] for symbol in ("heads", "kv_heads", "ffn") if (paths := knobs.of(symbol))}

    def held(loaded: PreTrainedConfig, path: str) -> Any:
        value = read(loaded, path)
        if value is not None and value is not MISSING:
            return value
        if path == main.get("ffn") and family.ffn_default:
            return family.ffn_default * read(loaded, knobs.of("hidden")[0])
        if path == main.get("kv_heads"):
            return read(loaded, main["heads"])
        if path.endswith("head_dim") and "heads" in main:
            return read(loaded, knobs.of("hidden")[0]) // _one(read(loaded, main["heads"]))
        return value

    return held


def _same(got: Any, wanted: Any) -> bool:
    if isinstance(got, tuple):
        got = list(got)
    return got == wanted


def set_path(family: Family, config: dict[str, Any], path: str, value: object) -> None:
    """Write a value wherever it is stored, under its own name or an alias of the class; under its own name if nowhere."""
    stored = _stored(family, config, path)
    if not stored:
        *outer, key = path.split(".")
        level = config
        for name in outer:
            level = level.setdefault(name, {})
        stored = [(level, key)]
    for level, name in stored:
        level[name] = value


def _stored(family: Family, config: dict[str, Any], path: str) -> list[tuple[dict[str, Any], str]]:
    """Where a path is stored: the objects, and the names in them."""
    *outer, key = path.split(".")
    level: Any = config
    kind: Any = None if family.build is not None else CONFIG_MAPPING[family.model_type]
    for name in outer:
        level = level.get(name) if isinstance(level, dict) else None
        kind = kind.sub_configs.get(name) if kind is not None else None
    if not isinstance(level, dict):
        return []
    aliases = getattr(kind, "attribute_map", {})
    return [(level, name) for name in level if name == key or aliases.get(name) == key]


def reason_of(refusal: str | Callable[[PreTrainedConfig], str], loaded: PreTrainedConfig) -> str:
    """Why a config is refused, as a row says it; empty where it is not."""
    return refusal if isinstance(refusal, str) else refusal(text_config(loaded))

"""From a config and the stored tensors' shapes to a layout."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

import transformers
from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts import checks, quantized, trial
from growkernels.layouts.base import ModelLayout, Place, TensorLayout
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import BUFFERS, Family, register_family
from growkernels.layouts.head import head_norm
from growkernels.layouts.knobs import Knobs, config_object, find_knobs, quiet, read, read_sizes, reason_of, text_config
from growkernels.layouts.limits import check_config, check_sizes
from growkernels.layouts.parameters import split_layer
from growkernels.layouts.reader import Reader, embedding_scaled, features
from growkernels.layouts.stacks import find_stacks, layer_kinds
from growkernels.layouts.turn import Turned, grown, turn
from growkernels.layouts.writers import identity_refusal, with_biases
from growkernels.rules.tensor import DTYPE_BYTES, TensorSpec

#: Configs, as JSON, whose twins have confirmed the row of their type.
_CONFIRMED: set[str] = set()


@quiet()
def discover(
    config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], own: ModelClass | None = None
) -> ModelLayout:
    """What every axis of every stored tensor means.

    `config` is the JSON of `config.json`, `tensors` are the stored tensors in file order; `own` is the config's class, if
    it has been built already. No weights are read and none are allocated. Raises GrowthError, with the reason and the
    remedy, for checkpoints that cannot be grown.
    """
    row = checks.find_family(config)
    if row is not None:
        check_config(row, config, tensors)
    return lay_out(find_row(config), config, tensors, own)


def find_row(config: Mapping[str, Any]) -> Family:
    """The row of a config: of the table, or a guess that a tiny twin confirms. Raises GrowthError where there is none."""
    row = checks.find_family(config)
    # Other options of a type that a twin has confirmed are another model.
    if row is not None and not (row.derived_row and _identity(config) not in _CONFIRMED):
        return row
    row = adopt(config)
    _CONFIRMED.add(_identity(config))
    return row


def _identity(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)


def lay_out(
    family: Family, config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], own: ModelClass | None = None
) -> ModelLayout:
    """What every axis of every stored tensor means by a row, which may not be in the table."""
    architecture = checks.find_architecture(family, config)
    loaded = config_object(family, config)
    knobs = find_knobs(family, loaded)
    sizes, num_layers = read_sizes(family, loaded, knobs), _num_layers(loaded, knobs)
    check_sizes(text_config(loaded), sizes, num_layers)
    method, built = quantized.method_of(config), own is not None
    stock = getattr(transformers, architecture, None)
    ignored = [re.compile(found) for found in getattr(stock, "_keys_to_ignore_on_load_unexpected", None) or ()]
    checks.check_layers(family, _without_extra(tensors, ignored, num_layers), num_layers)
    own = own or ModelClass(family, architecture, config)
    dropped = {name: reason for name in tensors if (reason := _unused(family, own, name, ignored))}
    stored = {name: spec for name, spec in tensors.items() if name not in dropped}
    weights = {name: method.weight_name(name) if method else name for name in stored}
    mine = {name: own.find(weight) for name, weight in weights.items()}
    strange = [name for name, spec in stored.items() if spec.dtype not in DTYPE_BYTES]
    pieces = {name for name, spec in stored.items() if method and method.is_piece(name, spec)}
    checks.check_dtypes(stored, pieces | {name for name in strange if mine[name][0].parameter in own.integers})
    whole, places = _whole_class(family, own, mine, config)
    if method is not None:
        shapes = {name: _shape(whole, weight, places[name]) for name, weight in weights.items()}
        quantized.check_pieces(method, config, stored, shapes)
    plain = {name: found for name, found in places.items() if name not in pieces}
    _check_shapes(whole, plain, stored)
    _check_complete(own, mine)
    ties, duplicates = _ties(whole, plain)
    dropped |= {
        name: f"tied to {original} by the class; must equal it, which grow checks"
        for name, original in duplicates.items()
    }
    stacks = find_stacks(whole.parameters, num_layers, family)
    shapes = {name: p.shape for name, p in whole.parameters.items() if p.module != "buffer"}
    kinds = layer_kinds(shapes, stacks, num_layers)
    if not built:
        own.check_runs(stacks.paths, kinds)
    width_refusal = method.refusal(stored) if method else reason_of(family.width_refusal, loaded)
    if own.unsaved and not width_refusal:
        width_refusal = f"its class computes {min(own.unsaved)} from the width and never stores it"

    def read_all(turned: Turned) -> dict[str, TensorLayout]:
        read_one = Reader(family, loaded, whole, turned, stacks, kinds, features(sizes))
        read = {
            name: read_one.piece(name, spec, places[name]) if name in pieces else read_one(name, spec, places[name])
            for name, spec in stored.items()
            if name not in duplicates
        }
        return with_biases(read)

    try:
        layouts = read_all(turn(family, whole.architecture, config, loaded, knobs, sizes, stacks, kinds, whole))
    except GrowthError:
        if not width_refusal:
            raise
        # A model that cannot grow in width can still be deepened, whatever its axes mean.
        layouts = read_all(Turned([], [], tuple(range(num_layers)), num_layers))
    head = whole.parameters.get(whole.head or "")
    head_name = None
    if head is not None:
        head_name = next((n for n, found in plain.items() if found[0].parameter == head.name), None)
        head_name = head_name or whole.file_name(head.name)
    tied = head is not None and head.shares != head.name
    # A head that reads an embedding of a size of its own sums over no copies.
    held = layouts.get(_ties_to(ties, head_name))
    reads_stream = held is not None and any(part.symbol == "hidden" for part in held.axes[-1].parts)
    return ModelLayout(
        model_type=family.model_type,
        architecture=architecture,
        config=config,
        tensors=layouts,
        num_layers=num_layers,
        sizes=sizes,
        tied_head=tied,
        head_norm=head_norm(family, whole, stacks, num_layers, layouts) if reads_stream else (),
        head_name=head_name,
        norm_offset=family.norm_offset,
        embedding_scaled=embedding_scaled(family, loaded),
        scale_dtype=family.scale_dtype,
        dropped=dropped,
        ties=ties,
        duplicates=duplicates,
        depth_warnings=tuple(t for key, t in family.depth_warnings.items() if not key or config.get(key)),
        head_power=family.head_power(loaded) if family.head_power else 0.0,
        initializer_range=_initializer_range(loaded),
        width_refusal=width_refusal,
        heads_refusal=reason_of(family.heads_refusal, loaded),
        identity_refusal=identity_refusal(family, loaded),
        keys={symbol: knobs.of(symbol) for symbol in dict.fromkeys(knobs.symbols.values())},
        layer_kinds=kinds,
        declared=family.build is not None,
        derived=family.derived_row,
        stacks=stacks.paths,
        quantized=method.name if method else "",
        notes=_notes(config, architecture),
    )


def adopt(config: Mapping[str, Any]) -> Family:
    """A row for a type that the table does not know, confirmed on a tiny twin of the model and registered.

    Raises GrowthError where no guess makes a clone that computes the same.
    """
    model_type = config["model_type"]
    reason = ""
    for family in trial.guesses(model_type):
        try:
            found = _tried(family, config)
        except GrowthError as error:
            found = str(error).rstrip(".")
        except Exception as error:  # whatever the class raises on a twin of this kind
            found = f"its twin fails with {type(error).__name__}: {error}"
        if not found:
            register_family(family)
            return family
        # Of the plainest guess.
        reason = reason or found
    raise trial.refusal(model_type, reason)


def _tried(family: Family, config: Mapping[str, Any]) -> str:
    """Where a twin's clone or deeper form differs from it; empty where nowhere."""
    small = trial.shrunk(family, config)
    architecture, loaded = checks.find_architecture(family, config), config_object(family, small)
    twin = trial.make_twin(architecture, loaded)
    specs = {name: TensorSpec(tuple(value.shape), "float64") for name, value in twin.named_parameters()}
    layout = lay_out(family, small, specs)
    knobs, count = find_knobs(family, loaded), layout.num_layers
    wider = grown(family, deepcopy(small), loaded, knobs, layout.sizes, trial.RATIOS, count, range(count))
    found = trial.try_width(layout, twin, trial.make_twin(architecture, wider))
    if found:
        return f"a clone of a tiny twin first differs from it at {found}"
    for index in trial.orders(count):
        try:
            deeper = grown(family, deepcopy(small), loaded, knobs, layout.sizes, {}, count, index)
        except GrowthError:
            if index == trial.orders(count)[-1]:
                raise
            continue
        error = trial.try_depth(layout, twin, trial.make_twin(architecture, deeper), index)
        return "" if error <= trial.BOUND else f"layers of a tiny twin differ once they are stacked (error {error:.1e})"
    raise AssertionError("there are orders to try")


def _initializer_range(loaded: PreTrainedConfig) -> float:
    """The standard deviation that the config gives, under one of its names; else the one of most classes."""
    found = (getattr(text_config(loaded), key, None) for key in ("initializer_range", "init_std", "emb_init_std"))
    return next((float(value) for value in found if isinstance(value, int | float) and value > 0), 0.02)


def _num_layers(loaded: PreTrainedConfig, knobs: Knobs) -> int:
    if not knobs.layers:
        raise GrowthError("config.json does not tell how many layers the model has.")
    count = read(loaded, knobs.layers[0])
    return len(count) if isinstance(count, (list, tuple)) else count


def _unused(family: Family, own: ModelClass, name: str, ignored: Sequence[re.Pattern[str]]) -> str | None:
    """Why a stored tensor is not carried over; None where it is."""
    is_buffer = any(f".{name}".endswith(f".{ending}") for ending in (*BUFFERS, *family.buffers))
    is_ignored = any(pattern.search(name) for pattern in ignored)
    if not (is_buffer or is_ignored) or own.find(name)[0].parameter in own.parameters:
        return None
    return "a buffer that the class computes itself" if is_buffer else "the class reads no such tensor and ignores it"


def _without_extra(names: Iterable[str], ignored: Sequence[re.Pattern[str]], count: int) -> list[str]:
    """The names but for those of layers behind the last one, which the class ignores: heads that predict more tokens."""
    extra = [n for n in names if (split_layer(n)[1] or 0) >= count and any(found.search(n) for found in ignored)]
    return list(names) if not extra else [name for name in names if name not in set(extra)]


def _notes(config: Mapping[str, Any], architecture: str) -> tuple[str, ...]:
    if not config.get("auto_map"):
        return ()
    return (
        f"config.json names code of its own (auto_map), which is never run: the model is taken for {architecture} of "
        f"transformers.",
    )


def _shape(whole: ModelClass, weight: str, places: Sequence[Place]) -> tuple[int, ...]:
    """The shape of a stored weight in the class."""
    cut = whole.files.get(whole.cut_name(weight))
    return cut[0] if cut else whole.parameters[places[0].parameter].shape


def _whole_class(
    family: Family, own: ModelClass, mine: Mapping[str, tuple[Place, ...]], config: Mapping[str, Any]
) -> tuple[ModelClass, Mapping[str, tuple[Place, ...]]]:
    """The config's class, or the first superset of it that knows every stored tensor; with the tensors' places in it."""
    if own.knows(mine):
        return own, mine
    for architecture in checks.supersets(family):
        if architecture == own.architecture:
            continue
        other = ModelClass(family, architecture, config)
        places = {name: other.find(name) for name in mine}
        if other.knows(places):
            return other, places
    unknown = [name for name, found in mine.items() if any(p.parameter not in own.parameters for p in found)]
    raise checks.unexpected(unknown, own.architecture, len(mine))


def _check_shapes(whole: ModelClass, places: Mapping[str, tuple[Place, ...]], stored: Mapping[str, TensorSpec]) -> None:
    """Raise GrowthError where file and class disagree on a shape, or two tensors hold the same."""
    holders: dict[tuple[str, str], str] = {}
    for name, spec in stored.items():
        if name not in places:
            continue
        checks.check_shape(name, spec.shape, _shape(whole, name, places[name]))
        for place in places[name]:
            held = place.parameter, str(place.index)
            if held in holders:
                raise GrowthError(f"{holders[held]} and {name} both hold {place.parameter}; remove one of them.")
            holders[held] = name


def _check_complete(own: ModelClass, mine: Mapping[str, tuple[Place, ...]]) -> None:
    """Raise GrowthError where a parameter of the config's class is not stored, or not all of it."""
    found = [place for places in mine.values() for place in places if place.parameter in own.parameters]
    loaded = {own.parameters[place.parameter].shares for place in found}
    absent = [
        name
        for name, parameter in own.parameters.items()
        if parameter.shares not in loaded and parameter.module != "buffer" and name not in own.unsaved
    ]
    cut = {own.cut_name(name) for name in mine}
    whole = {place.parameter for place in found if not place.index}
    absent += [name for name, (_, places) in own.files.items() if name not in cut and places[0].parameter not in whole]
    if absent:
        raise checks.missing(absent, own.architecture)


def _ties(whole: ModelClass, places: Mapping[str, tuple[Place, ...]]) -> tuple[dict[str, str], dict[str, str]]:
    """Tied parameters -> the stored tensor they share; and those of them that are stored all the same."""
    names = {found[0].parameter: name for name, found in places.items() if not found[0].index}
    kept: dict[str, str] = {}
    for parameter in whole.parameters.values():
        if parameter.name in names:
            kept.setdefault(parameter.shares, names[parameter.name])
    ties = {}
    for parameter in whole.parameters.values():
        if parameter.shares in kept:
            name = names.get(parameter.name) or whole.file_name(parameter.name)
            if name != kept[parameter.shares]:
                ties[name] = kept[parameter.shares]
    return ties, {name: original for name, original in ties.items() if name in places}


def _ties_to(ties: Mapping[str, str], name: str | None) -> str:
    return ties.get(name or "", name or "")

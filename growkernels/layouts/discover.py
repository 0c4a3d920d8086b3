"""From a config and the stored tensors' shapes to a layout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts import checks
from growkernels.layouts.base import ModelLayout, TensorLayout
from growkernels.layouts.classes import ModelClass, Parameter, split_layer
from growkernels.layouts.families import BUFFERS, Family
from growkernels.layouts.knobs import config_object, quiet, read_sizes
from growkernels.layouts.limits import check_config
from growkernels.layouts.probe import Probed, probe
from growkernels.plans.rule import Kind
from growkernels.rules.tensor import TensorSpec


@quiet()
def discover(
    config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], own: ModelClass | None = None
) -> ModelLayout:
    """What every axis of every stored tensor means.

    `config` is the JSON of `config.json`, `tensors` are the stored tensors in file order; `own` is the config's class, if
    it has been built already. No weights are read and none are allocated. Raises GrowthError, with the reason and the
    remedy, for checkpoints that cannot be grown.
    """
    check_config(config, tensors)
    family = checks.find_family(config)
    architecture = checks.find_architecture(family, config)
    dropped = {name: reason for name in tensors if (reason := _buffer(family, name))}
    stored = {name: spec for name, spec in tensors.items() if name not in dropped}
    checks.check_dtypes(stored)
    loaded = config_object(family, config)
    sizes, num_layers = read_sizes(family, loaded), getattr(loaded, family.layers)
    checks.check_layers(stored, num_layers)
    own = own or ModelClass(family, architecture, config)
    mine = own.parameter_names(stored)
    whole, names = _whole_class(family, own, mine, config)
    owners = _owners(own, mine, whole, names, stored)
    ties, duplicates = _ties(whole, owners)
    dropped |= {
        name: f"tied to {original} by the class; must equal it, which grow checks"
        for name, original in duplicates.items()
    }
    probed = probe(family, whole, config, sizes, getattr(loaded, family.positions))
    # A tied tensor is what its first parameter is (the embedding), even where the file calls it by the head's name.
    first = {name: whole.parameters[owners[name].shares] for name in stored if name not in duplicates}
    layouts = {name: _tensor(name, stored[name], p, probed[split_layer(p.name)[0]]) for name, p in first.items()}
    head = next((p for p in whole.parameters.values() if _is_head(p, probed)), None)
    head_name = None
    if head is not None:
        head_name = next((name for name, p in owners.items() if p.name == head.name), whole.file_name(head.name))
    return ModelLayout(
        model_type=family.model_type,
        architecture=architecture,
        config=config,
        tensors=layouts,
        num_layers=num_layers,
        sizes=sizes,
        tied_head=head is not None and head.shares != head.name,
        head_norm=_head_norm(family, layouts) if head is not None else (),
        head_name=head_name,
        norm_offset=family.norm_offset,
        embedding_scaled=family.embedding_scaled,
        dropped=dropped,
        ties=ties,
        duplicates=duplicates,
        depth_warnings=tuple(text for key, text in family.depth_warnings.items() if config.get(key)),
    )


def _buffer(family: Family, name: str) -> str | None:
    if any(f".{name}".endswith(f".{ending}") for ending in (*BUFFERS, *family.buffers)):
        return "a buffer that the class computes itself"
    return None


def _whole_class(
    family: Family, own: ModelClass, mine: Mapping[str, str], config: Mapping[str, Any]
) -> tuple[ModelClass, Mapping[str, str]]:
    """The config's class, or the first superset of it that knows every stored tensor; with the parameters' names in it."""
    if own.knows(mine):
        return own, mine
    for architecture in family.supersets:
        other = ModelClass(family, architecture, config)
        names = other.parameter_names(mine)
        if other.knows(names):
            return other, names
    raise checks.unexpected([n for n, p in mine.items() if p not in own.parameters], own.architecture, len(mine))


def _owners(
    own: ModelClass,
    mine: Mapping[str, str],
    whole: ModelClass,
    names: Mapping[str, str],
    stored: Mapping[str, TensorSpec],
) -> dict[str, Parameter]:
    """The parameter of each stored tensor, checked for shape and for completeness."""
    owners: dict[str, Parameter] = {}
    holders: dict[str, str] = {}
    for name, spec in stored.items():
        parameter = whole.parameters[names[name]]
        if parameter.name in holders:
            raise GrowthError(f"{holders[parameter.name]} and {name} both hold {parameter.name}; remove one of them.")
        checks.check_shape(name, spec.shape, parameter.shape)
        holders[parameter.name] = name
        owners[name] = parameter
    loaded = {own.parameters[p].shares for p in mine.values() if p in own.parameters}
    absent = [name for name, parameter in own.parameters.items() if parameter.shares not in loaded]
    if absent:
        raise checks.missing(absent, own.architecture)
    return owners


def _ties(whole: ModelClass, owners: Mapping[str, Parameter]) -> tuple[dict[str, str], dict[str, str]]:
    """Tied parameters -> the stored tensor they share; and those of them that are stored all the same."""
    names = {parameter.name: name for name, parameter in owners.items()}
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
    return ties, {name: original for name, original in ties.items() if name in owners}


def _tensor(name: str, spec: TensorSpec, parameter: Parameter, meaning: Probed) -> TensorLayout:
    group, layer = split_layer(name)
    kind = _kind(parameter, meaning)
    return TensorLayout(name, parameter.name, spec, kind, meaning.axes, meaning.input_axis, group, layer)


def _kind(parameter: Parameter, meaning: Probed) -> Kind:
    if parameter.module == "norm":
        return "norm"
    if parameter.module == "embedding":
        return "position" if meaning.positions else "embedding"
    if len(parameter.shape) == 1:
        return "bias"
    if meaning.input_axis is None:
        return "other"
    return "head" if _reads_stream_into_vocab(meaning) else "linear"


def _reads_stream_into_vocab(meaning: Probed) -> bool:
    if meaning.input_axis is None:
        return False
    output = meaning.axes[1 - meaning.input_axis]
    return str(output) == "vocab" and str(meaning.axes[meaning.input_axis]) == "hidden"


def _is_head(parameter: Parameter, probed: Mapping[str, Probed]) -> bool:
    return _reads_stream_into_vocab(probed[split_layer(parameter.name)[0]])


def _head_norm(family: Family, layouts: Mapping[str, TensorLayout]) -> tuple[str, ...]:
    return tuple(
        name
        for name, tensor in layouts.items()
        if tensor.kind == "norm"
        and tensor.layer is None
        and f".{tensor.parameter}".rpartition(".")[0].endswith(f".{family.head_norm}")
    )

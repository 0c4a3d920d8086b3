"""Checkpoints that cannot be grown, found before anything is read or written."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import cache
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

from growkernels.errors import GrowthError
from growkernels.layouts.families import ENCODER_DECODER, FAMILIES, REFUSALS, REMEDIES, Family, find
from growkernels.layouts.keys import STACKS
from growkernels.layouts.parameters import split_layer
from growkernels.layouts.quantized import method_of
from growkernels.rules.tensor import DTYPE_BYTES, TensorSpec

#: Tasks of transformers whose classes can be grown, in the order in which their classes are named.
_TASKS = tuple(
    f"FOR_{task}_" if task else ""
    for task in (
        "CAUSAL_LM",
        "SEQ_TO_SEQ_CAUSAL_LM",
        "SPEECH_SEQ_2_SEQ",
        "MASKED_LM",
        "",
        "SEQUENCE_CLASSIFICATION",
        "TOKEN_CLASSIFICATION",
        "QUESTION_ANSWERING",
        "IMAGE_CLASSIFICATION",
    )
)


def find_family(config: Mapping[str, Any]) -> Family | None:
    """The table row of a config; None for a type of transformers that no row covers. Raises GrowthError for all others."""
    for refusal in REFUSALS:
        _refuse(config, refusal.key, refusal.allowed, refusal.reason)
    method_of(config)
    model_type = config.get("model_type")
    if config.get("auto_map") and not _is_stock(config):
        _refuse(
            config, "auto_map", ({}, None), "the model's code comes with the checkpoint, and remote code is never run"
        )
    family = find(model_type)
    if family is None and isinstance(model_type, str) and model_type in CONFIG_MAPPING:
        return None
    if family is None:
        given = f"model_type {model_type!r} is not supported" if model_type else "config.json names no model_type"
        some = ", ".join(list(FAMILIES)[:6])
        raise GrowthError(
            f"{given}; supported are {some} and {len(FAMILIES) - 6} more. Add a type of transformers with "
            f"growkernels.register_family, and a class of your own with growkernels.declare_layout."
        )
    for refusal in (*family.refusals, *(() if family.encoder_decoder else (ENCODER_DECODER,))):
        _refuse(config, refusal.key, refusal.allowed, refusal.reason)
    return family


def _is_stock(config: Mapping[str, Any]) -> bool:
    """Whether a config names a class of transformers: that is the one which loads it, unless remote code is asked for."""
    model_type, architectures = config.get("model_type"), config.get("architectures")
    return (
        isinstance(model_type, str)
        and model_type in CONFIG_MAPPING
        and isinstance(architectures, list)
        and architectures[:1] != []
        and architectures[0] in _usual_tasks(model_type)
    )


def find_architecture(family: Family, config: Mapping[str, Any]) -> str:
    """The class that the config names. Raises GrowthError for one that cannot be grown."""
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else named
    known = architectures(family)
    if architecture not in known:
        given = (
            f"architecture {architecture!r} is not supported" if architecture else "config.json names no architecture"
        )
        raise GrowthError(
            f"{given}; model_type {family.model_type!r} can be grown with architectures set to one of {', '.join(known)}."
        )
    return architecture


def architectures(family: Family) -> tuple[str, ...]:
    """The classes of a family that can be grown."""
    return family.architectures or _usual_tasks(family.model_type)


@cache
def _usual_tasks(model_type: str) -> tuple[str, ...]:
    """The classes of transformers for the usual tasks of a type, that of the language model first."""
    mappings = [getattr(modeling_auto, f"MODEL_{task}MAPPING_NAMES") for task in _TASKS]
    return tuple(dict.fromkeys(name for mapping in mappings for name in _names(mapping.get(model_type))))


def _names(listed: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (listed,) if isinstance(listed, str) else listed or ()


def supersets(family: Family) -> tuple[str, ...]:
    """Classes to look up tensors in that the config's own class does not know."""
    return family.supersets or _usual_tasks(family.model_type)[:1]


def check_layers(family: Family, names: Iterable[str], num_layers: int) -> None:
    """Raises GrowthError where the file holds other layers than the config counts."""
    if family.layers_shared:
        return
    held: dict[str, set[int]] = {}
    for name in names:
        group, layer = split_layer(name)
        path = group.partition(".{}")[0]
        if layer is not None and (path.rpartition(".")[2] in STACKS or f".{path}".endswith(tuple(family.stacks))):
            held.setdefault(path, set()).add(layer)
    most = max(map(sorted, held.values()), key=len, default=[])
    if num_layers < 1 or not any(len(numbers) == num_layers for numbers in held.values()):
        given = num_layers if num_layers < 10**30 else "absurd"
        numbers = f" ({most[0]} to {most[-1]})" if most else ""
        raise GrowthError(
            f"The number of layers is {given} in config.json, but {len(most)}{numbers} in the checkpoint. "
            "It is incomplete, or the config is not that of these weights: take both from the same checkpoint."
        )


def check_dtypes(tensors: Mapping[str, TensorSpec], integers: Container[str]) -> None:
    """Raises GrowthError for integer, fp8 and other dtypes that hold no plain weights. `integers` may be what they are."""
    for name, spec in tensors.items():
        if spec.dtype not in DTYPE_BYTES and name not in integers and spec.numel == 1:
            raise GrowthError(
                f"{name} is a counter, one {spec.dtype}, and no weight, and a grown model has no use for it: remove it from "
                "the checkpoint."
            )
        if spec.dtype not in DTYPE_BYTES and name not in integers:
            raise GrowthError(
                f"{name} is stored as {spec.dtype}; weights must be one of {', '.join(DTYPE_BYTES)}. "
                "Quantized weights cannot be grown: start from the checkpoint before quantization."
            )


def check_shape(name: str, stored: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raises GrowthError where file and config disagree."""
    if stored != expected and 0 in stored:
        raise GrowthError(
            f"{name} is empty, of shape {list(stored)} in place of {list(expected)}: its values were elsewhere when it was "
            f"saved, as under DeepSpeed ZeRO-3. Save again with stage3_gather_16bit_weights_on_model_save, or put the training "
            f"state together with its zero_to_fp32.py."
        )
    if stored != expected:
        raise GrowthError(
            f"{name} has shape {list(stored)}, but config.json gives {list(expected)}. "
            "The config is not that of these weights: take both from the same checkpoint."
        )


def unexpected(names: list[str], architecture: str, count: int) -> GrowthError:
    """The error for stored tensors that no class of the family knows, of `count` in all."""
    if any("lora_" in name or "base_layer" in name for name in names):
        remedy = REMEDIES["peft_type"]
    elif 2 * len(names) > count:
        remedy = (
            f"these are {len(names)} of {count}, so that config.json names another class than they were saved from, or a "
            "wrapper of the model has changed their names (--strip-prefix leaves out what stands before them)"
        )
    else:
        remedy = "name the class that has them in architectures, or remove them if nothing needs them"
    return GrowthError(f"{_some(names)} in the checkpoint are unknown to {architecture}: {remedy}.")


def missing(names: list[str], architecture: str) -> GrowthError:
    """The error for parameters of the class that are not stored."""
    head = all(name.startswith("lm_head") for name in names)
    remedy = (
        "if the head shares the embedding's weights, set tie_word_embeddings to true in config.json"
        if head
        else "the checkpoint is incomplete, or config.json names another architecture than it was saved from"
    )
    return GrowthError(f"{_some(names)} of {architecture} are missing from the checkpoint: {remedy}.")


def _refuse(config: Mapping[str, Any], key: str, allowed: tuple[Any, ...], reason: str) -> None:
    value = config.get(key)
    if value is not None and value not in allowed:
        remedy = REMEDIES.get(key, "choose a checkpoint without it")
        raise GrowthError(f"config.json sets {key} to {value!r}: {reason}; {remedy}.")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more tensors" if len(names) > 3 else f"Tensors {shown}"

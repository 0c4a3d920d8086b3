"""Types that the table does not know: generic rules, tried on a tiny twin of the model before anything is grown.

The twin has the config's own options with few and narrow layers, and random weights. Its clone of twice the width and its
deeper form are made from the layout alone and compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from math import gcd
from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout, Symbol, TensorLayout
from growkernels.layouts.family import Family
from growkernels.layouts.knobs import config_object, find_knobs, read, read_sizes, set_path
from growkernels.layouts.parts import KNOWN_PARTS
from growkernels.layouts.turn import grown

#: Largest error over the largest output: stock classes round to float32 inside, over a thousand times in a row.
BOUND = 1e-4
_WIDTH = 2
_VOCAB, _LENGTH = 128, 12

RATIOS: dict[Symbol, int] = dict.fromkeys(("hidden", "heads", "kv_heads", "inner", "groups", "ffn"), _WIDTH)


def guesses(model_type: str) -> tuple[Family, ...]:
    """Rows that a type without one may have, the most common first; then with the fused parts of other types' rows."""
    plain = Family(model_type, derived_row=True)
    scaled = replace(plain, embedding_scaled=True)
    rows = plain, replace(plain, norm_offset=1.0), scaled, replace(scaled, norm_offset=1.0)
    return *rows, *(replace(row, outputs=KNOWN_PARTS) for row in rows)


def orders(count: int) -> tuple[list[int], ...]:
    """Orders of twice the layers that are tried until the config can say one: the stack again, and each layer twice."""
    return [*range(count), *range(count)], sorted([*range(count), *range(count)])


def shrunk(family: Family, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with all widths divided by what they have in common, two layers of each kind at most, and few tokens."""
    small = deepcopy(dict(config))
    loaded = config_object(family, small)
    knobs = find_knobs(family, loaded)
    sizes = read_sizes(family, loaded, knobs)
    count = read(loaded, knobs.layers[0])
    widths = [
        read(loaded, path) for symbol in ("hidden", "heads", "kv_heads", "inner", "groups") for path in knobs.of(symbol)
    ]
    numbers = [value for value in widths if isinstance(value, int)]
    kv_heads = sizes.get("kv_heads", 0)
    # At least two key and value heads are left, where there are two: a single one would not grow.
    common = gcd(*(n for n in numbers if n != 1)) if len(numbers) > 1 else 1
    divisor = max(d for d in range(1, common + 1) if common % d == 0 and (kv_heads // d >= 2 or d == 1))
    for symbol, path in [(s, p) for p, s in knobs.symbols.items()]:
        value = read(loaded, path)
        if isinstance(value, int) and value > 1 and symbol in ("hidden", "heads", "kv_heads", "inner", "groups", "ffn"):
            set_path(family, small, path, value // divisor if symbol != "ffn" else _narrow(value))
    if "head_dim" in sizes and read(loaded, f"{knobs.text}head_dim") is not None:
        set_path(family, small, f"{knobs.text}head_dim", sizes["head_dim"])
    for path in knobs.of("vocab"):
        set_path(family, small, path, min(read(loaded, path), _VOCAB))
    for key, value in small.items():
        if key.endswith("token_id") and isinstance(value, int) and value >= _VOCAB:
            small[key] = 0
    few = _few_layers(loaded, count)
    narrow = config_object(family, small)
    grown(family, small, narrow, find_knobs(family, narrow), read_sizes(family, narrow, knobs), {}, count, few)
    return small


def _narrow(size: int) -> int:
    """The smallest even part of a size that is left at 32 or more; halves are told from each other then."""
    return min((size // d for d in range(1, size // 32 + 1) if size % d == 0 and size // d % 2 == 0), default=size)


def _few_layers(loaded: Any, count: int) -> Sequence[int]:
    """The first two layers of each kind, by the lists that the config has."""
    lists = [v for v in vars(loaded).values() if isinstance(v, list) and len(v) == count]
    kinds: dict[tuple[str, ...], list[int]] = {}
    for layer in range(count):
        kinds.setdefault(tuple(str(values[layer]) for values in lists), []).append(layer)
    return sorted(layer for layers in kinds.values() for layer in layers[:2])


def try_width(layout: ModelLayout, source: nn.Module, target: nn.Module) -> str:
    """Where the clone of twice the width first differs from the twin; empty where nowhere.

    `target` is the class of the grown config; its values are filled in from the layout.
    """
    state = source.state_dict()
    held = target.state_dict()
    with torch.no_grad():
        for tensor in layout.tensors.values():
            held[tensor.parameter].copy_(_clone(layout, tensor, state[tensor.parameter]))
    return _first_difference(source, target)


def _clone(layout: ModelLayout, tensor: TensorLayout, value: torch.Tensor) -> torch.Tensor:
    divisor, shift = 1.0, 0.0
    for number, axis in enumerate(tensor.axes):
        pieces = value.split([part.size for part in axis.parts], number)
        copies = [RATIOS.get(part.symbol, 1) for part in axis.parts]
        value = torch.cat([piece for piece, n in zip(pieces, copies, strict=True) for piece in [piece] * n], number)
        if number == tensor.input_axis:
            divisor = float(max(copies))
    divisor *= layout.power_of_width(_WIDTH, tensor.power)
    if layout.tied_head and tensor.name in layout.head_norm:
        divisor = _WIDTH / layout.power_of_width(_WIDTH, 0.5 if layout.embedding_scaled else 0.0)
        shift = layout.norm_offset if tensor.parameter.endswith("weight") else 0.0
    return (value + shift) / divisor - shift


def _first_difference(source: nn.Module, target: nn.Module) -> str:
    """The first module whose outputs are no copies of the twin's, if the logits are not equal; empty if they are."""
    seen: list[dict[str, torch.Tensor]] = [{}, {}]
    for outputs, model in zip(seen, (source, target), strict=True):
        for path, module in model.named_modules():
            module.register_forward_hook(_keeping(outputs, path))
        logits = _run(model)
        outputs["the logits"] = logits
    first, second = seen
    if _distance(first["the logits"], second["the logits"]) <= BOUND:
        return ""
    differ = (p for p in first if p and p in second and _distance(first[p], second[p]) > BOUND)
    return next(differ, "the logits")


def _keeping(outputs: dict[str, torch.Tensor], path: str) -> Any:
    def keep(module: nn.Module, inputs: object, output: object) -> None:
        value = output[0] if isinstance(output, tuple) and output else output
        if isinstance(value, torch.Tensor):
            outputs.setdefault(path, value.detach())

    return keep


def _distance(wanted: torch.Tensor, got: torch.Tensor) -> float:
    if got.shape[:-1] != wanted.shape[:-1] or got.shape[-1] % wanted.shape[-1]:
        return 0.0  # not features of the stream: nothing is told by them
    gap = (got.unflatten(-1, (-1, wanted.shape[-1])) - wanted.unsqueeze(-2)).abs().max()
    return float(gap / wanted.abs().max().clamp_min(1e-30))


@torch.no_grad()
def _run(model: nn.Module) -> torch.Tensor:
    text = cast(PreTrainedModel, model).config.get_text_config(decoder=True)
    most = min(_VOCAB, getattr(text, "vocab_size", _VOCAB)) // 2
    ids = torch.randint(3, most, (2, _LENGTH), generator=torch.Generator().manual_seed(0))
    output = model(input_ids=ids)
    return next(value for value in (getattr(output, "logits", None), output[0]) if value is not None)


def make_twin(architecture: str, config: Any) -> nn.Module:
    """The class of a small config with random weights, in float64 and eval mode."""
    for part in (config, *(v for v in vars(config).values() if isinstance(v, transformers.PreTrainedConfig))):
        part._attn_implementation = "eager"
        part._experts_implementation = "eager"
    model = getattr(transformers, architecture)(config).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator).double()
            if parameter.dim() > 1:
                parameter.copy_(noise * (0.7 if "emb" in name else parameter.shape[-1] ** -0.5))
            else:
                parameter.nan_to_num_().add_(0.25 * noise)
    return model


def try_depth(layout: ModelLayout, source: nn.Module, target: nn.Module, index: Sequence[int]) -> float:
    """The error of a deeper twin against the twin's own layers in that order: what a layer does is not its weights alone."""
    state, held = source.state_dict(), target.state_dict()
    with torch.no_grad():
        for name, value in held.items():
            value.copy_(state[_origin(name, layout.stacks, index)])
    wanted = deepcopy(target)
    for path in layout.stacks:
        places, layers = (cast(nn.ModuleList, model.get_submodule(path)) for model in (wanted, source))
        for place, layer in enumerate(index):
            places[place] = _renumbered(deepcopy(layers[layer]), places[place])
    return _distance(_run(wanted), _run(target))


def _origin(name: str, stacks: Iterable[str], index: Sequence[int]) -> str:
    """The name of the twin's tensor that a tensor of its deeper form is."""
    for path in stacks:
        match = re.match(rf"({re.escape(path)}\.)(\d+)(\..*)", name)
        if match:
            return f"{match.group(1)}{index[int(match.group(2))]}{match.group(3)}"
    return name


def _renumbered(layer: nn.Module, place: nn.Module) -> nn.Module:
    for moved, there in zip(layer.modules(), place.modules(), strict=True):
        for key in ("layer_idx", "layer_id", "config"):
            if hasattr(there, key):
                setattr(moved, key, getattr(there, key))
    return layer


def refusal(model_type: str, why: str) -> GrowthError:
    """The error for a type that generic rules do not fit."""
    return GrowthError(
        f"model_type {model_type!r} is not in the table, and generic rules do not fit it: {why}. Say what its class does in a "
        f"row: growkernels.register_family(Family({model_type!r}, ...)); docs/families.md shows how."
    )


def refuse_derived(layout: ModelLayout) -> None:
    """Raise GrowthError for a live model whose layout only a twin confirms: nothing would compare it with its source."""
    if layout.derived:
        raise GrowthError(
            f"{layout.model_type} is not in the table, and what its tensors mean was only checked on a twin: grow its "
            f"checkpoint by growkernels.grow_checkpoint, which compares source and target, and load it. Or, if you know the "
            f"layout to be right, say so by "
            f"growkernels.register_family(growkernels.layouts.Family({layout.model_type!r}))."
        )

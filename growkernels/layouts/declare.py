"""Layouts of plain modules: what their user tells of a class that is not of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any

from torch import nn

from growkernels.errors import GrowthError
from growkernels.layouts.base import Symbol
from growkernels.layouts.families import register_family
from growkernels.layouts.family import Declared, Family


def declare_layout(
    module: type[nn.Module] | nn.Module,
    build: Callable[[Mapping[str, Any]], nn.Module],
    *,
    layers: str,
    head: str = "",
    model_type: str = "",
    config_of: Callable[[nn.Module], Mapping[str, Any]] | None = None,
    keys: Mapping[str, Symbol | None] | None = None,
    outputs: Mapping[str, Declared] | None = None,
    inputs: Mapping[str, Declared] | None = None,
    **row: Any,
) -> Family:
    """Tell what the axes of a model of your own mean, so that it grows as models of transformers do.

    Sizes, shapes and module classes are read off the class itself, built anew with other sizes on the meta device; you say
    what they cannot tell. The declaration holds for this process.

    Args:
        module: The class, or a model of it.
        build: Makes a model from a config: a mapping of the same keys that `config_of` gives.
        layers: The config key of the number of layers. The layers are a `ModuleList` or `Sequential`.
        head: Path of the module that puts out the logits, such as `lm_head`; empty for models without one.
        model_type: Name of the type in `config.json`; the class's name in lower case by default.
        config_of: The config of a model, with plain values; by default that of its attribute `config`, a dataclass, a
            mapping or an object.
        keys: Config keys and what they count, beside the usual names (`n_embd`, `n_head`, `hidden_size`, ...).
        outputs: Ending of a module's name -> the parts of what it puts out, such as `{"attn.c_attn": 3}` for fused q|k|v.
        inputs: The same of what it sums over.
        row: Further fields of `growkernels.layouts.Family`, such as `head_norm` or `stacks`.

    Returns:
        The registered family.

    Raises:
        GrowthError: For a class that is no module, or fields that a family does not have.

    Example:
        >>> growkernels.declare_layout(
        ...     GPT, lambda config: GPT(GPTConfig(**config)), layers="n_layer", head="lm_head", outputs={"attn.c_attn": 3}
        ... )
        >>> growkernels.grow_model(model, width=2)
    """
    kind = module if isinstance(module, type) else type(module)
    if not issubclass(kind, nn.Module):
        raise GrowthError(f"{kind.__name__} is no nn.Module; give the class of your model.")
    if unknown := sorted(row.keys() - Family.__dataclass_fields__.keys()):
        raise GrowthError(f"{', '.join(unknown)}: unknown; expected fields of growkernels.layouts.Family.")
    family = Family(
        model_type or kind.__name__.lower(),
        architectures=(kind.__name__,),
        keys=keys or {},
        layers=layers,
        outputs=outputs or {},
        inputs=inputs or {},
        build=build,
        module=kind,
        config_of=config_of or own_config,
        head=head,
        **row,
    )
    register_family(family)
    return family


def own_config(model: nn.Module) -> dict[str, Any]:
    """The plain values of a model's `config`."""
    config = getattr(model, "config", None)
    if is_dataclass(config) and not isinstance(config, type):
        return asdict(config)
    if isinstance(config, Mapping):
        return dict(config)
    if config is None or not hasattr(config, "__dict__"):
        raise GrowthError(f"{type(model).__name__} has no config to read sizes from; give config_of.")
    return {key: value for key, value in vars(config).items() if not key.startswith("_")}

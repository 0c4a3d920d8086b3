"""What is done to live models that keeps their weights from being seen: each with the way back."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize

from growkernels.errors import GrowthError

_MASK = "_mask"


def check_changes(model: nn.Module) -> None:
    """Raise GrowthError for a model that is pruned, parametrized or quantized, shares modules, or has its weights elsewhere."""
    paths: dict[int, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        # An activation has no weights: some classes hold one for all layers.
        if id(module) in paths and any(True for _ in module.parameters()):
            raise GrowthError(
                f"{path} and {paths[id(module)]} are one module, whose weights train together; grown layers would not: give "
                f"each a module of its own (copy.deepcopy) first."
            )
        paths[id(module)] = path
        _check_module(path, module)
    for name, parameter in model.named_parameters():
        if not parameter.numel():
            raise GrowthError(
                f"{name} is empty: its values are on other processes, as under DeepSpeed ZeRO-3, or a growth that failed has "
                f"taken them. Gather them (deepspeed.zero.GatheredParameters), or load the model again."
            )


def _check_module(path: str, module: nn.Module) -> None:
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        tensor = next(iter(module.parametrizations))
        raise GrowthError(
            f"{path}.{tensor} is parametrized: what it is made of cannot be grown. Call "
            f"torch.nn.utils.parametrize.remove_parametrizations(module, {tensor!r}) first, which keeps its values; or fold() "
            f"of its GrowthMask."
        )
    for mask in module._buffers:
        tensor = mask.removesuffix(_MASK)
        if mask.endswith(_MASK) and f"{tensor}_orig" in module._parameters:
            raise GrowthError(
                f"{path}.{tensor} is pruned, and its mask cannot be grown. Call torch.nn.utils.prune.remove(module, "
                f"{tensor!r}) first, which keeps the zeros."
            )
    if "quantized" in type(module).__module__:
        raise GrowthError(
            f"{path} is quantized ({type(module).__module__}.{type(module).__name__}): grow the model before it is quantized."
        )

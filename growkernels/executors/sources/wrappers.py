"""Names of tensors that a wrapper of the model has prefixed: recognized, and read without the prefix on request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

from growkernels.errors import GrowthError

_Value = TypeVar("_Value")

#: What wrappers put before names, and which; no class of transformers has such a name.
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DistributedDataParallel or another wrapper",
    "_fsdp_wrapped_module.": "FullyShardedDataParallel",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "_forward_module.": "Lightning",
    "base_model.model.": "an adapter of peft",
}


def pattern(prefix: str) -> str:
    """The regular expression of a prefix, at the start of a name or after a dot; its first group is what stays."""
    return rf"(^|\.){re.escape(prefix)}"


def strip(named: Mapping[str, _Value], prefix: str) -> dict[str, _Value]:
    """The same values by their names without the prefix. Raises GrowthError if no name has it, or two become one."""
    found = re.compile(pattern(prefix))
    renamed = {found.sub(r"\1", name): value for name, value in named.items()}
    if len(renamed) < len(named):
        raise GrowthError(
            f"two tensors have the same name without the prefix {prefix!r}; give another prefix, or none."
        )
    if renamed.keys() == named.keys():
        raise GrowthError(
            f"no tensor's name has the prefix {prefix!r}; the first is {next(iter(named), 'none')!r}. Give the prefix with "
            f"its dot, or none."
        )
    return renamed


def check_wrappers(names: Sequence[str]) -> None:
    """Raise GrowthError, with the prefix and what to do, where a wrapper has prefixed the names."""
    prefix, wrappers, rest = "", [], list(names)
    while rest:
        # A compiled model has it before every name, compiled layers before theirs.
        found = next((p for p in _WRAPPERS if all(name.startswith(p) for name in rest)), None)
        if found is None:
            break
        prefix, rest = prefix + found, [name.removeprefix(found) for name in rest]
        wrappers.append(_WRAPPERS[found])
    inside = [name for name in rest if "_orig_mod." in name] if not prefix else []
    if inside:
        prefix, wrappers = "_orig_mod.", [_WRAPPERS["_orig_mod."]]
    if not prefix:
        return
    if "base_model.model." in prefix:
        raise GrowthError(
            f"the names of the tensors begin with {prefix!r}, as peft's adapted models have them ({names[0]}): merge the "
            f"adapter (merge_and_unload in peft), save the merged model and grow that."
        )
    example = inside[0] if inside else names[0]
    raise GrowthError(
        f"names of tensors have the prefix {prefix!r} ({example}), which {' and '.join(wrappers)} puts there: read them "
        f"without it by --strip-prefix {prefix} (strip_prefix={prefix!r} in Python), or save the model without the wrapper."
    )

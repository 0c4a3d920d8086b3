"""Configs whose fields contradict each other where no shape shows it: the class cannot run, which the meta device tells.

Nothing is allocated, and one layer of each kind is run. What depends on values, such as the choice of experts, ends the run
without a verdict.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from growkernels.errors import GrowthError

#: What torch and Python say of sizes that do not fit. Everything else may be the fault of the meta device.
_CONTRADICTION = re.compile(
    r"size of tensor|Attempting to broadcast|sizes? .*must match|is invalid for input of size|cannot be multiplied"
    r"|expanded size|k out of range|split_with_sizes|list index out of range|division by zero|modulo by zero"
)
_LENGTH = 8


def check_runs(model: PreTrainedModel, stacks: Sequence[str], kinds: Sequence[int]) -> None:
    """Raise GrowthError for a model on the meta device that cannot run because sizes of its config contradict each other.

    stacks: paths of the modules that are its layers; kinds: a number for each layer, the same for layers that are alike.
    """
    one_of_each = [kinds.index(kind) for kind in sorted(set(kinds))]
    with _only(model, stacks, one_of_each):
        reason = _failure(model)
    if reason and len(one_of_each) < len(kinds):
        # A layer in the place of another one may fail for that alone.
        reason = _failure(model)
    if reason:
        raise GrowthError(
            f"transformers cannot run {type(model).__name__} as config.json describes it: {reason}. Sizes in it contradict "
            f"each other, or are not those of these weights: take both from the same checkpoint."
        )


@contextmanager
def _only(model: nn.Module, stacks: Sequence[str], layers: Sequence[int]) -> Iterator[None]:
    """The model with some of its layers alone."""
    held = [(module := model.get_submodule(path), module._modules) for path in stacks]
    for module, whole in held:
        module._modules = {str(place): whole[str(layer)] for place, layer in enumerate(layers) if str(layer) in whole}
    try:
        yield
    finally:
        for module, whole in held:
            module._modules = whole


def _failure(model: PreTrainedModel) -> str:
    """What a run on some tokens fails with, if it is a matter of sizes; empty if it is not."""
    reasons = []
    # Most classes take a mask of four axes as it is; those that do not read one of two, or none.
    masks = torch.zeros(1, 1, _LENGTH, _LENGTH), torch.ones(1, _LENGTH, dtype=torch.int64), None
    for mask in masks:
        reason = _run(model, mask)
        if reason is None:
            return ""
        reasons.append(reason)
    return next((reason for reason in reasons if _CONTRADICTION.search(reason)), "")


@torch.no_grad()
def _run(model: PreTrainedModel, mask: torch.Tensor | None) -> str | None:
    """The message that a run fails with; None if it does not."""
    config = model.config
    count = getattr(config.get_text_config(decoder=True), "num_codebooks", 1)
    tokens = torch.zeros(count, _LENGTH, dtype=torch.int64, device="meta")
    given = {"input_ids": tokens, "decoder_input_ids": tokens, "use_cache": False}
    if mask is not None:
        given["attention_mask"] = mask.to("meta")
    # Without the heads of tasks, which take inputs of forms of their own.
    base = model.base_model
    accepted = inspect.signature(base.forward).parameters
    was_training, experts = model.training, config._experts_implementation
    model.eval()
    # The usual one asks for a dtype.
    config._experts_implementation = "batched_mm"
    try:
        base(**{key: value for key, value in given.items() if key in accepted})
    except Exception as error:  # model classes raise many kinds
        return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    finally:
        model.train(was_training)
        config._experts_implementation = experts
    return None

"""What goes on training a live model that was grown: optimizers that hold parameters which are its no more."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook


def watch_optimizers(model: nn.Module, emptied: Iterable[Tensor], kept: Iterable[Tensor]) -> None:
    """Warn at the next step of an optimizer that trains a grown model only in part, once.

    It does if it holds parameters that the growth emptied; or if all optimizers that step hold some that were kept, and none
    those that are new. The hook leaves with the warning, with the first round of steps that train all of the model, and with
    the parameters.

    Args:
        model: the grown model.
        emptied: its parameters before the growth that are empty now.
        kept: those that it goes on with.
    """
    old = {id(parameter): weakref.ref(parameter) for parameter in emptied}
    same = {id(parameter) for parameter in kept}
    grown, kind = weakref.ref(model), type(model).__name__
    stepped: dict[int, set[int]] = {}

    def leave(optimizer: Optimizer) -> None:
        # Not at once: torch is walking through the hooks of this kind.
        optimizer.register_step_post_hook(lambda *_: handle.remove())

    def look(optimizer: Optimizer, *_: Any) -> None:
        living = grown()
        if living is None or not (same or any(parameter() is not None for parameter in old.values())):
            leave(optimizer)
            return
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        dead = sum(id(parameter) in old and old[id(parameter)]() is parameter for parameter in held)
        if dead:
            leave(optimizer)
            _warn(f"{dead} of the {len(held)} parameters of this {type(optimizer).__name__} were emptied when", kind)
            return
        if id(optimizer) not in stepped:
            stepped[id(optimizer)] = {id(parameter) for parameter in held}
            return
        # A second step of the same one: by now all that train the model have been seen.
        trained = set().union(*stepped.values())
        left_out = [p for p in living.parameters() if p.requires_grad and id(p) not in trained]
        if trained & same:
            leave(optimizer)
            if left_out:
                _warn(f"no optimizer holds {len(left_out)} parameters that came when", kind)

    handle = register_optimizer_step_pre_hook(look)


def _warn(what: str, kind: str) -> None:
    warnings.warn(
        f"{what} {kind} was grown: they do not train. Give optimizers to grow_model(model, optimizer), which grows them too. "
        f"Make a new optimizer of model.parameters(), and a new scheduler for it (with a Trainer: a new Trainer).",
        stacklevel=4,
    )

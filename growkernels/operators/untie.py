"""A layout whose LM head has its own weights."""

from __future__ import annotations

from dataclasses import replace

from growkernels.layouts.base import ModelLayout


def untied(layout: ModelLayout) -> ModelLayout:
    """The layout that the target has once every tie is cut: each tied parameter gets a tensor of its own.

    The new tensors have the meaning of the stored ones that `layout.ties` names; the LM head's weight becomes a head.
    """
    tensors = dict(layout.tensors)
    for name, source in layout.ties.items():
        tensors[name] = replace(layout.tensors[source], name=name, parameter=name, group=name)
    if layout.head_name is not None:
        head = tensors[layout.head_name]
        tensors[layout.head_name] = replace(
            head, kind="head", input_axis=len(head.axes) - 1, output_axis=0, power=layout.head_power
        )
    dropped = {name: reason for name, reason in layout.dropped.items() if name not in tensors}
    return replace(layout, tensors=tensors, tied_head=False, dropped=dropped)

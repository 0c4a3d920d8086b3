"""Kinds of layers that come round again, such as sliding and full attention: whether a target's layers still do."""

from __future__ import annotations

from collections.abc import Sequence

from growkernels.layouts.base import ModelLayout


def pattern_warnings(layout: ModelLayout, index: Sequence[int]) -> list[str]:
    """A warning where the source's kinds of layers have a period and the target's do not have the same."""
    kinds = _kinds(layout)
    count = len(kinds)
    periods = (p for p in range(1, count // 2 + 1) if kinds == kinds[:p] * (count // p))
    period = next(periods, 1)
    if period == 1 or all(kinds[source] == kinds[place % period] for place, source in enumerate(index)):
        return []
    return [
        f"Kinds of layers come round every {period} layers in the source ({', '.join(kinds[:period])}), and not in the target: "
        f"each copy keeps its kind. Whole copies of the stack keep the order, and so does block {period} where the operator "
        f"takes one (interpolate, llama_pro, average)."
    ]


def _kinds(layout: ModelLayout) -> list[str]:
    """What each layer is called, or numbers for the tensors that it has."""
    text = layout.config.get("text_config")
    config = text if isinstance(text, dict) and "layer_types" in text else layout.config
    names = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(names, list) and len(names) == layout.num_layers:
        return [str(name) for name in names]
    return [f"kind {number}" for number in layout.layer_kinds] or ["kind 0"] * layout.num_layers

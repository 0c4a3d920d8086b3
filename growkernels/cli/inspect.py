"""`growkernels inspect`: what a checkpoint is, axis by axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from growkernels.cli import options
from growkernels.cli.console import notes, print_json, results

if TYPE_CHECKING:
    from rich.console import RenderableType

    from growkernels.layouts import ModelLayout, TensorLayout

#: What is tried, to say what would be refused.
_TRIALS: dict[str, dict[str, Any]] = {
    "width": {"width": 2},
    "ffn": {"ffn": 2},
    "depth": {"depth": 2},
}

_SIZES = ("hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab")


def inspect(src: options.Source, strip_prefix: options.StripPrefix = "", json: options.Json = False) -> None:
    """Show what every axis of every tensor means, and what can and cannot be grown.

    Family and sizes; per kind of tensor its shape and axes (hidden, heads, kv_heads, ffn, vocab, or fixed), with a * at the
    one that the matrix product sums over; what is tied to what; what is not carried over; and whether width, ffn and depth
    can grow. A checkpoint that is refused altogether is refused here with the reason: exit status 2.
    """
    with notes.status("reading the layout"):
        from growkernels.executors import open_source
        from growkernels.layouts import discover

        source = open_source(src, strip_prefix)
        layout = discover(source.config, source.tensors)
        refusals = {name: _refusal(layout, trial) for name, trial in _TRIALS.items()}
    if json:
        print_json({"source": src, **_to_json(layout), "refusals": refusals})
    else:
        results.print(_show(layout, refusals))


def _refusal(layout: ModelLayout, trial: dict[str, Any]) -> str | None:
    from growkernels.errors import GrowthError
    from growkernels.operators import GrowthOptions, make_plan

    try:
        make_plan(layout, GrowthOptions(**trial))
    except GrowthError as error:
        return str(error)
    return None


def _groups(layout: ModelLayout) -> dict[str, list[TensorLayout]]:
    groups: dict[str, list[TensorLayout]] = {}
    for tensor in layout.tensors.values():
        groups.setdefault(tensor.group, []).append(tensor)
    return groups


def _axes(tensor: TensorLayout) -> str:
    return " x ".join(f"{axis}{'*' if i == tensor.input_axis else ''}" for i, axis in enumerate(tensor.axes))


def _to_json(layout: ModelLayout) -> dict[str, Any]:
    groups = [
        {
            "name": name,
            "count": len(tensors),
            "kind": tensors[0].kind,
            "shape": list(tensors[0].spec.shape),
            "dtype": tensors[0].spec.dtype,
            "axes": [[[part.symbol, part.size] for part in axis.parts] for axis in tensors[0].axes],
            "input_axis": tensors[0].input_axis,
        }
        for name, tensors in _groups(layout).items()
    ]
    names = (
        "model_type",
        "architecture",
        "num_layers",
        "tied_head",
        "head_name",
        "norm_offset",
        "embedding_scaled",
    )
    facts = {name: getattr(layout, name) for name in names}
    return {
        **facts,
        "sizes": dict(layout.sizes),
        "parameters": sum(t.spec.numel for t in layout.tensors.values()),
        "head_norm": list(layout.head_norm),
        "ties": dict(layout.ties),
        "dropped": dict(layout.dropped),
        "depth_warnings": list(layout.depth_warnings),
        "tensors": groups,
    }


def _show(layout: ModelLayout, refusals: dict[str, str | None]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from growkernels.report.tables import bytes_text, facts, shape_text, short, tensor_table

    tensors = layout.tensors.values()
    weights = (
        f"{short(sum(t.spec.numel for t in tensors))} parameters, {bytes_text(sum(t.spec.nbytes for t in tensors))}"
    )
    head = facts()
    head.add_row(
        "Model",
        f"{layout.architecture} ({layout.model_type}), {weights}, {layout.num_layers} layers",
    )
    head.add_row("Sizes", ", ".join(f"{name} {layout.sizes[name]}" for name in _SIZES if name in layout.sizes))
    if layout.head_name:
        head.add_row(
            "LM head",
            Text(f"{layout.head_name}, {'tied' if layout.tied_head else 'on its own'}"),
        )
        head.add_row("Norm before it", Text(", ".join(layout.head_norm) or "none with weights"))
    for name, original in layout.ties.items():
        head.add_row("Tied", Text(f"{name} = {original}"))
    for name, reason in layout.dropped.items():
        head.add_row("Not carried over", Text(f"{name}: {reason}"))
    rows = [
        (name, len(group), (group[0].kind, shape_text(group[0].spec.shape), _axes(group[0]), group[0].spec.dtype))
        for name, group in _groups(layout).items()
    ]
    columns = [("Kind", False), ("Shape", True), ("Axes (* summed over)", False), ("Type", False)]
    table = tensor_table(columns, rows, layout.num_layers)
    can = facts()
    for name, refusal in refusals.items():
        can.add_row(
            f"Grow {name}",
            Text("yes", "green") if refusal is None else Text(f"refused: {refusal}", "yellow"),
        )
    for text in layout.depth_warnings:
        can.add_row("Mind", Text(text))
    return Group(head, Text(), table, Text(), can)

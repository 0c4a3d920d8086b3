"""From a layout and options to a plan: depth says which source layer, width says what becomes of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache
from typing import TypeVar

from growkernels.errors import GrowthError
from growkernels.layouts import ModelLayout, TensorLayout, check_shapes, grow_config
from growkernels.layouts.heads import check_rotary, rotary_size
from growkernels.operators.base import DepthOperator, Layer, Made, Ratios, WidthOperator
from growkernels.operators.claims import make_claims, make_warnings
from growkernels.operators.experts import grow_experts
from growkernels.operators.head_dim import check_heads, widen_heads
from growkernels.operators.layer_rules import checked, faded, in_layer
from growkernels.operators.layers import MAX_LAYERS, parse_layers
from growkernels.operators.ligo import LIGO_DEPTH, LIGO_WIDTH
from growkernels.operators.noise_after import with_noise
from growkernels.operators.registry import depth_operators, width_operators
from growkernels.operators.untie import untied
from growkernels.options import GrowthOptions
from growkernels.plans import (
    DTYPE_BYTES,
    IndexVector,
    Learned,
    Plan,
    Rule,
    Segment,
    TensorSpec,
    Tile,
    Totals,
    noise_key,
)
from growkernels.plans.active import active_share, share_of

_Operator = TypeVar("_Operator")


def make_plan(layout: ModelLayout, options: GrowthOptions) -> Plan:
    """The plan of a growth: one rule for every tensor of the target, in the order of its file.

    Raises GrowthError where the options ask for what the model cannot be grown to.
    """
    depth = _choose(depth_operators(), options.depth_operator, "depth_operator")
    width = _choose(width_operators(), options.width_operator, "width_operator")
    _refuse_unread(options, depth, width)
    asked = options
    if options.noise_snr_db == "auto":
        options = replace(options, noise_snr_db=width.noise_snr_db)
    layers = _layers(layout, options, depth)
    if options.fade:
        layers = faded(layers, depth)
    _refuse_quantized(layout, options, depth, layers)
    layers = checked(layers, layout)
    index = tuple(layer.source for layer in layers)
    ratios = width.ratios(layout, options)
    if depth is LIGO_DEPTH and width is not LIGO_WIDTH:
        if max(ratios.values()) > 1:
            raise GrowthError(
                f"depth_operator ligo learns what {width.name} would set; give width_operator ligo too, or grow in two steps."
            )
        width, ratios = LIGO_WIDTH, LIGO_WIDTH.ratios(layout, options)
    _refuse_idle(options, width, ratios)
    heads = check_heads(layout, ratios)
    rotary = rotary_size(layout) if heads > 1 else 0
    noise_db = options.noise if "noise_snr_db" in width.reads else None
    experts = grow_experts(layout, asked, layers, ratios, learned=depth is LIGO_DEPTH or width is LIGO_WIDTH)
    if max(ratios.values()) == 1 and index == tuple(range(layout.num_layers)) and experts is None:
        given = f"num_layers {options.num_layers}" if options.layers is None else f"layers {options.layers!r}"
        if options.sizes:
            given = f"sizes {options.sizes}"
        remedy = "give larger ones" if options.sizes else "ask for more layers than it has"
        raise GrowthError(f"nothing to grow: {given} is the model as it is; {remedy}.")
    if LIGO_WIDTH is width and len(index) < layout.num_layers:
        raise GrowthError(
            f"layers {options.layers!r} gives {len(index)} layers, fewer than the source's {layout.num_layers}; ligo grows a "
            f"model and does not shrink it. Name at least {layout.num_layers} layers."
        )
    target = untied(layout) if options.untie and layout.tied_head else layout

    @cache
    def grow(name: str, feeds_head: bool) -> Tile | Learned:
        """The same for all copies of a layer, but for the norm that feeds the head from the last one."""
        tensor, here = target.tensors[name], target
        _refuse_undeclared(tensor, target, ratios)
        if tensor.layer is not None:
            here = replace(target, head_norm=(name,) if feeds_head else ())
        how = width.grow(tensor, here, ratios, options)
        if heads > 1 and isinstance(how, Tile):
            how = widen_heads(how, tensor, here, heads, rotary, noise_db)
        return _with_layers(tensor, how, index, layout.num_layers)

    last = {target.tensors[name].group for name in target.head_norm}
    rules = []
    for tensor, layer in _in_order(target, index):
        how = grow(tensor.name, layer == len(index) - 1 and tensor.group in last)
        sources: tuple[str, ...] = (layout.ties.get(tensor.name, tensor.name),)
        if layer is not None and depth.mixes:
            sources = tuple(_in_layer(tensor, number) for number in range(layout.num_layers))
        made = (Made(tensor, how),) if experts is None or isinstance(how, Learned) else experts.make(tensor, how)
        for one in made:
            how, drawn = one.how, sources
            if layer is not None and not depth.mixes:
                how = in_layer(how, layers[layer], one.tensor, target)
                if isinstance(how, Learned) and layers[layer].averaged:
                    drawn = (*sources, _in_layer(tensor, layers[layer].partner))
            if options.noise_after is not None:
                hidden = int(layout.sizes["hidden"] * ratios["hidden"])
                how = with_noise(how, one.tensor, options.noise_after, hidden, len(index))
            rules.append(_rule(one.tensor, layer, () if one.new else drawn, how, options, one.drawn_as))
    head = layout.ties.get(layout.head_name or "", layout.head_name) if layout.tied_head else None
    dtype = None if options.dtype == "keep" else options.dtype
    config = grow_config(layout, ratios, index, options.untie, dtype)
    if options.sizes:
        if heads > 1:
            check_rotary(layout, config, heads)
        if experts is None:
            check_shapes(layout, config, {rule.target: rule.spec.shape for rule in rules})
    return Plan(
        rules=tuple(rules),
        source_config=dict(layout.config),
        config=config if experts is None else experts.config(config),
        layer_index=index,
        options=asdict(options),
        seed=options.seed,
        claims=make_claims(rules, target, layers, depth, width, ratios, options, experts),
        warnings=(*make_warnings(rules, target, index, ratios, options), *(experts.warnings if experts else ())),
        dropped=dict(target.dropped),
        tied_head=head if target.tied_head else None,
        source_totals=_totals(layout, head),
    )


def _choose(operators: Mapping[str, _Operator], name: str, option: str) -> _Operator:
    if name not in operators:
        raise GrowthError(f"{option} is {name!r}; expected one of {', '.join(operators)}.")
    return operators[name]


def _refuse_unread(options: GrowthOptions, depth: DepthOperator, width: WidthOperator) -> None:
    """An option that only other operators read would be silently ignored; none of something is always true."""
    kinds: dict[str, Mapping[str, DepthOperator | WidthOperator]] = {
        "depth_operator": depth_operators(),
        "width_operator": width_operators(),
    }
    for field in fields(options):
        value = getattr(options, field.name)
        readers = [f"{kind} {o.name}" for kind, known in kinds.items() for o in known.values() if field.name in o.reads]
        if not readers or value in (field.default, None) or field.name in (*depth.reads, *width.reads):
            continue
        raise GrowthError(
            f"{field.name} is {value!r}, which depth_operator {depth.name} and width_operator {width.name} do not read. "
            f"Leave it out, or choose {' or '.join(readers)}."
        )


def _refuse_idle(options: GrowthOptions, width: WidthOperator, ratios: Ratios) -> None:
    """An option that says where something starts which does not grow, or is given by hand, would be silently ignored."""
    if options.layers is not None and options.block is not None:
        raise GrowthError(
            f"block {options.block} and layers {options.layers!r} both say which layers are repeated; give one of the two."
        )
    if options.layers is not None and options.depth_init != "stack":
        raise GrowthError(
            f"depth_init is {options.depth_init!r} and layers {options.layers!r}; both say where the layers start. Give one of "
            f"the two."
        )
    if width is LIGO_WIDTH and max(ratios.values()) == 1 and options.width_init != "tile":
        raise GrowthError(
            f"width_init is {options.width_init!r}, and no width grows that could start from it. Leave it out, or give width "
            f"or ffn."
        )


def _refuse_quantized(
    layout: ModelLayout, options: GrowthOptions, depth: DepthOperator, layers: Sequence[Layer]
) -> None:
    """Quantized weights are copied and nothing else."""
    copied = all(layer == Layer(layer.source) for layer in layers)
    if layout.quantized and (depth.mixes or options.dtype != "keep" or not copied):
        raise GrowthError(
            f"the weights are quantized ({layout.quantized}): their layers can be copied as they are (depth_operator gstack, "
            f"interpolate, solar, midas, lidas or layers), and nothing else. For more, dequantize the model and save it."
        )


def _refuse_undeclared(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios) -> None:
    """A tensor of a kind that is not known might be summed over: copied and not divided, it would change the function.

    What tensors of the table's families are was found on models of them.
    """
    if layout.declared and tensor.kind == "other" and len(tensor.axes) > 1:
        grown = [axis for axis in tensor.axes if any(ratios[part.symbol] > 1 for part in axis.parts)]
        if grown:
            shape = " x ".join(str(axis) for axis in tensor.axes)
            raise GrowthError(
                f"{tensor.name} ({shape}) would grow along {grown[0]}, and nothing says whether a product sums over that axis: "
                f"the growth may change the function. Grow in depth only, or declare the tensor's axes in its family."
            )


def _layers(layout: ModelLayout, options: GrowthOptions, depth: DepthOperator) -> tuple[Layer, ...]:
    if options.layers is not None:
        return depth.given(parse_layers(options.layers, layout.num_layers))
    count = options.target_layers(layout.num_layers)
    asked = f"num_layers {options.num_layers}" if options.depth is None else f"depth {options.depth}"
    if count > MAX_LAYERS:
        raise GrowthError(f"{asked} asks for {count} layers; more than {MAX_LAYERS} are taken for a mistake.")
    if count < layout.num_layers:
        raise GrowthError(
            f"{asked} is less than the source's {layout.num_layers} layers; depth operators make models deeper. Name the "
            f"layers to keep with layers."
        )
    found = depth.layers(layout.num_layers, options)
    if not found or not all(0 <= layer.source < layout.num_layers for layer in found):
        raise GrowthError(
            f"depth_operator {depth.name} gives layers {[layer.source for layer in found]}; expected at least one, each a "
            f"number from 0 to {layout.num_layers - 1}."
        )
    return found


def _in_layer(tensor: TensorLayout, layer: int | None) -> str:
    """The name that a tensor has in a layer."""
    return tensor.name if layer is None else tensor.group.replace("{}", str(layer))


def _in_order(layout: ModelLayout, index: Sequence[int]) -> Iterator[tuple[TensorLayout, int | None]]:
    """Every tensor of the target with its layer: in file order, the layers in theirs where the first one stands."""
    layers: dict[int, list[TensorLayout]] = {}
    for tensor in layout.tensors.values():
        if tensor.layer is not None:
            layers.setdefault(tensor.layer, []).append(tensor)
    # Blocks that layers share are stored once.
    shared = {name for tied, name in layout.ties.items() if layout.tensors[name].layer is not None}
    given: set[str] = set()
    laid = False
    for tensor in layout.tensors.values():
        if tensor.layer is None:
            yield tensor, None
        elif not laid:
            laid = True
            for layer, source in enumerate(index):
                for member in layers.get(source, ()):
                    if member.name not in given:
                        yield member, layer
                    given |= {member.name} & shared


def _with_layers(tensor: TensorLayout, how: Tile | Learned, index: Sequence[int], count: int) -> Tile | Learned:
    """Axes that hold a block for each layer follow the layers."""
    if isinstance(how, Learned) or not any(str(axis) == "layers" for axis in tensor.axes):
        return how
    followed = list(how.axes)
    for number, axis in enumerate(tensor.axes):
        if str(axis) == "layers":
            block = axis.size // count
            followed[number] = IndexVector(tuple(Segment(block * layer, block) for layer in index))
    return replace(how, axes=tuple(followed))


def _rule(
    tensor: TensorLayout,
    layer: int | None,
    sources: tuple[str, ...],
    how: Tile | Learned,
    options: GrowthOptions,
    drawn_as: str = "",
) -> Rule:
    """The rule of one target tensor, with the numbers that are its own."""
    name = _in_layer(tensor, layer)
    if isinstance(how, Learned):
        how = replace(how, row=layer or 0)
    elif how.is_random:
        key = drawn_as.replace("{}", str(layer)) if drawn_as else name
        how = how.with_key(noise_key(options.seed, key))
    # What is no weight, such as a table of ids, stays what it is.
    kept = options.dtype == "keep" or tensor.spec.dtype not in DTYPE_BYTES
    spec = TensorSpec(how.shape, tensor.spec.dtype if kept else options.dtype)
    return Rule(name, sources, spec, how, tensor.group, layer, tensor.kind)


def _totals(layout: ModelLayout, tied_head: str | None) -> Totals:
    tensors = layout.tensors.values()
    active = active_share(layout.config)
    products = [t.spec.numel * share_of(t.name, active) for t in tensors if t.input_axis is not None]
    if tied_head is not None:
        products.append(layout.tensors[tied_head].spec.numel)
    return Totals(
        parameters=sum(t.spec.numel for t in tensors),
        nbytes=sum(t.spec.nbytes for t in tensors),
        flops_per_token=round(2 * sum(products)),
        layers=layout.num_layers,
    )

"""From a config and the stored tensors' shapes to a layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from transformers import PreTrainedConfig

from growkernels.errors import GrowthError
from growkernels.layouts import checks, trial
from growkernels.layouts.base import Axis, ModelLayout, Place, Symbol, TensorLayout
from growkernels.layouts.classes import ModelClass, Parameter
from growkernels.layouts.families import BUFFERS, Family, register_family
from growkernels.layouts.head import head_norm
from growkernels.layouts.knobs import Knobs, config_object, find_knobs, quiet, read, read_sizes, reason_of, text_config
from growkernels.layouts.limits import check_config
from growkernels.layouts.probe import Probed, Shapes, Subject, group_name, read_axes
from growkernels.layouts.stacks import Stacks, find_stacks, layer_kinds
from growkernels.layouts.turn import Turned, grown, target_name, turn
from growkernels.layouts.writers import identity_refusal, with_biases, writes_stream
from growkernels.plans.rule import Kind
from growkernels.rules.tensor import DTYPE_BYTES, TensorSpec


@quiet()
def discover(
    config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], own: ModelClass | None = None
) -> ModelLayout:
    """What every axis of every stored tensor means.

    `config` is the JSON of `config.json`, `tensors` are the stored tensors in file order; `own` is the config's class, if
    it has been built already. No weights are read and none are allocated. Raises GrowthError, with the reason and the
    remedy, for checkpoints that cannot be grown.
    """
    row = checks.find_family(config)
    if row is not None:
        check_config(row, config, tensors)
    return lay_out(row or adopt(config), config, tensors, own)


def find_row(config: Mapping[str, Any]) -> Family:
    """The row of a config: of the table, or a guess that a tiny twin confirms. Raises GrowthError where there is none."""
    return checks.find_family(config) or adopt(config)


def lay_out(
    family: Family, config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], own: ModelClass | None = None
) -> ModelLayout:
    """What every axis of every stored tensor means by a row, which may not be in the table."""
    architecture = checks.find_architecture(family, config)
    loaded = config_object(family, config)
    knobs = find_knobs(family, loaded)
    sizes, num_layers = read_sizes(family, loaded, knobs), _num_layers(loaded, knobs)
    checks.check_layers(family, tensors, num_layers)
    own = own or ModelClass(family, architecture, config)
    dropped = {name: reason for name in tensors if (reason := _buffer(family, own, name))}
    stored = {name: spec for name, spec in tensors.items() if name not in dropped}
    mine = {name: own.find(name) for name in stored}
    strange = [name for name, spec in stored.items() if spec.dtype not in DTYPE_BYTES]
    checks.check_dtypes(stored, {name for name in strange if mine[name][0].parameter in own.integers})
    whole, places = _whole_class(family, own, mine, config)
    _check_shapes(whole, places, stored)
    _check_complete(own, mine)
    ties, duplicates = _ties(whole, places)
    dropped |= {
        name: f"tied to {original} by the class; must equal it, which grow checks"
        for name, original in duplicates.items()
    }
    stacks = find_stacks(whole.parameters, num_layers, family)
    shapes = {name: p.shape for name, p in whole.parameters.items() if p.module != "buffer"}
    kinds = layer_kinds(shapes, stacks, num_layers)
    # A model that cannot grow in width can still be deepened, whatever its axes mean.
    turned = Turned([], [], tuple(range(num_layers)), num_layers)
    if not (width_refusal := reason_of(family.width_refusal, loaded)):
        turned = turn(family, whole.architecture, config, loaded, knobs, sizes, stacks, kinds, whole)
    read_one = _Reader(family, loaded, whole, turned, stacks, kinds, _features(sizes))
    layouts = {name: read_one(name, stored[name], places[name]) for name in stored if name not in duplicates}
    layouts = with_biases(layouts)
    head = whole.parameters.get(whole.head or "")
    head_name = None
    if head is not None:
        head_name = next((n for n, found in places.items() if found[0].parameter == head.name), None)
        head_name = head_name or whole.file_name(head.name)
    tied = head is not None and head.shares != head.name
    # A head that reads an embedding of a size of its own sums over no copies.
    held = layouts.get(_ties_to(ties, head_name))
    reads_stream = held is not None and any(part.symbol == "hidden" for part in held.axes[-1].parts)
    return ModelLayout(
        model_type=family.model_type,
        architecture=architecture,
        config=config,
        tensors=layouts,
        num_layers=num_layers,
        sizes=sizes,
        tied_head=tied,
        head_norm=head_norm(family, whole, stacks, num_layers, layouts) if reads_stream else (),
        head_name=head_name,
        norm_offset=family.norm_offset,
        embedding_scaled=_embedding_scaled(family, loaded),
        scale_dtype=family.scale_dtype,
        dropped=dropped,
        ties=ties,
        duplicates=duplicates,
        depth_warnings=tuple(t for key, t in family.depth_warnings.items() if not key or config.get(key)),
        head_power=family.head_power(loaded) if family.head_power else 0.0,
        initializer_range=_initializer_range(loaded),
        width_refusal=width_refusal,
        identity_refusal=identity_refusal(family, loaded),
        keys={symbol: knobs.of(symbol) for symbol in dict.fromkeys(knobs.symbols.values())},
        layer_kinds=kinds,
        declared=family.build is not None,
        stacks=stacks.paths,
    )


def adopt(config: Mapping[str, Any]) -> Family:
    """A row for a type that the table does not know, confirmed on a tiny twin of the model and registered.

    Raises GrowthError where no guess makes a clone that computes the same.
    """
    model_type = config["model_type"]
    reason = ""
    for family in trial.guesses(model_type):
        try:
            found = _tried(family, config)
        except GrowthError as error:
            raise trial.refusal(model_type, str(error).rstrip(".")) from error
        except Exception as error:  # whatever the class raises on a twin of this kind
            raise trial.refusal(model_type, f"its twin fails with {type(error).__name__}: {error}") from error
        if not found:
            register_family(family)
            return family
        reason = reason or f"a clone of a tiny twin first differs from it at {found}"
    raise trial.refusal(model_type, reason)


def _tried(family: Family, config: Mapping[str, Any]) -> str:
    """Where a twin's clone or deeper form differs from it; empty where nowhere."""
    small = trial.shrunk(family, config)
    architecture, loaded = checks.find_architecture(family, config), config_object(family, small)
    twin = trial.make_twin(architecture, loaded)
    specs = {name: TensorSpec(tuple(value.shape), "float64") for name, value in twin.named_parameters()}
    layout = lay_out(family, small, specs)
    knobs, count = find_knobs(family, loaded), layout.num_layers
    wider = grown(family, deepcopy(small), loaded, knobs, layout.sizes, trial.RATIOS, count, range(count))
    found = trial.try_width(layout, twin, trial.make_twin(architecture, wider))
    if found:
        return found
    index = [*range(count), *range(count)]
    deeper = grown(family, deepcopy(small), loaded, knobs, layout.sizes, {}, count, index)
    error = trial.try_depth(layout, twin, trial.make_twin(architecture, deeper), index)
    return "" if error <= trial.BOUND else f"its layers once they are stacked (error {error:.1e})"


def _embedding_scaled(family: Family, loaded: PreTrainedConfig) -> bool:
    if family.embedding_scaled is not None:
        return family.embedding_scaled
    return read(text_config(loaded), "scale_embedding") is True


def _initializer_range(loaded: PreTrainedConfig) -> float:
    """The standard deviation that the config gives, under one of its names; else the one of most classes."""
    found = (getattr(text_config(loaded), key, None) for key in ("initializer_range", "init_std", "emb_init_std"))
    return next((float(value) for value in found if isinstance(value, int | float) and value > 0), 0.02)


def _num_layers(loaded: PreTrainedConfig, knobs: Knobs) -> int:
    if not knobs.layers:
        raise GrowthError("config.json does not tell how many layers the model has.")
    count = read(loaded, knobs.layers[0])
    return len(count) if isinstance(count, (list, tuple)) else count


def _buffer(family: Family, own: ModelClass, name: str) -> str | None:
    if any(f".{name}".endswith(f".{ending}") for ending in (*BUFFERS, *family.buffers)) and (
        own.find(name)[0].parameter not in own.parameters
    ):
        return "a buffer that the class computes itself"
    return None


def _whole_class(
    family: Family, own: ModelClass, mine: Mapping[str, tuple[Place, ...]], config: Mapping[str, Any]
) -> tuple[ModelClass, Mapping[str, tuple[Place, ...]]]:
    """The config's class, or the first superset of it that knows every stored tensor; with the tensors' places in it."""
    if own.knows(mine):
        return own, mine
    for architecture in checks.supersets(family):
        if architecture == own.architecture:
            continue
        other = ModelClass(family, architecture, config)
        places = {name: other.find(name) for name in mine}
        if other.knows(places):
            return other, places
    unknown = [name for name, found in mine.items() if any(p.parameter not in own.parameters for p in found)]
    raise checks.unexpected(unknown, own.architecture, len(mine))


def _check_shapes(whole: ModelClass, places: Mapping[str, tuple[Place, ...]], stored: Mapping[str, TensorSpec]) -> None:
    """Raise GrowthError where file and class disagree on a shape, or two tensors hold the same."""
    holders: dict[tuple[str, str], str] = {}
    for name, spec in stored.items():
        cut = whole.files.get(whole.cut_name(name))
        parameter = whole.parameters[places[name][0].parameter]
        checks.check_shape(name, spec.shape, cut[0] if cut else parameter.shape)
        for place in places[name]:
            held = place.parameter, str(place.index)
            if held in holders:
                raise GrowthError(f"{holders[held]} and {name} both hold {place.parameter}; remove one of them.")
            holders[held] = name


def _check_complete(own: ModelClass, mine: Mapping[str, tuple[Place, ...]]) -> None:
    """Raise GrowthError where a parameter of the config's class is not stored, or not all of it."""
    found = [place for places in mine.values() for place in places if place.parameter in own.parameters]
    loaded = {own.parameters[place.parameter].shares for place in found}
    absent = [n for n, p in own.parameters.items() if p.shares not in loaded and p.module != "buffer"]
    cut = {own.cut_name(name) for name in mine}
    whole = {place.parameter for place in found if not place.index}
    absent += [name for name, (_, places) in own.files.items() if name not in cut and places[0].parameter not in whole]
    if absent:
        raise checks.missing(absent, own.architecture)


def _ties(whole: ModelClass, places: Mapping[str, tuple[Place, ...]]) -> tuple[dict[str, str], dict[str, str]]:
    """Tied parameters -> the stored tensor they share; and those of them that are stored all the same."""
    names = {found[0].parameter: name for name, found in places.items() if not found[0].index}
    kept: dict[str, str] = {}
    for parameter in whole.parameters.values():
        if parameter.name in names:
            kept.setdefault(parameter.shares, names[parameter.name])
    ties = {}
    for parameter in whole.parameters.values():
        if parameter.shares in kept:
            name = names.get(parameter.name) or whole.file_name(parameter.name)
            if name != kept[parameter.shares]:
                ties[name] = kept[parameter.shares]
    return ties, {name: original for name, original in ties.items() if name in places}


def _ties_to(ties: Mapping[str, str], name: str | None) -> str:
    return ties.get(name or "", name or "")


def _features(sizes: Mapping[str, int]) -> dict[Symbol, int]:
    """Sizes in features, as axes count them."""
    features: dict[Symbol, int] = {name: sizes[name] for name in ("hidden", "ffn", "vocab") if name in sizes}
    return features | {name: sizes[name] * sizes["head_dim"] for name in ("heads", "kv_heads") if name in sizes}


class _Reader:
    """Reads the layouts of stored tensors, those of the same kind of tensor once."""

    def __init__(
        self,
        family: Family,
        loaded: PreTrainedConfig,
        whole: ModelClass,
        turned: Turned,
        stacks: Stacks,
        kinds: Sequence[int],
        features: Mapping[Symbol, int],
    ) -> None:
        self._family, self._loaded, self._whole = family, loaded, whole
        self._turned, self._stacks, self._features = turned, stacks, features
        self._scaled = _embedding_scaled(family, loaded)
        kept = [kinds[layer] for layer in turned.index]
        #: Source layer -> the layer of the turned classes that is of its kind.
        self._stands_for = [kept.index(kind) for kind in kinds]
        self._known: dict[tuple[str, tuple[int, ...]], Probed] = {}

    def __call__(self, name: str, spec: TensorSpec, places: tuple[Place, ...]) -> TensorLayout:
        """The layout of a stored tensor."""
        place = places[0]
        # A tied tensor is what its first parameter is (the embedding), even where the file calls it by the head's name.
        parameter = self._whole.parameters[self._whole.parameters[place.parameter].shares]
        layer = self._stacks.split(parameter.name)[1]
        group = group_name(name, layer)
        cut = self._whole.cut_name(name) if place.index or len(places) > 1 else None
        key = group, spec.shape
        if key not in self._known:
            self._known[key] = self._joined(places) if len(places) > 1 else self._read(name, spec, place, cut)
        probed = self._known[key]
        kind = _kind(parameter, probed, parameter.name == self._whole.head)
        return TensorLayout(
            name=name,
            parameter=parameter.name,
            spec=spec,
            kind=kind,
            axes=probed.axes,
            input_axis=probed.input_axis,
            group=group,
            layer=layer,
            output_axis=probed.output_axis,
            power=self._power(kind, parameter.name, probed.axes),
            writes_stream=layer is not None and writes_stream(self._family, parameter, probed),
            places=places if cut is not None else (),
        )

    def _joined(self, places: Sequence[Place]) -> Probed:
        """What a tensor means that is several parameters one after another."""
        read = []
        for place in places:
            shape = self._whole.parameters[place.parameter].shape
            read.append(self._read(place.parameter, TensorSpec(shape, ""), Place(place.parameter), None))
        axis = places[0].axis
        parts = tuple(part for one in read for part in one.axes[axis].parts)
        axes = tuple(Axis(parts) if number == axis else one for number, one in enumerate(read[0].axes))
        return replace(read[0], axes=axes)

    def _read(self, name: str, spec: TensorSpec, place: Place, cut: str | None) -> Probed:
        parameter = self._whole.parameters[self._whole.parameters[place.parameter].shares]
        layer = self._stacks.split(parameter.name)[1]
        subject = self._subject(name, spec, place, parameter, layer, cut)
        return read_axes(self._family, self._loaded, subject, self._features)

    def _subject(
        self, name: str, spec: TensorSpec, place: Place, parameter: Parameter, layer: int | None, cut: str | None
    ) -> Subject:
        shapes: Shapes = [({}, spec.shape)]
        for factors, built in zip(self._turned.turns, self._turned.classes, strict=True):
            there = parameter.name if cut is None else cut
            if layer is not None:
                number = self._stands_for[layer]
                if cut is None:
                    there = target_name(there, self._stacks, number)
                else:
                    there = group_name(cut, layer).replace("{}", str(number), 1)
            shape = built.parameters[there].shape if cut is None else built.files[there][0]
            shapes.append((factors, shape))
        return Subject(name, parameter, place, shapes)

    def _power(self, kind: Kind, name: str, axes: tuple[Axis, ...]) -> float:
        if kind == "embedding" and self._scaled and str(axes[-1]) == "hidden":
            return 0.5
        return next((p for ending, p in self._family.powers.items() if f".{name}".endswith(f".{ending}")), 0.0)


def _kind(parameter: Parameter, probed: Probed, is_head: bool) -> Kind:
    if parameter.module == "norm":
        return "norm"
    if parameter.module == "embedding":
        return "position" if probed.positions else "embedding"
    if is_head:
        return "head"
    if parameter.module == "buffer":
        return "other"
    if len(parameter.shape) == 1 or parameter.name.endswith("_bias"):
        return "bias"
    return "other" if probed.input_axis is None else "linear"

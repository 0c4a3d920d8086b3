"""From the probed classes to the layouts of stored tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from transformers import PreTrainedConfig

from growkernels.layouts.base import Axis, Part, Place, Symbol, TensorLayout
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.families import Family
from growkernels.layouts.knobs import read, text_config
from growkernels.layouts.parameters import Parameter
from growkernels.layouts.probe import Probed, Shapes, Subject, group_name, read_axes
from growkernels.layouts.stacks import Stacks
from growkernels.layouts.turn import Turned, target_name
from growkernels.layouts.writers import writes_stream
from growkernels.plans.rule import Kind
from growkernels.rules.tensor import TensorSpec


def embedding_scaled(family: Family, loaded: PreTrainedConfig) -> bool:
    """Whether the class multiplies its embedding by sqrt(hidden)."""
    if family.embedding_scaled is not None:
        return family.embedding_scaled
    return read(text_config(loaded), "scale_embedding") is True


def features(sizes: Mapping[str, int]) -> dict[Symbol, int]:
    """Sizes in features, as axes count them."""
    features: dict[Symbol, int] = {name: sizes[name] for name in ("hidden", "ffn", "vocab") if name in sizes}
    return features | {name: sizes[name] * sizes["head_dim"] for name in ("heads", "kv_heads") if name in sizes}


class Reader:
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
        self._scaled = embedding_scaled(family, loaded)
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

    def piece(self, name: str, spec: TensorSpec, places: tuple[Place, ...]) -> TensorLayout:
        """The layout of what is stored of a quantized weight: copied, whatever it means."""
        parameter = places[0].parameter
        layer = self._stacks.split(parameter)[1]
        axes = tuple(Axis((Part("fixed", size),)) for size in spec.shape)
        return TensorLayout(
            name, parameter, spec, "other", axes, None, group_name(name, layer), layer, places=(Place(parameter),)
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

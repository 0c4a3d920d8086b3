"""Layouts of models on the meta device, and shapes that a layout predicts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers import AutoConfig

from growkernels.layouts import ModelLayout, Symbol
from growkernels.plans import TensorSpec


def stored_config(family: str, architecture: str, **settings: Any) -> dict[str, Any]:
    """The `config.json` that transformers would write."""
    config = AutoConfig.for_model(family, architectures=[architecture], **settings)
    return json.loads(config.to_json_string(use_diff=False))


def class_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the class's own parameters, tied ones once, without the layouts package."""
    config = dict(config)
    loaded = AutoConfig.for_model(config.pop("model_type"), **config)
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(loaded)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def specs(shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32") -> dict[str, TensorSpec]:
    """Stored tensors of these shapes."""
    return {name: TensorSpec(shape, dtype) for name, shape in shapes.items()}


def predicted_shapes(layout: ModelLayout, ratios: Mapping[Symbol, int]) -> dict[str, tuple[int, ...]]:
    """Parameter -> the shape that its axes give for these ratios, layers as they are."""
    return {
        tensor.parameter: tuple(sum(p.size * ratios.get(p.symbol, 1) for p in axis.parts) for axis in tensor.axes)
        for tensor in layout.tensors.values()
    }

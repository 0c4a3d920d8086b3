"""The tensors that a class would write into its file, from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout
from growkernels.layouts.checks import find_architecture
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.discover import discover, find_row
from growkernels.layouts.knobs import quiet
from growkernels.layouts.quantized import method_of
from growkernels.rules.tensor import TensorSpec


@quiet()
def lay_out_config(config: Mapping[str, Any]) -> ModelLayout:
    """The layout of a model that is only a config: of every tensor that its class would write, in the config's dtype.

    Raises GrowthError for configs of models that cannot be grown.
    """
    if method_of(config) is not None:
        raise GrowthError(
            "config.json says that weights are quantized, and it takes their files to tell which: plan the folder."
        )
    family = find_row(config)
    own = ModelClass(family, find_architecture(family, config), config)
    dtype = str(own.dtype or torch.float32).removeprefix("torch.")
    # Not with the class that is built already: that of a live model, which runs.
    return discover(config, {name: TensorSpec(shape, dtype) for name, shape in own.written().items()})

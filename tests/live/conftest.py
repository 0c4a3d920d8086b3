"""Tiny models: more threads than one cost more than they give, and finding layouts most of all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from growkernels import live
from growkernels.layouts import ModelLayout, discover
from growkernels.plan import TensorSpec
from tests.end_to_end import support


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="package")
def each_layout_is_found_once() -> Iterator[None]:
    """Most of the time of growing a tiny model goes into finding its layout, here for a file, for a live model, and again."""
    found: dict[tuple[str, frozenset[Any]], ModelLayout] = {}

    def once(config: Mapping[str, Any], tensors: Mapping[str, TensorSpec]) -> ModelLayout:
        key = json.dumps(config, sort_keys=True), frozenset(tensors.items())
        if key not in found:
            found[key] = discover(config, tensors)
        layout = found[key]
        ordered = {name: layout.tensors[name] for name in tensors if name in layout.tensors}
        return replace(layout, config=config, tensors=ordered)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "discover", once)
        patch.setattr(support, "discover", once)
        yield

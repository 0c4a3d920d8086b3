"""Configs are run on the meta device: those whose sizes contradict each other fail, and no other."""

from __future__ import annotations

import json

import pytest
from transformers import CONFIG_MAPPING

from growkernels.errors import GrowthError
from growkernels.layouts.classes import ModelClass
from growkernels.layouts.discover import find_row
from growkernels.layouts.stacks import find_stacks, layer_kinds
from tests.coverage import twins


def _check(config: dict[str, object], count: int) -> None:
    family = find_row(config)
    own = ModelClass(family, config["architectures"][0], config)
    shapes = {name: p.shape for name, p in own.parameters.items() if p.module != "buffer"}
    stacks = find_stacks(shapes, count, family)
    own.check_runs(stacks.paths, layer_kinds(shapes, stacks, count))
    assert own._model.config._experts_implementation != "batched_mm"


def _stored(config, architecture: str) -> dict[str, object]:
    return {**json.loads(config.to_json_string(use_diff=False)), "architectures": [architecture]}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("codegen", {"n_head": 8}),
        ("gpt_neox_japanese", {"num_attention_heads": 5}),
        ("modernbert-decoder", {"num_attention_heads": 8}),
        ("deepseek_v3", {"head_dim": 12}),
        ("mpt", {"n_heads": 5}),
    ],
)
def test_sizes_that_contradict_each_other_are_found(name, changes):
    config = _stored(twins.make_config(name), twins.architecture(name))
    _check(config, 4)
    with pytest.raises(GrowthError, match=r"Sizes in it contradict each other"):
        _check({**config, **changes}, 4)


@pytest.mark.parametrize("name", ["llama", "mixtral", "deberta", "t5", "jamba", "qwen3_next", "mamba2", "gemma3n_text"])
def test_whole_configs_pass(name):
    config = twins.make_config(name)
    _check(_stored(config, twins.architecture(name)), config.num_hidden_layers)


@pytest.mark.slow
def test_configs_of_the_sizes_that_classes_start_with_pass():
    passed = 0
    for name, architecture in twins.CAUSAL.items():
        try:
            config = CONFIG_MAPPING[name]()
            stored = _stored(config, architecture)
            ModelClass(find_row(stored), architecture, stored)
            count = config.get_text_config().num_hidden_layers
        except Exception:  # some have no sizes to start with, and raise many kinds
            continue
        _check(stored, count)
        passed += 1
    assert passed > 140

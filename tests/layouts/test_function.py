"""Layouts say enough to clone a model: a plain clone, made from the layout alone, computes the source's function."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoConfig

from growkernels.layouts import Axis, ModelLayout, TensorLayout, discover, grow_config
from tests.families import make_variant, read_folder, variants


def repeat(tensor: torch.Tensor, dim: int, axis: Axis, ratios: dict[str, int], groups: int) -> torch.Tensor:
    """Each part end to end, `ratio` times; query heads inside their group where the kv heads stay."""
    parts = []
    for piece, part in zip(tensor.split([p.size for p in axis.parts], dim), axis.parts, strict=True):
        cut = piece.chunk(groups if part.symbol == "heads" else 1, dim)
        parts += [copy for group in cut for copy in [group] * ratios.get(part.symbol, 1)]
    return torch.cat(parts, dim)


def clone(layout: ModelLayout, tensor: TensorLayout, value: torch.Tensor, ratios: dict[str, int]) -> torch.Tensor:
    """The noise-free symmetric clone of one tensor."""
    groups = 1 if ratios["kv_heads"] == ratios["heads"] else layout.sizes["kv_heads"]
    for dim, axis in enumerate(tensor.axes):
        value = repeat(value, dim, axis, ratios, groups)
    n = ratios["hidden"]
    if tensor.input_axis is not None:
        value = value / ratios.get(tensor.axes[tensor.input_axis].parts[0].symbol, 1)
    scale = 1.0
    if tensor.kind == "embedding" and layout.embedding_scaled:
        scale = n**-0.5
    if layout.tied_head and tensor.name in layout.head_norm:
        scale = n**-0.5 if layout.embedding_scaled else 1 / n
    offset = layout.norm_offset if tensor.kind == "norm" else 0.0
    return (value + offset) * scale - offset


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("family", "variant"), variants())
def test_clone_computes_the_same(family, variant, n, tmp_path):
    _, model = make_variant(family, variant)
    model.save_pretrained(tmp_path)
    config, tensors = read_folder(tmp_path)
    layout = discover(config, tensors)
    # Both with the kv heads and, for n = 3, with the query heads alone inside their groups.
    ratios = {"hidden": n, "heads": n, "kv_heads": n if n == 2 and layout.sizes["kv_heads"] > 1 else 1, "ffn": 5 - n}
    grown = grow_config(layout, ratios, range(layout.num_layers), untie=False, dtype=None)
    target = getattr(transformers, layout.architecture)(AutoConfig.for_model(grown.pop("model_type"), **grown)).eval()
    state = model.state_dict()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.fill_(torch.nan)
        parameters = dict(target.named_parameters())
        for tensor in layout.tensors.values():
            parameters[tensor.parameter].copy_(clone(layout, tensor, state[tensor.parameter], ratios))
        tokens = torch.arange(12).reshape(2, 6) + 1
        expected, got = model(tokens)[0], target(tokens)[0]
    if "Model" in layout.architecture and layout.head_name is None:
        got = got.unflatten(-1, (n, -1))[..., 0, :]
    # fp32 sums over n times as many terms: a few units of rounding of the largest output.
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()

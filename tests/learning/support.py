"""Learned growth in plain NumPy: what each axis of each family's tensors is mapped by, and the formula."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from growkernels.executors import execute, open_source
from growkernels.executors.start import start_matrices
from growkernels.layouts import ModelLayout, discover
from growkernels.operators import GrowthOptions, make_plan
from growkernels.plans import Matrices, Plan
from tests.families import make_variant

#: The two operators.
LIGO = {"depth_operator": "ligo", "width_operator": "ligo"}

#: Matrices by axis, by the end of the tensor's name: `=` is the identity, `<` a matrix of heads named after the tensor's own
#: module, `<3` three of them side by side. The first row that fits counts.
_DECODER = {
    r"(q|k)_norm\.weight": "=",
    r"(embed_tokens|lm_head)\.weight": "= hidden",
    r"norm\.weight": "hidden",
    r"(q|k|v)_proj\.weight": "< hidden",
    r"(q|k|v)_proj\.bias": "<",
    r"o_proj\.weight": "hidden heads",
    r"(o|down)_proj\.bias": "hidden",
    r"(gate|up)_proj\.weight": "ffn hidden",
    r"(gate|up)_proj\.bias": "ffn",
    r"down_proj\.weight": "hidden ffn",
}
TIES = {
    "llama": _DECODER,
    "qwen3": _DECODER,
    "gpt2": {
        r"(w(t|p)e|lm_head)\.weight": "= hidden",
        r"ln_\w\.\w+": "hidden",
        r"c_attn\.weight": "hidden <3",
        r"c_attn\.bias": "<3",
        r"attn\.c_proj\.weight": "heads hidden",
        r"c_fc\.weight": "hidden ffn",
        r"c_fc\.bias": "ffn",
        r"mlp\.c_proj\.weight": "ffn hidden",
        r"c_proj\.bias": "hidden",
    },
    "gpt_neox": {
        r"embed_(in|out)\.weight": "= hidden",
        r"layer_?norm\.\w+": "hidden",
        r"query_key_value\.weight": "< hidden",
        r"query_key_value\.bias": "<",
        r"attention\.dense\.weight": "hidden heads",
        r"h_to_4h\.weight": "ffn hidden",
        r"h_to_4h\.bias": "ffn",
        r"4h_to_h\.weight": "hidden ffn",
        r"dense\w*\.bias": "hidden",
    },
    "bert": {
        r"(embeddings|predictions\.decoder)\.weight": "= hidden",
        r"LayerNorm\.\w+": "hidden",
        r"predictions\.(decoder\.)?bias": "=",
        r"(query|key|value)\.weight": "< hidden",
        r"(query|key|value)\.bias": "<",
        r"attention\.output\.dense\.weight": "hidden heads",
        r"intermediate\.dense\.weight": "ffn hidden",
        r"intermediate\.dense\.bias": "ffn",
        r"\d\.output\.dense\.weight": "hidden ffn",
        r"transform\.dense\.weight": "hidden hidden",
        r"dense\.bias": "hidden",
    },
}


def ties(family: str, name: str) -> list[list[str]]:
    """Names of the matrices of the parts of each axis; `=` for the identity."""
    axes = next(axes for ending, axes in TIES[family].items() if re.search(rf"{ending}$", name))
    module = re.sub(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", "{}", name).rpartition(".")[0]
    own = {"<": [module], "<3": [f"{module}[{part}]" for part in range(3)]}
    return [own.get(axis, [axis]) for axis in axes.split()]


def formula(family: str, plan: Plan, weights: dict[str, np.ndarray], target: str) -> np.ndarray:
    """`B (sum_j w_lj W_j) A^T` in float64, with whole matrices."""
    rule = next(rule for rule in plan.rules if rule.target == target)
    row = plan.matrices[rule.how.mix][rule.how.row].astype(np.float64)
    mixed = sum(w * weights[name].astype(np.float64) for w, name in zip(row, rule.sources, strict=True))
    for axis, names in enumerate(ties(family, target)):
        size = mixed.shape[axis] // len(names)
        parts = [np.eye(size) if name == "=" else _whole(plan.matrices[name], size) for name in names]
        big = np.zeros((sum(len(part) for part in parts), mixed.shape[axis]))
        for number, part in enumerate(parts):
            big[number * len(part) : (number + 1) * len(part), number * size : (number + 1) * size] = part
        mixed = np.moveaxis(np.tensordot(big, mixed, (1, axis)), 0, axis)
    return mixed


def _whole(matrix: np.ndarray, size: int) -> np.ndarray:
    """A matrix that acts on heads as one that acts on features."""
    return np.kron(matrix.astype(np.float64), np.eye(size // matrix.shape[1]))


def saved(folder: Path, family: str, variant: str = "plain", whole: bool = False) -> Path:
    """A tiny random model; `whole`: its weights are whole numbers from -3 to 3, none of them 0."""
    path = folder / f"{family}-{variant}-{whole}"
    if not path.exists():
        _, model = make_variant(family, variant)
        with torch.no_grad():
            for parameter in model.parameters() if whole else ():
                parameter.copy_(parameter.sign() * (1 + (parameter.abs() * 100).round() % 3))
                parameter.masked_fill_(parameter == 0, 1)
        model.save_pretrained(path)
    return path


@cache
def layout_of(source: Path) -> ModelLayout:
    """The layout of a saved model, found once."""
    opened = open_source(source)
    return discover(opened.config, opened.tensors)


def planned(source: Path, **options: Any) -> Plan:
    """A plan with the matrices that it starts from, learned unless the operators are given."""
    growth = GrowthOptions(**{**LIGO, **options})
    plan = make_plan(layout_of(source), growth)
    return plan.with_matrices(start_matrices(layout_of(source), plan, growth)) if plan.is_learned else plan


def whole_numbers(plan: Plan) -> Plan:
    """The plan with matrices of whole numbers from -2 to 2, so that float32 computes the formula exactly."""
    draw = np.random.default_rng(11)
    values = {name: draw.integers(-2, 3, value.shape).astype(np.float32) for name, value in plan.matrices.items()}
    return plan.with_matrices(Matrices(values))


def grown(source: Path, target: Path, plan: Plan) -> Path:
    """The plan carried out, without staging and verification."""
    target.mkdir()
    execute(open_source(source), plan, target)
    return target

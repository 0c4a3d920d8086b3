"""What learned growth computes: the formula, bit for bit, and what other operators compute where it starts from copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from growkernels import load_grown
from growkernels.plans import Plan
from growkernels.verification.logits import load_model
from tests.families import VARIANTS, make_model
from tests.learning.support import TIES, formula, grown, planned, saved, ties, whole_numbers

#: Rotary, grouped and multi-query, fused in parts and by heads, per-head norms, biases, tied and untied heads.
CASES = [
    ("llama", "plain"),
    ("llama", "mqa"),
    ("llama", "tied"),
    ("llama", "biases"),
    ("qwen3", "plain"),
    ("gpt2", "plain"),
    ("gpt_neox", "plain"),
    ("bert", "plain"),
    ("gpt2", "untied"),
    ("bert", "untied"),
]


#: Heads of their own where the family ties them, and tied where it does not.
HEADS = [("llama", "tied"), ("gpt_neox", "tied"), ("gpt2", "untied"), ("bert", "untied")]


@pytest.mark.parametrize(("family", "variant"), [*((family, "plain") for family in TIES), *HEADS])
def test_grown_weights_are_the_formula_and_load(family: str, variant: str, tmp_path: Path) -> None:
    source = saved(tmp_path, family, variant, whole=True)
    plan = whole_numbers(planned(source, depth=2, width=2))
    target = grown(source, tmp_path / "target", plan)
    weights, found = (load_file(folder / "model.safetensors") for folder in (source, target))
    assert found.keys() == {rule.target for rule in plan.rules}
    for name, value in found.items():
        # Whole numbers below 2^24: every order of the sums gives the same float32.
        wanted = formula(family, plan, weights, name)
        assert abs(wanted).max() < 2**24
        assert (value == wanted).all(), name
    model, unmatched = load_model(target, torch.float32)
    assert not unmatched
    # What stock transformers read is what it writes again.
    model.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == found.keys()
    assert all((again[name] == value).all() for name, value in found.items())


@pytest.mark.parametrize(("family", "variant"), CASES)
def test_matrices_are_shared_as_the_paper_says(family: str, variant: str, tmp_path: Path) -> None:
    plan = planned(saved(tmp_path, family, variant), depth=2, width=2)
    multi_query = variant == "mqa"
    for rule in plan.rules:
        wanted = ties(family, rule.target)
        if multi_query and rule.target.endswith(("k_proj.weight", "v_proj.weight")):
            wanted[0] = ["="]
        assert [[part.matrix or "=" for part in axis] for axis in rule.how.axes] == wanted, rule.target


STARTS = {
    "gstack": ({"depth": 2}, {"depth": 2}),
    "interpolate": ({"depth": 3, "depth_init": "interpolate"}, {"depth": 3, "depth_operator": "interpolate"}),
    "hypercloning": ({"width": 2}, {"width": 2}),
    "ffn": ({"ffn": 2}, {"ffn": 2}),
    "both": ({"width": 2, "depth": 2}, {"width": 2, "depth": 2}),
    "four times": ({"width": 4}, {"width": 4}),
}


@pytest.mark.parametrize(
    ("family", "variant", "start"),
    [
        *((family, "plain", "both") for family in TIES),
        *(("llama", "plain", start) for start in STARTS if start != "both"),
        ("gpt2", "plain", "interpolate"),
        ("bert", "plain", "ffn"),
        *(("llama", variant, "hypercloning") for variant in ("mqa", "biases", "tied")),
        ("llama", "tied", "untied"),
    ],
)
def test_starts_from_copies_are_the_other_operators(family: str, variant: str, start: str, tmp_path: Path) -> None:
    learned, other = {**STARTS, "untied": ({"width": 2, "untie": True},) * 2}[start]
    source = saved(tmp_path, family, variant)
    plain = {"depth_operator": "gstack", "width_operator": "hypercloning", "noise_snr_db": None}
    plans = (planned(source, init_noise=0, **learned), planned(source, **{**plain, **other}))
    first, second = (grown(source, tmp_path / str(i), plan) for i, plan in enumerate(plans))
    assert (first / "config.json").read_bytes() == (second / "config.json").read_bytes()
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        # In value: a product with zeros may give -0 where a copy gives 0.
        assert (a[name] == b[name]).all(), name


def test_the_families_are_those_that_have_variants() -> None:
    assert TIES.keys() == VARIANTS.keys() - {"gemma"}


def test_float64_is_rounded_once(tmp_path: Path) -> None:
    _, model = make_model("qwen3")
    model.double().save_pretrained(tmp_path / "source")
    plan = planned(tmp_path / "source", depth=2, width=3)
    wide = load_tensors(grown(tmp_path / "source", tmp_path / "wide", plan) / "model.safetensors")
    narrow = load_tensors(grown(tmp_path / "source", tmp_path / "narrow", _as(plan, "bfloat16")) / "model.safetensors")
    live = load_grown(tmp_path / "source", plan=_as(plan, "bfloat16")).state_dict()
    twice = 0
    for name, value in wide.items():
        mantissa, exponent = np.frexp(value.numpy())
        once = torch.from_numpy(np.ldexp(np.rint(mantissa * 2**8), exponent - 8))
        assert torch.equal(narrow[name].double(), once), name
        assert torch.equal(live[name].double(), once), name
        twice += int((value.float().bfloat16().double() != once).sum())
    assert twice, "no weight tells one rounding from two"


def _as(plan: Plan, dtype: str) -> Plan:
    return plan.with_rules(tuple(replace(rule, spec=replace(rule.spec, dtype=dtype)) for rule in plan.rules))

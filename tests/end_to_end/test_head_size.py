"""Larger heads, their number kept: rotary positions, slopes by head, and heads without positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from growkernels.errors import GrowthError
from growkernels.layouts.heads import HEADS as HEAD_FAMILIES
from tests.end_to_end.sizes import ALIBI, BOUND, OTHERS, error, make_other
from tests.end_to_end.support import grown, saved
from tests.families import make_model

#: Larger heads: of classes that derive their size from hidden and heads, with a stream as many times as wide.
HEADS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "plain", {"head_dim": 16}),
    ("llama", "tied", {"head_dim": 24, "hidden_size": 40, "width_operator": "net2net"}),
    ("llama", "biases", {"head_dim": 16, "hidden_size": 64}),
    ("qwen3", "biases", {"head_dim": 32}),
    ("qwen3", "tied", {"head_dim": 48, "hidden_size": 40, "width_operator": "lemon"}),
    ("gemma", "mqa", {"head_dim": 32, "hidden_size": 48, "width_operator": "zero"}),
    ("gpt2", "plain", {"head_dim": 16, "hidden_size": 64}),
    ("gpt2", "inner", {"head_dim": 24, "hidden_size": 96, "width_operator": "lemon"}),
    ("gpt_neox", "plain", {"head_dim": 16, "hidden_size": 64, "variant": "diagonal"}),
    ("gpt_neox", "tied", {"head_dim": 24, "hidden_size": 96, "width_operator": "lemon"}),
    ("bert", "plain", {"head_dim": 16, "hidden_size": 64}),
]


@pytest.mark.parametrize(("family", "variant", "options"), HEADS)
def test_larger_heads(family: str, variant: str, options: dict[str, Any], sources: Path, tmp_path: Path) -> None:
    source = saved(sources, family, variant, torch.float64)
    assert error(source, grown(source, tmp_path / "target", **options)) <= BOUND


@pytest.mark.parametrize(
    "family", ["mistral", "mixtral", "qwen3_moe", "gemma2", "gemma3_text", "gpt_oss", "phi", "opt"]
)
def test_larger_heads_of_other_families(family: str, tmp_path: Path) -> None:
    make_other(family, tmp_path / "source")
    options = {"head_dim": 16, "hidden_size": 64} if family in ("phi", "opt") else {"head_dim": 16}
    assert error(tmp_path / "source", grown(tmp_path / "source", tmp_path / "target", **options)) <= BOUND


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("family", ALIBI)
def test_slopes_by_head_are_kept_with_the_heads(family: str, copies: int, tmp_path: Path) -> None:
    make_other(family, tmp_path / "source")
    options = {"head_dim": 8 * copies, "hidden_size": 32 * copies}
    assert error(tmp_path / "source", grown(tmp_path / "source", tmp_path / "target", **options)) <= BOUND
    with pytest.raises(GrowthError, match="slopes of ALiBi depend on the number of heads"):
        grown(tmp_path / "source", tmp_path / "wide", width=copies)


def test_every_family_whose_heads_are_known_is_tested() -> None:
    tested = {family for family, _, _ in HEADS} | {*OTHERS, *ALIBI}
    assert HEAD_FAMILIES.keys() <= tested


ROPES: dict[str, tuple[dict[str, Any], str | None]] = {
    "linear": ({"rope_type": "linear", "factor": 4.0}, None),
    "llama3": (
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        None,
    ),
    "yarn": ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "truncate": False}, None),
    "yarn, truncated": (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        "truncate set to",
    ),
    "dynamic": ({"rope_type": "dynamic", "factor": 4.0}, "the angles of long inputs would differ"),
}


@pytest.mark.parametrize("rope", ROPES)
def test_rotary_positions_keep_their_angles(rope: str, tmp_path: Path) -> None:
    keys, message = ROPES[rope]
    _, model = make_model("llama", head_dim=8, rope_parameters={**keys, "rope_theta": 10000.0})
    model.double().save_pretrained(tmp_path / "source")
    if message is None:
        assert error(tmp_path / "source", grown(tmp_path / "source", tmp_path / "target", head_dim=16)) <= BOUND
        return
    with pytest.raises(GrowthError, match=message):
        grown(tmp_path / "source", tmp_path / "target", head_dim=16)

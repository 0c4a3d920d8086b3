"""Copies and splits of experts on a twin of every type whose router is in the table: what the table says was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from growkernels.layouts.keys import words
from growkernels.layouts.routing import ROUTINGS
from tests.coverage.sweep import Twin

#: Files that hold all experts in one tensor, and keys that size other networks too.
CANNOT_SPLIT = words(
    "granitemoe granitemoe_swa granitemoehybrid granitemoeshared gpt_oss jamba dbrx hunyuan_v1_moe llama4_text"
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(autouse=True)
def _wide_softmax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Routers that call the method and not the function cast to float32 in it."""
    original = torch.Tensor.softmax

    def softmax(self: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return original(self, dim, dtype=None if self.dtype == torch.float64 else dtype)

    monkeypatch.setattr(torch.Tensor, "softmax", softmax)


@pytest.mark.parametrize("name", ROUTINGS)
def test_experts_grow_exactly(name: str, tmp_path: Path) -> None:
    twin = Twin(name, tmp_path)
    options: list[dict[str, Any]] = [{"expert_copies": 2}, {"expert_copies": 3}]
    if name not in CANNOT_SPLIT:
        options.append({"expert_split": 2})
    errors = {str(one): twin.wider("grown", **one) for one in options}
    assert max(errors.values()) <= twin.bound, errors


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", words("deepseek_v3 dots1 glm4_moe axk1 qwen3_moe"))
def test_normalized_or_not(name: str, norm: bool, tmp_path: Path) -> None:
    twin = Twin(name, tmp_path, norm_topk_prob=norm)
    errors = [twin.wider("grown", **one) for one in ({"expert_copies": 2}, {"expert_split": 2})]
    assert max(errors) <= twin.bound, errors

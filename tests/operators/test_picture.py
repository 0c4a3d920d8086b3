"""Pictures: every kind of plan can be drawn, and what cannot be written is said."""

from __future__ import annotations

import pytest
from PIL import Image

from growkernels.errors import GrowthError
from growkernels.report import picture
from growkernels.report.picture import draw_plan
from tests.operators.support import make_source


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {"width": 2, "depth": 2}),
        ("gpt2", {"width": 3, "variant": "diagonal", "layers": "0,(0-1)*4,1"}),
        ("gemma", {"ffn": 3, "noise_snr_db": None}),
        ("bert", {"width": 17}),
        ("gpt_neox", {"depth": 200}),
        ("llama", {"layers": "1"}),
        ("llama", {"hidden_size": 48, "num_heads": 6, "num_kv_heads": 3, "width_operator": "net2net"}),
        ("gpt2", {"hidden_size": 72, "num_heads": 9, "width_operator": "lemon"}),
        ("qwen3", {"head_dim": 32, "noise_after": 0.2}),
    ],
)
def test_plans_are_drawn(family, options, tmp_path):
    path = tmp_path / "plan.png"
    draw_plan(make_source(family).plan(**options), path)
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width == 1920
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100


def test_a_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(GrowthError, match=r"cannot write the picture to .*: No such file"):
        draw_plan(make_source("llama").plan(width=2), tmp_path / "no" / "plan.png")


def test_more_blocks_than_a_picture_shows(tmp_path):
    with pytest.raises(GrowthError, match=r"has 1,000,000 blocks, which no picture shows.* fewer copies"):
        draw_plan(make_source("llama").plan(width=1000), tmp_path / "plan.png")
    assert not (tmp_path / "plan.png").exists()


def test_a_picture_needs_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    with pytest.raises(GrowthError, match=r"needs matplotlib; install it \(`pip install matplotlib`\)"):
        draw_plan(make_source("llama").plan(width=2), tmp_path / "plan.png")
    assert not (tmp_path / "plan.png").exists()

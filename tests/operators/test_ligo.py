"""LiGO as data: what is shared, what starts where, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from growkernels.errors import GrowthError
from growkernels.executors.start import start_matrices
from growkernels.operators import GrowthOptions
from growkernels.plans import Matrices, Plan
from growkernels.report.picture import draw_plan
from tests.operators.support import make_source

LIGO = {"depth_operator": "ligo", "width_operator": "ligo"}


def planned(family: str = "llama", variant: str = "plain", **options: Any) -> Plan:
    return make_source(family, variant).plan(**{**LIGO, **options})


def start(family: str = "llama", variant: str = "plain", **options: Any) -> Matrices:
    plan = planned(family, variant, **options)
    return start_matrices(make_source(family, variant).layout, plan, GrowthOptions(**{**LIGO, **options}))


def test_depth_mixes_all_layers_and_width_alone_none() -> None:
    options: dict[str, tuple[dict[str, Any], int, int]] = {
        "both": ({"depth": 3, "width": 2}, 6, 2),
        "width": ({"width": 2, "depth_operator": "gstack"}, 2, 1),
        "stacked": ({"depth": 3, "width": 2, "depth_operator": "gstack"}, 6, 1),
        "depth": ({"depth": 3, "width_operator": "hypercloning"}, 6, 2),
    }
    for given, layers, sources in options.values():
        matrices = start(**given)
        assert matrices["mix model.layers.{}.mlp.up_proj.weight"].shape == (layers, sources)
        assert matrices["mix model.norm.weight"].shape == (1, 1)
        assert ("hidden" in matrices) == ("width" in given)


@pytest.mark.parametrize("width_init", ["tile", "onehot", "normal", "convex"])
def test_width_starts_are_the_identity_above_what_was_asked_for(width_init: str) -> None:
    matrices = start(width=3, width_init=width_init, init_noise=0)
    hidden, heads = matrices["hidden"], matrices["heads"]
    assert hidden.shape == (96, 32) and heads.shape == (12, 4)
    assert (hidden[:32] == np.eye(32)).all()
    below = hidden[32:]
    if width_init == "tile":
        assert (below == np.tile(np.eye(32), (2, 1))).all()
    elif width_init == "onehot":
        assert (np.sort(below, axis=1) == np.eye(32)[[-1] * 64]).all()
        assert len(set(below.argmax(1).tolist())) > 16
    elif width_init == "normal":
        # 2048 numbers: mean and variance are off by more than five standard errors once in a million draws.
        assert abs(below.mean() * 96**0.5) < 5 / 2048**0.5
        assert abs((below**2).mean() * 96 - 1) < 5 * (2 / 2048) ** 0.5
    else:
        assert (below >= 0).all()
        assert abs(below.sum(1, dtype=np.float64) - 1).max() < 32 * 2**-24


def test_noise_tells_copies_apart_and_keeps_rows_of_mixes_at_one() -> None:
    matrices, plain = start(width=2, depth=2, init_noise=0.03), start(width=2, depth=2, init_noise=0)
    assert (matrices["hidden"][:32] == plain["hidden"][:32]).all()
    gap = matrices["hidden"][32:] - plain["hidden"][32:]
    assert abs((gap.astype(np.float64) ** 2).sum(1).mean() - 0.03**2) < 5 * 0.03**2 * (2 / 1024) ** 0.5
    mix = matrices["mix model.layers.{}.input_layernorm.weight"]
    assert (mix != plain["mix model.layers.{}.input_layernorm.weight"]).all()
    assert abs(mix.sum(1) - 1).max() < 2**-22
    assert start(width=2, depth=2, seed=1) != start(width=2, depth=2) == start(width=2, depth=2)


def test_products_over_grown_inputs_start_divided() -> None:
    matrices = start(variant="tied", width=2, init_noise=0)
    assert matrices["mix model.layers.{}.mlp.up_proj.weight"][1, 1] == 0.5
    assert matrices["mix model.layers.{}.self_attn.o_proj.weight"][1, 1] == 0.5
    assert matrices["mix model.layers.{}.input_layernorm.weight"][1, 1] == 1
    # The tied head sums over twice the stream and keeps the embedding's weights: the norm before it takes the half.
    assert matrices["mix model.embed_tokens.weight"] == 1
    assert matrices["mix model.norm.weight"] == 0.5
    assert start(width=2, init_noise=0)["mix lm_head.weight"] == 0.5


def test_interpolated_start() -> None:
    mix = start(depth=2, depth_init="interpolate", init_noise=0)["mix model.layers.{}.mlp.up_proj.weight"]
    assert (mix == np.eye(2)[[0, 0, 1, 1]]).all()


def test_claims_and_warnings() -> None:
    plan = planned(width=2, depth=2)
    assert [(claim.part, claim.holds) for claim in plan.claims] == [("depth", "no"), ("width", "no")]
    assert not plan.warnings
    assert any("--init-noise" in text for text in planned(width=2, init_noise=0).warnings)
    assert not planned(width=2, init_noise=0, width_init="normal").warnings
    assert not planned(depth=2, init_noise=0).warnings


REFUSED = {
    "gemma": ("gemma", {"width": 2}, "gamma - 1"),
    "depth alone learned": (
        "llama",
        {"depth": 2, "width": 2, "width_operator": "hypercloning"},
        "width_operator ligo too",
    ),
    "smaller": ("llama", {"layers": "0"}, "fewer than the source's 2"),
    "as it is": ("llama", {"layers": "0-1"}, "nothing to grow"),
    "depth start": ("llama", {"depth": 2, "depth_init": "middle"}, "stack, interpolate"),
    "width start": ("llama", {"width": 2, "width_init": "copy"}, "tile, onehot, normal, convex"),
    "noise": ("llama", {"width": 2, "init_noise": -0.1}, "at least 0"),
    "noise of copies": ("llama", {"width": 2, "noise_snr_db": 3}, "noise_snr_db is 3.0.*do not read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    family, options, words = REFUSED[case]
    with pytest.raises(GrowthError, match=words):
        planned(family, **options)


def test_no_noise_on_copies_goes_without_saying() -> None:
    assert planned(width=2, noise_snr_db=None).rules == planned(width=2).rules


def test_there_is_no_picture_of_copies(tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match="no copies"):
        draw_plan(planned(width=2), tmp_path / "plan.png")
    assert not list(tmp_path.iterdir())

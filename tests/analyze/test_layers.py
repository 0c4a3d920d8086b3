"""Copies in depth, and a checkpoint beside its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from growkernels.analyze import analyze
from growkernels.analyze.layers import connection_rate


@pytest.mark.parametrize(
    ("name", "index", "rate"),
    [
        ("deep", (0, 1, 0, 1), 2 / 3),
        ("deep-trained", (0, 1, 0, 1), 2 / 3),
        ("interpolated", (0, 0, 1, 1), 1 / 3),
        ("both", (0, 1, 0, 1), 2 / 3),
        ("noisy-trained", (0, 1), 1.0),
        ("scratch", (None, None), None),
    ],
)
def test_the_source_layer_of_every_layer(
    models: Path, name: str, index: tuple[int | None, ...], rate: float | None
) -> None:
    comparison = analyze(models / name, models / "src", spectra=False).comparison
    assert comparison is not None
    assert comparison.depth.index == index
    assert comparison.depth.connection_rate == (None if rate is None else pytest.approx(rate))


def test_copied_layers_are_found_without_a_source(models: Path) -> None:
    analysis = analyze(models / "deep-trained", spectra=False)
    assert analysis.depth.index == (0, 1, 0, 1)
    assert any("grown in depth; connection rate 67%" in text for text in analysis.findings)
    alone = analyze(models / "scratch", spectra=False)
    assert alone.depth.index == (0, 1) and alone.depth.connection_rate is None and not alone.findings


def test_connection_rate() -> None:
    assert connection_rate([0, 1, 2, 0, 1, 2]) == 4 / 5
    assert connection_rate([0, None, 1]) == 0
    assert connection_rate([0]) is None


def test_what_is_new_beside_the_source(models: Path) -> None:
    def means(name: str) -> dict[str, float]:
        comparison = analyze(models / name, models / "src").comparison
        assert comparison is not None
        inside = [change for change in comparison.changes if change.layer is not None]
        return {
            key: sum(getattr(change, key) or 0.0 for change in inside) / len(inside)
            for key in ("apart", "changed", "new_directions")
        }

    clean, noisy, trained, locked = (means(name) for name in ("clean", "noisy", "noisy-trained", "clean-trained"))
    # The source's directions hold 99 % of its energy.
    assert clean["apart"] < 1e-6 and clean["changed"] < 1e-3 and 0 < clean["new_directions"] <= 0.0101
    # Noise of a tenth of the energy, which cancels in the sum over copies: all of it is apart.
    assert noisy["apart"] == pytest.approx(0.1 / 1.1, rel=0.1) and noisy["changed"] < 1e-3
    assert trained["apart"] > noisy["apart"] and trained["changed"] > 0.1
    assert locked["apart"] < 1e-6 and locked["changed"] > 0.1 and locked["new_directions"] > clean["new_directions"]
    assert trained["new_directions"] > locked["new_directions"]


def test_the_stream(models: Path) -> None:
    analysis = analyze(models / "deep", spectra=False)
    assert [entry.layer for entry in analysis.stream] == [0, 1, 2, 3] and not analysis.not_run
    assert all(0 < entry.change < 10 and -1 < entry.cosine < 1 for entry in analysis.stream)

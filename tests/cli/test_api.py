"""The Python interface: the same road without the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

import growkernels
from growkernels.errors import GrowthError
from growkernels.plans import Plan
from tests.cli.support import snapshot


def test_three_functions(src: Path, tmp_path: Path) -> None:
    plan = growkernels.plan(src, width=2, noise_snr_db=20.0)
    assert isinstance(plan, Plan) and plan.config["hidden_size"] == 64
    stages = []
    with pytest.warns(UserWarning, match="LM head stays tied"):
        report = growkernels.grow_checkpoint(
            src, tmp_path / "dst", width=2, noise_snr_db=20.0, on_progress=lambda *now: stages.append(now)
        )
    assert report.target == tmp_path / "dst"
    assert report.verification is not None and report.verification.passed
    assert [rule.target for rule in report.plan.rules] == [rule.target for rule in plan.rules]
    assert all(rule.how.noise is None or rule.how.noise.std for rule in report.plan.rules)
    assert stages[-1] == ("verifying", 0, 0)
    done = [done for stage, done, total in stages[:-1] if (stage, total) == ("growing", report.nbytes)]
    assert done == sorted(done) and done[-1] == report.nbytes
    assert growkernels.verify(src, tmp_path / "dst").passed
    assert repr(report.verification) == f"Verification(passed, {len(plan.rules)} tensors, outputs)"
    assert repr(report).startswith(f"Report({str(src)!r} to {str(tmp_path / 'dst')!r}, {report.nbytes:,} bytes in ")
    assert len(repr(report)) < 200 + 2 * len(str(tmp_path))


def test_unknown_options_are_named(src: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    with pytest.raises(GrowthError, match="unknown option widht; expected some of depth, num_layers, layers"):
        growkernels.plan(src, widht=2)
    with pytest.raises(GrowthError, match="unknown option widht"):
        growkernels.grow_checkpoint(src, tmp_path / "dst", widht=2)
    assert snapshot(tmp_path) == before


def test_non_whole_ratios_are_refused(src: Path, tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match=r"width is 1\.5; expected a whole number"):
        growkernels.grow_checkpoint(src, tmp_path / "dst", width=1.5)
    assert growkernels.plan(src, width=2.0).options["width"] == 2

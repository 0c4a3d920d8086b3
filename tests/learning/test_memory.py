"""What a training step of learned growth holds at its peak, measured in a process of its own, is what docs/memory.md states."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.learning import make_source, run
from growkernels.learning import LearnedGrowth
from growkernels.ops.expand.forward import TUNING
from growkernels.plans.summary import summarize

#: What torch's matrix library keeps to pack its factors in, measured as 2 to 10 MB.
_LIBRARIES = 12 << 20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of a process are read from /proc")
def test_the_peak_of_a_step_is_the_stated_sum() -> None:
    hidden = 256
    found = run("ours", hidden, layers=8, tokens=8)
    parts = found["parts"]
    stated = sum(parts.values())
    # Activations have gradients too; a gradient becomes those of its matrices panel by panel, which are then added.
    panel, matrices = 4 * TUNING[False].panel, 4 * 2 * (1 + (11 / 4) ** 2) * hidden**2
    room = parts["activations"] + panel + matrices + _LIBRARIES
    assert stated - parts["activations"] <= found["peak"] <= stated + room
    # It would not hide a second copy of what is grown, or the gradients of a quarter of it.
    assert room < parts["grown"] / 3


def test_a_plan_states_it() -> None:
    growth = LearnedGrowth(make_source(64, 2), depth=2, width=2)
    growth._load_weights()
    source = sum(weight.nbytes for weight in growth._weights.values())
    operator = 4 * sum(matrix.nbytes for matrix in growth.matrices.values())
    grown = [weight.nbytes for weight in growth._grown().values()]
    plan = growth.materialise()
    assert summarize(plan).fit_bytes == source + operator + sum(grown) + max(grown)

"""The sweep over a few types that stand for the others; `make coverage` runs all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from growkernels.layouts.keys import words

#: Each of them needs something of its own.
SUBSET = words(
    "mistral qwen2 gemma2 phi3 opt gpt_oss falcon codegen openai-gpt mixtral deepseek_v3 deepseek_v4 granitemoe jamba mamba2 "
    "falcon_h1 qwen3_next recurrent_gemma zamba gemma3n_text gemma4_text hrm_text bart t5 whisper@s2s"
)
#: What a config cannot say: a first dense layer, or one that alone has a tensor, comes only once.
CANNOT_STACK = {"deepseek_v3", "gemma3n_text", "t5"}
#: What has no layers that change nothing: norms after the sums, streams that are scaled or mixed.
NO_IDENTITY = {"openai-gpt", "deepseek_v4", "gemma3n_text", "gemma4_text", "bart"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, object]]]:
    """Outcomes of a process of its own: it changes functions of torch while models run."""
    out = tmp_path_factory.mktemp("coverage")
    steps = ("width 2", "stack", "odd list", "identity", "live", "loaded", "bad configs")
    command = [sys.executable, "-m", "tests.coverage", *SUBSET, "--out", str(out), "--steps", *steps]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True)
    return {name: json.loads((out / f"{name}.json").read_text()) for name in SUBSET}


@pytest.mark.parametrize("name", SUBSET)
def test_twin_is_grown_exactly(name, results):
    outcomes = {step: found["outcome"] for step, found in results[name].items()}
    stack = "refused" if name in CANNOT_STACK else "exact"
    identity = "refused" if name in NO_IDENTITY else "exact"
    exact = dict.fromkeys(("width 2", "odd list", "live", "loaded", "bad configs"), "exact")
    assert outcomes == {**exact, "stack": stack, "identity": identity}

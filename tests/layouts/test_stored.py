"""Plans of models that are only a config."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import DeepseekV3Config

import growkernels
from growkernels.errors import GrowthError
from tests.coverage import twins


def _saved(name: str, folder: Path) -> Path:
    twins.make_model(name, twins.make_config(name)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["llama", "qwen2", "mixtral", "gpt_oss", "hrm_text", "gpt_neox", "mamba2"])
def test_plan_of_a_config_is_that_of_its_checkpoint(name, tmp_path):
    folder = _saved(name, tmp_path)
    wanted = growkernels.plan(folder, width=2, untie=name == "hrm_text")
    got = growkernels.plan(folder / "config.json", width=2, untie=name == "hrm_text")
    # A file holds its tensors in alphabetical order, a class in that of its modules.
    assert sorted(got.rules, key=lambda rule: rule.target) == sorted(wanted.rules, key=lambda rule: rule.target)
    assert (got.config, got.claims, got.tied_head) == (wanted.config, wanted.claims, wanted.tied_head)


def test_config_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GrowthError, match=r"no config\.json; it holds nothing"):
        growkernels.plan(tmp_path / "config.json", width=2)
    with pytest.raises(GrowthError, match=r"nowhere"):
        growkernels.plan(tmp_path / "nowhere" / "config.json", width=2)


def test_config_by_which_the_class_cannot_run_is_refused(tmp_path):
    path = _saved("gptj", tmp_path) / "config.json"
    # Heads of 3 features, of which 4 are to be rotated.
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_head": 8}))
    with pytest.raises(
        GrowthError, match=r"cannot run GPTJForCausalLM as config\.json describes it: Attempting to broad"
    ):
        growkernels.plan(path, width=2)


_MEASURED = """
import sys, time
import growkernels
import transformers.models.deepseek_v3.modeling_deepseek_v3
peak = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
before, start = peak(), time.process_time()
plan = growkernels.plan(sys.argv[1], width=2, layers=sys.argv[2])
print(time.process_time() - start, peak() - before, len(plan.rules), sum(rule.spec.numel for rule in plan.rules))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_plan_of_671_billion_parameters_takes_seconds(tmp_path):
    config = DeepseekV3Config(architectures=["DeepseekV3ForCausalLM"]).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    layers = ",".join(map(str, [*range(61), *range(3, 61)]))
    command = [sys.executable, "-c", _MEASURED, str(tmp_path / "config.json"), layers]
    seconds, megabytes, rules, parameters = map(float, subprocess.check_output(command, text=True).split())
    # 256 experts of 3 matrices in 116 layers, and four times the parameters of twice the model.
    assert rules > 3 * 256 * 116 and parameters > 4e12
    assert seconds < 15 and megabytes < 500

"""`growkernels advise`, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.support import json_of, run, snapshot
from tests.families import make_model


def test_the_command_in_json_and_in_words() -> None:
    result = run("advise", "--target-params", "8B", "--tokens", "15T", "--json")
    data = json_of(result)
    assert data["growth_tokens"] == pytest.approx(6.58e9, rel=0.01)
    assert data["factor"] == 4 and data["fitted_range"]["parameters"] == [410e6, 3e9]
    assert {"claim", "scale", "condition", "repeated", "source"} == set(data["evidence"][0])
    assert "extrapolated" in result.stderr
    shown = " ".join(run("advise", "--target-params", "8B", "--tokens", "15T").stdout.split())
    for words in ("6.58 B tokens of the small model (extrapolated)", "repeated: no", "scale:", "exp_avg_sq"):
        assert words in shown


def test_a_config_alone_and_a_curve(tmp_path: Path) -> None:
    config, _ = make_model("llama")
    config.save_pretrained(tmp_path)
    command = ["advise", "--config", tmp_path, "--tokens", "1B", "--source-tokens", "1M", "--curve", tmp_path / "c.png"]
    result = run(*command, "--json")
    assert result.exit_code == 0, result.stderr
    assert json_of(result)["target"]["layers"] == 2
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 1000 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20


LLAMA = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (None, ("--config", "none.json"), ("none.json", "cannot be read")),
        ("{", (), ("no valid JSON",)),
        ({}, (), ("no model_type",)),
        ({"model_type": "no-such-model"}, (), ("cannot build a no-such-model", "--target-params")),
        ({**LLAMA, "auto_map": {"AutoModel": "m.M"}}, (), ("remote code is never run",)),
        ({**LLAMA, "num_hidden_layers": 10**9}, (), ("num_hidden_layers is 1000000000",)),
        ({**LLAMA, "hidden_size": "wide"}, (), ("cannot build a llama",)),
        (LLAMA, ("--target-params", "many"), ("target parameters is 'many'", "8B")),
        (LLAMA, ("--source-tokens", "2B"), ("more than the 1 B",)),
        (LLAMA, ("--disk-rate", "fast"), ("disk rate", "expected a number")),
        (LLAMA, ("--curve", "no/such/c.png"), ("no/such/c.png",)),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: object, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    if config is not None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        options = ("--config", "config.json", *options)
    before = snapshot(tmp_path)
    result = run("advise", "--tokens", "1B", *options, "--json")
    assert result.exit_code == 2, result.stderr
    error = json_of(result)["error"]
    assert (error["status"], error["kind"]) == (2, "refused")
    for word in words:
        assert word in error["message"]
    assert snapshot(tmp_path) == before


def test_no_target() -> None:
    result = run("advise", "--tokens", "1B")
    assert result.exit_code == 2 and "no target is given" in result.stderr

"""`growkernels analyze`, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.analyze.conftest import llama
from tests.cli.support import json_of, run, snapshot


def test_words_json_and_picture(models: Path, tmp_path: Path) -> None:
    command = ["analyze", models / "noisy-trained", "--reference", models / "src"]
    shown = " ".join(run(*command, columns=120).stdout.split())
    for words in ("clone trained on", "connection rate 100%", "mlp.down_proj", "2x2"):
        assert words in shown
    result = run(*command, "--picture", tmp_path / "a.png", "--json")
    assert result.exit_code == 0, result.stderr
    data = json_of(result)
    assert data["verdict"]["origin"] == "clone trained on"
    assert {entry["method"] for entry in data["spectra"]} == {"exact"}
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 1500 and len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20


def test_spectra_can_be_left_out(models: Path, tmp_path: Path) -> None:
    result = run("analyze", models / "clean", "--no-spectra", "--picture", tmp_path / "a.png", "--json")
    assert json_of(result)["spectra"] == [] and "symmetry lock" in result.stderr


def test_a_checkpoint_is_only_read(models: Path) -> None:
    before = snapshot(models)
    assert run("analyze", models / "noisy", "--reference", models / "src").exit_code == 0
    assert snapshot(models) == before


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("./none",), ("none does not exist",)),
        (("empty",), ("has no config.json",)),
        (("cut",), ("cut short",)),
        (("src", "--reference", "./none"), ("none does not exist",)),
        (("src", "--reference", "other"), ("whole number of copies", "leave the reference out")),
        (("src", "--picture", "no/such.png"), ("no/such.png",)),
        (("integers",), ("no floating-point weights",)),
    ],
)
def test_bad_input(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("src", "cut", "integers"):
        shutil.copytree(models / "src", name)
    Path("empty").mkdir()
    weights = Path("cut/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:5000])
    header = json.dumps({"w": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    Path("integers/model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    llama(48, vocab_size=50).save_pretrained("other")
    before = snapshot(tmp_path)
    result = run("analyze", *command, "--json")
    assert result.exit_code == 2, (result.stdout, result.stderr)
    message = json_of(result)["error"]["message"]
    for word in words:
        assert word in message
    assert snapshot(tmp_path) == before

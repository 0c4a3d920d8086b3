"""Bad input, end to end: status 2, one clear message on stderr, one object with --json, and nothing written anywhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.support import json_of, run, snapshot


def weights(src: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Store the checkpoint's tensors again, changed."""
    tensors = load_file(src / "model.safetensors")
    change(tensors)
    save_file(tensors, src / "model.safetensors", metadata={"format": "pt"})


def config(src: Path, **changes: Any) -> None:
    """Change keys of config.json."""
    path = src / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_shards(src: Path, **files: str) -> None:
    """Two shards with an index; `files` replaces what the index says."""
    tensors = load_file(src / "model.safetensors")
    (src / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[:5], names[5:])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, src / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, files.get(f"shard{number}", file))
    (src / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def cut(path: Path) -> None:
    """Keep the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Code:
    """A pickle that runs code when it is read."""

    def __reduce__(self) -> tuple:
        return (os.mkdir, ("code-of-a-checkpoint-was-run",))


def pickle_code(src: Path) -> None:
    (src / "model.safetensors").unlink()
    torch.save({"w": torch.ones(2), "x": Code()}, src / "pytorch_model.bin")


def outside(src: Path) -> None:
    shutil.copy(src / "model.safetensors", src.parent / "other.safetensors")
    as_shards(src, shard1="../other.safetensors")


def swap_name(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.0.mlp.mystery.weight"] = tensors.pop("model.layers.0.mlp.up_proj.weight")


def nan(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan


def inf(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = -torch.inf


class Bad(NamedTuple):
    """How a checkpoint is spoiled, the options, and what the message must say."""

    spoil: Callable[[Path], object]
    words: tuple[str, ...]
    options: tuple[str, ...] = ("--width", "2")


def sound(src: Path) -> None:
    """The checkpoint is good; the request is not."""


CASES = {
    "missing source": Bad(shutil.rmtree, ("does not exist", "folder of a checkpoint or a hub id")),
    "missing config": Bad(lambda src: (src / "config.json").unlink(), ("has no config.json",)),
    "missing weights": Bad(lambda src: (src / "model.safetensors").unlink(), ("has no weights", "model.safetensors")),
    "truncated config": Bad(lambda src: cut(src / "config.json"), ("config.json is no valid JSON",)),
    "truncated weights": Bad(lambda src: cut(src / "model.safetensors"), ("model.safetensors", "cut short")),
    "corrupt weights": Bad(
        lambda src: (src / "model.safetensors").write_bytes(os.urandom(5000)), ("model.safetensors", "damaged")
    ),
    "index names a missing file": Bad(
        lambda src: as_shards(src, shard1="model-9.safetensors"), ("names model-9.safetensors, which is missing",)
    ),
    "index names a file outside": Bad(outside, ("../other.safetensors", "not a file in its folder")),
    "shapes against config": Bad(
        lambda src: config(src, intermediate_size=48), ("mlp.down_proj.weight", "[32, 40]", "[32, 48]", "config.json")
    ),
    "layers against config": Bad(lambda src: config(src, num_hidden_layers=3), ("number of layers is 3", "but 2")),
    "a tensor too few": Bad(lambda src: weights(src, lambda t: t.pop("model.norm.weight")), ("model.norm.weight", "missing")),
    "a tensor of another name": Bad(lambda src: weights(src, swap_name), ("mystery",)),
    "unknown architecture": Bad(lambda src: config(src, model_type="unheard"), ("'unheard' is not supported", "llama")),
    "quantized": Bad(lambda src: config(src, quantization_config={"bits": 4}), ("quantized", "before quantization")),
    "remote code": Bad(
        lambda src: config(src, auto_map={"AutoModel": "m.M"}, model_type="mine"), ("remote code is never run",)
    ),
    "pickle that needs code": Bad(pickle_code, ("pytorch_model.bin", "code from a checkpoint is never run")),
    "NaN": Bad(lambda src: weights(src, nan), ("up_proj.weight", "1 NaN", "[3, 4]", "--allow-nonfinite")),
    "Inf": Bad(lambda src: weights(src, inf), ("up_proj.weight", "1 Inf", "[3, 4]", "--allow-nonfinite")),
    "width 1.5": Bad(sound, ("width is '1.5'", "whole number"), ("--width", "1.5")),
    "ffn 0": Bad(sound, ("ffn is '0'", "whole number"), ("--ffn", "0")),
    "depth -1": Bad(sound, ("depth is '-1'", "whole number"), ("--depth", "-1")),
    "depth two": Bad(sound, ("depth is 'two'", "whole number"), ("--depth", "two")),
    "depth and layers": Bad(sound, ("depth", "layers", "one of the two"), ("--depth", "2", "--layers", "0,0,1")),
    "a layer that is not there": Bad(sound, ("0,5", "5"), ("--layers", "0,5")),
    "layers that mean nothing": Bad(sound, ("0-1)*2",), ("--layers", "0-1)*2")),
    "nothing to grow": Bad(sound, ("nothing to grow", "width"), ()),
    "unknown operator": Bad(sound, ("'stack'", "gstack", "interpolate"), ("--depth", "2", "--depth-operator", "stack")),
    "unknown variant": Bad(sound, ("'odd'", "symmetric", "diagonal"), ("--width", "2", "--variant", "odd")),
    "unknown dtype": Bad(sound, ("'int8'", "bfloat16"), ("--width", "2", "--dtype", "int8")),
    "noise that is no number": Bad(sound, ("'loud'", "decibels", "none"), ("--width", "2", "--noise-snr-db", "loud")),
    "noise NaN": Bad(sound, ("'nan'", "decibels"), ("--width", "2", "--noise-snr-db", "nan")),
    "negative seed": Bad(sound, ("seed is -1",), ("--width", "2", "--seed", "-1")),
    "shard size": Bad(sound, ("'5 apples'", "GB"), ("--width", "2", "--max-shard-size", "5 apples")),
    "checks that contradict": Bad(sound, ("contradict",), ("--width", "2", "--no-verify", "--verify-logits")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_and_nothing_is_written(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    bad = CASES[case]
    bad.spoil(src)
    refused(tmp_path, monkeypatch, ["grow", src, tmp_path / "dst", *bad.options], bad.words)


def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[object], words: tuple[str, ...]) -> None:
    """Status 2, a message with the words, an object with the same message, no file changed."""
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    plain = run(*command)
    assert plain.exit_code == 2, (plain.stdout, plain.stderr, plain.exception)
    assert plain.stdout == ""
    message = plain.stderr.partition("Error: ")[2]
    for word in words:
        assert word in message, message
    assert "Traceback" not in plain.stderr
    result = run(*command, "--json")
    error = json_of(result)["error"]
    assert (error["status"], error["kind"]) == (2, "refused")
    assert error["message"].split() == message.split()
    assert snapshot(tmp_path) == before


def test_dst_exists(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "thesis.tex").write_text("ten years of work")
    command = ["grow", src, tmp_path / "dst", "--width", "2"]
    refused(tmp_path, monkeypatch, command, ("dst exists", "--overwrite"))
    refused(tmp_path, monkeypatch, [*command, "--overwrite"], ("does not look like a checkpoint",))


@pytest.mark.parametrize(
    ("dst", "words"),
    [
        ("src", "is the source itself"),
        ("src/grown", "is inside the source"),
        ("src/../src/grown", "is inside the source"),
        ("link/grown", "is inside the source"),
        (".", "holds the source"),
        ("no/such/place", "does not exist"),
    ],
)
@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_dst_in_the_wrong_place(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dst: str, words: str, overwrite: tuple[str, ...]
) -> None:
    (tmp_path / "link").symlink_to(src)
    refused(tmp_path, monkeypatch, ["grow", src, tmp_path / dst, "--width", "2", *overwrite], (words,))


def test_no_room_on_the_disk(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    refused(tmp_path, monkeypatch, ["grow", src, tmp_path / "dst", "--width", "2"], ("100,000", "make room"))


def test_a_tied_copy_that_differs(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights(src, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}))
    refused(tmp_path, monkeypatch, ["grow", src, tmp_path / "dst", "--width", "2"], ("lm_head.weight", "embed_tokens"))


@pytest.mark.parametrize("command", ["plan", "inspect"])
def test_other_commands_refuse_alike(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    config(src, model_type="unheard")
    options = ["--width", "2"] if command == "plan" else []
    refused(tmp_path, monkeypatch, [command, src, *options], ("'unheard' is not supported",))


def test_verify_refuses_what_was_not_grown_or_not_from_there(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(tmp_path, monkeypatch, ["verify", src, src], ("has no growkernels.json",))
    assert run("grow", src, tmp_path / "dst", "--width", "2", "--no-verify").exit_code == 0
    weights(src, lambda t: t["model.norm.weight"].add_(1))
    refused(tmp_path, monkeypatch, ["verify", src, tmp_path / "dst"], ("is not the checkpoint that", "original source"))


def test_a_picture_that_cannot_be_written(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["plan", src, "--width", "2", "--picture", tmp_path / "no" / "p.png"]
    refused(tmp_path, monkeypatch, command, ("p.png",))


def test_nan_that_is_let_pass_fails_no_verification(src: Path, tmp_path: Path) -> None:
    weights(src, nan)
    result = run("grow", src, tmp_path / "dst", "--width", "2", "--allow-nonfinite", "--verify-logits")
    assert result.exit_code == 0, result.stderr
    assert "the source's own outputs are not all finite" in " ".join((result.stdout + result.stderr).split())


def test_nan_passes_when_it_is_let(src: Path, tmp_path: Path) -> None:
    weights(src, nan)
    result = run("grow", src, tmp_path / "dst", "--depth", "2", "--allow-nonfinite", "--no-verify")
    assert result.exit_code == 0, result.stderr
    grown = load_file(tmp_path / "dst" / "model.safetensors")
    assert grown["model.layers.3.mlp.up_proj.weight"].isnan().nonzero().tolist() == [[3, 4]]

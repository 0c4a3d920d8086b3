"""Opening checkpoints: every format gives the same tensors, mapped and not copied."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from growkernels.errors import GrowthError
from growkernels.executors import open_source
from growkernels.executors.files.safetensors_file import header
from growkernels.plans import TensorSpec
from tests.executors import support
from tests.executors.support import (
    CONFIG,
    write_bin,
    write_config,
    write_sharded,
    write_sharded_bin,
    write_source,
)


def write_unaligned(folder: Path) -> Path:
    """As files were before headers were padded."""
    write_source(folder)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    text = data[8 : 8 + length].rstrip() + b" "
    text += b" " * (len(text) % 2 == 0)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return folder


@pytest.mark.parametrize("write", [write_source, write_sharded, write_bin, write_sharded_bin, write_unaligned])
def test_every_format_gives_the_same_tensors(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    source = open_source(write(tmp_path / "src"))
    expected = support.tensors()
    assert source.config == CONFIG
    assert set(source.tensors) == set(expected)
    for name, value in expected.items():
        assert source.tensors[name] == TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch."))
        assert torch.equal(source.tensor(name), value)
    assert [str(path) for path in source.side.carried] == ["generation_config.json", "tokenizer.json"]
    with pytest.raises(GrowthError, match="has no tensor 'nobody'"):
        source.tensor("nobody")


def test_tensors_come_in_file_order(tmp_path: Path) -> None:
    specs = {"b": TensorSpec((3,), "float32"), "a": TensorSpec((2,), "float32"), "c": TensorSpec((0, 4), "float32")}
    head, _ = header(specs)
    write_config(tmp_path / "src")
    (tmp_path / "src" / "model.safetensors").write_bytes(head + bytes(20))
    assert list(open_source(tmp_path / "src").tensors) == ["b", "a", "c"]


def test_safetensors_are_preferred_and_digest_tells_contents_apart(tmp_path: Path) -> None:
    src = write_source(write_bin(tmp_path / "src"))
    source = open_source(src)
    assert [path.name for path in source.files] == ["config.json", "model.safetensors"]
    before = source.digest()
    assert before == open_source(write_source(tmp_path / "copy")).digest()
    data = bytearray((src / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (src / "model.safetensors").write_bytes(data)
    assert open_source(src).digest() != before
    assert source.digest() == before, "computed once"


def test_digest_stops_when_told(tmp_path: Path) -> None:
    source = open_source(write_source(tmp_path / "src"))
    assert source.digest(lambda: False) == ""
    assert len(source.digest()) == 64


def test_a_file_is_mapped_and_not_copied(tmp_path: Path) -> None:
    big = torch.ones(64 << 20, dtype=torch.bfloat16)
    for write in (lambda f: write_source(f, {"w": big}), lambda f: torch.save({"w": big}, f / "pytorch_model.bin")):
        folder = tmp_path / "src"
        write_config(folder)
        write(folder)
        before = _anonymous()
        tensor = open_source(folder).tensor("w")
        assert float(tensor.sum(dtype=torch.float32)) == 64 << 20
        assert _anonymous() - before < 16 << 20
        for file in folder.glob("*model*"):
            file.unlink()


def _anonymous() -> int:
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) << 10


def test_hub_ids_fetch_only_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def snapshot_download(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        calls.append((name, allow_patterns[-1]))

        def fetched(file: str) -> bool:
            return any(fnmatch(file, p) for p in allow_patterns) and not any(fnmatch(file, p) for p in ignore_patterns)

        for file in (
            "model.fp16.safetensors",
            "flax_model.msgpack",
            "onnx/config.json",
            "original/params.json",
            "x.gguf",
        ):
            assert not fetched(file)
        for file in ("config.json", "tokenizer.json", "source.spm", "additional_chat_templates/a.jinja", "LICENSE",
                     "1_Pooling/config.json", "2_Dense/model.safetensors", "generation_config.json"):  # fmt: skip
            assert fetched(file)
        return str(tmp_path / "models--owner--model-1.5" / "snapshots" / "0123")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    repository = tmp_path / "models--owner--model-1.5"
    write_bin(repository / "blobs")
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    for path in (repository / "blobs").iterdir():
        (snapshot / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    source = open_source("owner/model-1.5")
    assert torch.equal(source.tensor("embed.weight"), support.tensors()["embed.weight"])
    assert source.name == "owner/model-1.5"
    assert [str(path) for path in source.side.carried] == ["generation_config.json", "tokenizer.json"]
    assert calls == [
        ("owner/model-1.5", "model.safetensors.index.json"),
        ("owner/model-1.5", "pytorch_model.bin.index.json"),
    ]


@pytest.mark.parametrize("error", [RuntimeError("proxy refused\nmore"), OSError(), KeyboardInterrupt()], ids=repr)
def test_whatever_a_download_raises_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """The errors of the hub's HTTP library have no base that the hub's major versions share."""

    def snapshot_download(name: str, **patterns: list[str]) -> str:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    if isinstance(error, Exception):
        first = str(error).partition("\n")[0] or "OSError"
        with pytest.raises(GrowthError, match=f"did not give a checkpoint of that name: {first}. Check the name"):
            open_source("owner/model")
    else:
        with pytest.raises(KeyboardInterrupt):
            open_source("owner/model")


def test_an_unknown_hub_id_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GrowthError, match="no folder here, and the hub did not give a checkpoint"):
        open_source("owner/nothing")

"""Opening damaged checkpoints: every defect is named and nothing is written."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from growkernels.errors import GrowthError
from growkernels.executors.files.mapped import MappedFile
from growkernels.executors.files.pickle_file import load_pickle
from tests.executors import support
from tests.executors.support import (
    snapshot,
    write_bin,
    write_config,
    write_index,
    write_sharded,
    write_source,
)


def edit_header(src: Path, change: Callable[[dict], object]) -> None:
    path = src / "model.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + length])
    changed = change(head)
    text = changed if isinstance(changed, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


class System:
    def __reduce__(self) -> tuple:
        return (os.system, ("echo code of a checkpoint was run",))


class Code:
    def __reduce__(self) -> tuple:
        return (print, ("code of a checkpoint was run",))


def no_config(src: Path) -> None:
    (write_source(src) / "config.json").unlink()


def bad_config(src: Path) -> None:
    (write_source(src) / "config.json").write_text('{"hidden_size": ')


def list_config(src: Path) -> None:
    (write_source(src) / "config.json").write_text("[1, 2]")


def deep_config(src: Path) -> None:
    (write_source(src) / "config.json").write_text("[" * 100_000)


def binary_config(src: Path) -> None:
    (write_source(src) / "config.json").write_bytes(b"\xff\xfe\x00")


def no_weights(src: Path) -> None:
    write_config(src)


def empty_weights(src: Path) -> None:
    write_config(src)
    (src / "model.safetensors").write_bytes(b"")


def no_tensors(src: Path) -> None:
    write_config(src)
    save_file({}, src / "model.safetensors")


def short_header(src: Path) -> None:
    truncate(write_source(src) / "model.safetensors", 50)


def short_data(src: Path) -> None:
    truncate(write_source(src) / "model.safetensors", 20_000)


def long_data(src: Path) -> None:
    with (write_source(src) / "model.safetensors").open("ab") as file:
        file.write(b"more")


def huge_header(src: Path) -> None:
    path = write_source(src) / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])


def garbled_header(src: Path) -> None:
    path = write_source(src) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[8:24] = b"\xff" * 16
    path.write_bytes(data)


def list_header(src: Path) -> None:
    edit_header(write_source(src), lambda head: b"[]")


def twice_in_header(src: Path) -> None:
    edit_header(write_source(src), lambda head: json.dumps(head).encode()[:-1] + b', "embed.weight": {}}')


def no_offsets(src: Path) -> None:
    edit_header(write_source(src), lambda head: head["embed.weight"].pop("data_offsets"))


def negative_shape(src: Path) -> None:
    edit_header(write_source(src), lambda head: head["embed.weight"].update(shape=[-97, -48]))


def wrong_shape(src: Path) -> None:
    edit_header(write_source(src), lambda head: head["embed.weight"].update(shape=[97, 49]))


def overlap(src: Path) -> None:
    edit_header(write_source(src), lambda head: head["layers.0.proj.weight"].update(data_offsets=[0, 64 * 48 * 4]))


def fp4(src: Path) -> None:
    write_source(src, {"w": torch.ones(4, 4).to(torch.float8_e4m3fn)})
    weights = src / "model.safetensors"
    # The name of another format, as long as that of the one that it has.
    weights.write_bytes(weights.read_bytes().replace(b"F8_E4M3", b"F4_E2M1"))


def missing_shard(src: Path) -> None:
    (write_sharded(src) / "model-00002-of-00005.safetensors").unlink()


def outside_shard(src: Path) -> None:
    write_source(src.parent / "other")
    write_index(write_sharded(src), {"embed.weight": "../other/model.safetensors"})


def absolute_shard(src: Path) -> None:
    other = write_source(src.parent / "other") / "model.safetensors"
    write_index(write_sharded(src), {"embed.weight": str(other)})


def parent_shard(src: Path) -> None:
    write_index(write_sharded(src), {"embed.weight": ".."})


def number_shard(src: Path) -> None:
    write_index(write_sharded(src), {"embed.weight": 3})


def bad_index(src: Path) -> None:
    (write_sharded(src) / "model.safetensors.index.json").write_text("{")


def unlisted(src: Path) -> None:
    write_index(
        write_sharded(src),
        {"embed.weight": "model-00001-of-00005.safetensors", "ghost": "model-00002-of-00005.safetensors"},
    )


def swapped(src: Path) -> None:
    first, second = "model-00001-of-00005.safetensors", "model-00002-of-00005.safetensors"
    write_index(write_sharded(src), {"embed.weight": second, "layers.0.proj.weight": first})


def in_two_shards(src: Path) -> None:
    write_sharded(src)
    save_file({"embed.weight": torch.ones(2), "x": torch.ones(2)}, src / "model-2.safetensors")
    write_index(src, {"embed.weight": "model-00001-of-00005.safetensors", "x": "model-2.safetensors"})


def pickled_code(src: Path) -> None:
    write_config(src)
    torch.save({"w": torch.ones(2), "x": Code()}, src / "pytorch_model.bin")


def pickled_command(src: Path) -> None:
    write_config(src)
    torch.save({"w": torch.ones(2), "x": System()}, src / "pytorch_model.bin")


def raw_pickle(src: Path) -> None:
    write_config(src)
    (src / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Code()}))


def legacy_bin(src: Path) -> None:
    write_config(src)
    torch.save(support.tensors(), src / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def cut_bin(src: Path) -> None:
    path = write_bin(src) / "pytorch_model.bin"
    truncate(path, path.stat().st_size // 2)


def no_bin(src: Path) -> None:
    write_config(src)
    (src / "pytorch_model.bin").write_bytes(b"<html>404</html>")


def damaged_bin(src: Path) -> None:
    path = write_bin(src) / "pytorch_model.bin"
    data = bytearray(path.read_bytes())
    where = data.index(b"data.pkl") + 80
    data[where : where + 40] = b"\xff" * 40
    path.write_bytes(data)


def nested_bin(src: Path) -> None:
    write_config(src)
    torch.save({"model": {"w": torch.ones(2)}, "epoch": 3}, src / "pytorch_model.bin")


def list_bin(src: Path) -> None:
    write_config(src)
    torch.save([torch.ones(2)], src / "pytorch_model.bin")


def sparse_bin(src: Path) -> None:
    write_config(src)
    torch.save({"w": torch.eye(3).to_sparse()}, src / "pytorch_model.bin")


def a_file(src: Path) -> None:
    src.write_text("weights")


def nothing(src: Path) -> None:
    pass


BAD = {
    no_config: "has no config.json; it holds generation_config.json, model.safetensors",
    bad_config: "config.json is no valid JSON",
    list_config: "config.json holds a JSON list; expected an object",
    deep_config: "config.json is no valid JSON",
    binary_config: "config.json is no valid JSON",
    no_weights: "has no weights; expected model.safetensors or pytorch_model.bin",
    empty_weights: "is damaged or cut short: it has 0 bytes",
    no_tensors: "holds no tensors in model.safetensors",
    short_header: "is damaged or cut short: it has 50 bytes, its header claims",
    short_data: "is damaged or cut short: it has 20000 bytes, its header describes",
    long_data: "is damaged or cut short: it has",
    huge_header: "its header claims 9223372036854775808",
    garbled_header: "its header is no valid JSON",
    list_header: "its header is no JSON object",
    twice_in_header: "twice in one object: embed.weight",
    no_offsets: "the entry of 'embed.weight' has no dtype, shape and data_offsets",
    negative_shape: r"has dtype 'F32', shape \[-97, -48\], .* expected a name and numbers",
    wrong_shape: r"'embed.weight', F32 \[97, 49\], needs 19012 bytes and has 18624",
    overlap: "starts at byte",
    fp4: "'w' is stored as F4_E2M1, a quantized or unknown format",
    missing_shard: "names model-00002-of-00005.safetensors, which is missing",
    outside_shard: "names '../other/model.safetensors', which is not a file in its folder",
    absolute_shard: "which is not a file in its folder",
    parent_shard: "which is not a file in its folder",
    number_shard: "has no weight_map of tensor names to files",
    bad_index: "index.json is no valid JSON",
    unlisted: "says that 'ghost' is in model-00002-of-00005.safetensors, but it is not",
    swapped: "says that 'embed.weight' is in model-00002-of-00005.safetensors, but it is not",
    in_two_shards: "'embed.weight' is both in model-00001-of-00005.safetensors and in model-2.safetensors",
    pickled_code: r"needs code to be read \(print\), and code from a checkpoint is never run",
    pickled_command: r"needs code to be read \(posix\.system\), and code",
    raw_pickle: "from before 1.6, which cannot be memory mapped",
    legacy_bin: "from before 1.6, which cannot be memory mapped",
    cut_bin: "is damaged or cut short",
    no_bin: "is damaged or cut short: it is no torch file",
    damaged_bin: "is damaged or cut short",
    nested_bin: "'model' is a dict; expected a state dict of names and tensors",
    list_bin: "holds a list; expected a state dict",
    sparse_bin: "'w' is a quantized or sparse tensor",
    a_file: "is a file; expected the folder of a checkpoint",
    nothing: "does not exist; expected the folder of a checkpoint or a hub id",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_bad_input_is_named_and_nothing_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], spoil: Callable[[Path], None]
) -> None:
    spoil(tmp_path / "src")
    before = snapshot(tmp_path)
    with pytest.raises(GrowthError, match=BAD[spoil]):
        support.grow(tmp_path / "src", tmp_path / "dst")
    assert snapshot(tmp_path) == before
    assert "code of a checkpoint was run" not in capfd.readouterr().out


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_damage_of_a_pickle_is_a_clear_error_or_harmless(tmp_path: Path) -> None:
    content = (write_bin(tmp_path / "src") / "pytorch_model.bin").read_bytes()
    path, chance = tmp_path / "damaged.bin", random.Random(0)
    pickled = content.index(b"data.pkl")
    errors = 0
    for _ in range(400):
        damaged = bytearray(content)
        for low, high in ((0, len(content)), (pickled, pickled + 1200)):
            start = chance.randrange(low, high)
            damaged[start : start + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        path.write_bytes(damaged[: chance.choice([None, None, chance.randrange(len(content))])])
        try:
            for value in load_pickle(MappedFile(path)).values():
                value.view().sum()
        except GrowthError:
            errors += 1
    assert errors > 200

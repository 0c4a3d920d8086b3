"""Every reader of files that others made, with small sound inputs: what fuzzing starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import growkernels
from growkernels.executors import open_source, read_manifest
from growkernels.executors.files.mapped import MappedFile
from growkernels.executors.files.pickle_file import load_pickle
from growkernels.executors.files.safetensors_file import read_header
from growkernels.learning.state import State, read_state, write_state
from tests.executors.support import grow, plan, tensors, write_bin, write_config, write_source
from tests.families import make_model


@dataclass(frozen=True)
class Reader:
    """One reader: the file that is damaged, the sound bytes of it, and what reads it.

    `text` says whether it is JSON, which is also damaged as such.
    """

    name: str
    file: Path
    sound: bytes
    read: Callable[[], object]
    text: bool = False
    #: What makes a damaged input pass the checks that only compare it with itself.
    seal: Callable[[bytes], bytes] = bytes


def make_readers(folder: Path) -> dict[str, Reader]:
    """The readers, each with a folder of its own below `folder`."""
    makers = (_header, _index, _config, _archive, _manifest, _state, _side_files)
    readers = [make(folder / make.__name__.strip("_")) for make in makers]
    return {reader.name: reader for reader in readers}


def _header(folder: Path) -> Reader:
    file = write_source(folder) / "model.safetensors"
    # The header and no more than the start of the data: damage is to hit the header.
    save_file({name: value[:2].clone() for name, value in tensors().items()}, file)

    def read() -> None:
        for entry in read_header(file).values():
            assert entry.spec.shape == entry.shape
        source = open_source(folder)
        for name in source.tensors:
            source.tensor(name).sum()

    return Reader("header", file, file.read_bytes(), read)


def _index(folder: Path) -> Reader:
    write_config(folder)
    weight_map = {}
    for number, (name, value) in enumerate(tensors().items()):
        weight_map[name] = f"model-{number}.safetensors"
        save_file({name: value}, folder / weight_map[name])
    file = folder / "model.safetensors.index.json"
    file.write_text(json.dumps({"metadata": {"total_size": 5}, "weight_map": weight_map}))
    return Reader("index", file, file.read_bytes(), lambda: open_source(folder).digest(), text=True)


def _config(folder: Path) -> Reader:
    _, model = make_model("qwen3")
    model.save_pretrained(folder)
    file = folder / "config.json"
    return Reader("config", file, file.read_bytes(), lambda: growkernels.plan(folder, width=2, depth=2), text=True)


def _archive(folder: Path) -> Reader:
    file = write_bin(folder) / "pytorch_model.bin"
    torch.save({name: value[:2].clone() for name, value in tensors().items()}, file)

    def read() -> None:
        for stored in load_pickle(MappedFile(file)).values():
            if stored.spec.numel < 1 << 20:
                stored.view().sum()

    return Reader("archive", file, file.read_bytes(), read)


def _manifest(folder: Path) -> Reader:
    src, dst = write_source(folder / "src"), folder / "dst"
    grow(src, dst, plan(snr_db=10.0))
    file = dst / "growkernels.json"

    def seal(data: bytes) -> bytes:
        """The digest of the damaged plan: what a forger would write."""
        try:
            value = json.loads(data)
            canonical = json.dumps(value["plan"], sort_keys=True, separators=(",", ":"))
            value["plan_digest"] = hashlib.sha256(canonical.encode()).hexdigest()
            return json.dumps(value).encode()
        except (ValueError, TypeError, LookupError, RecursionError):
            return data

    def read() -> None:
        read_manifest(dst)
        growkernels.verify(src, dst, logits=False)

    return Reader("manifest", file, file.read_bytes(), read, text=True, seal=seal)


def _state(folder: Path) -> Reader:
    folder.mkdir(parents=True)
    file = folder / "fit.state"
    groups: list[dict[str, Any]] = [{"hidden": torch.randn(3, 4)} for _ in range(3)]
    write_state(file, State({"seed": 0}, "digest", "digest", [1.5, 1.25], {"steps": 4, "text": "x"}, *groups))
    return Reader("state", file, file.read_bytes(), lambda: read_state(file))


def _side_files(folder: Path) -> Reader:
    write_source(folder)
    file = folder / "modules.json"
    file.write_text(json.dumps([{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling", "type": "x"}]))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 48}')
    return Reader("side files", file, file.read_bytes(), lambda: open_source(folder), text=True)

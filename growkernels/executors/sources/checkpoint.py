"""Opening the checkpoint that grows: every tensor a view of a mapped file, every defect named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
import xxhash

from growkernels.errors import GrowthError
from growkernels.executors.files.mapped import MappedFile, cannot_open
from growkernels.executors.files.paths import user_path
from growkernels.executors.files.pickle_file import load_pickle
from growkernels.executors.files.safetensors_file import Entry, read_header, view
from growkernels.executors.files.side_files import SideFiles, find_side_files, is_lfs_pointer
from growkernels.executors.sources.other_formats import describe
from growkernels.executors.sources.wrappers import check_wrappers, strip
from growkernels.plans import TensorSpec

_SAFETENSORS, _PICKLE = "model.safetensors", "pytorch_model.bin"
#: Kinds of small files that are fetched from the hub; which of them go along is decided where they are.
_SMALL = (
    *("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "*.vocab", "*.bpe", "*.spm", "*.codes", "*.py"),
    *("tokenizer*", "vocab*", "LICENSE*", "NOTICE*", "COPYING*", "USE_POLICY*"),
    *("[0-9]_*/model.safetensors", "[0-9]_*/pytorch_model.bin"),
)
_NOT_FETCHED = ("onnx/*", "openvino/*", "original/*", "checkpoint-*/*", "gguf/*", ".*")
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HASHED_AT_ONCE = 8 << 20
#: An index of a million tensors has some 100 MB.
_LARGEST_JSON = 1 << 30


@dataclass(eq=False, repr=False)
class Source:
    """A checkpoint: its stored config, its tensors in file order, and views of them.

    `name` is what the user gave, `path` the folder, `side` what else it holds.
    """

    name: str
    path: Path
    config: dict[str, Any]
    tensors: dict[str, TensorSpec]
    side: SideFiles
    _mapped: tuple[MappedFile, ...]
    _views: Mapping[str, tuple[MappedFile, Callable[[], torch.Tensor]]]
    #: What is left out of the names that the files hold.
    strip_prefix: str = ""
    _lock: Lock = field(default_factory=Lock)
    _digest: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Config and weights."""
        return tuple(file.path for file in self._mapped)

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor as a read-only view of its file, no copy in memory.

        Raises GrowthError if there is none, or if the file is not any more what was opened.
        """
        if name not in self._views:
            raise GrowthError(f"{self.name} has no tensor {name!r}; it has {', '.join(list(self._views)[:3])}, ...")
        file, view = self._views[name]
        file.check()
        return view()

    def check_unchanged(self) -> None:
        """Raise GrowthError if config or weights have been changed, replaced or removed since they were opened."""
        for file in self._mapped:
            file.check()

    def device(self, name: str) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def free(self, name: str) -> None:
        """Nothing to give back: a tensor is pages of a file."""

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {len(self.tensors)} tensors)"

    def digest(self, proceed: Callable[[], bool] = lambda: True) -> str:
        """Identity of config and weights, hexadecimal SHA-256 of the files' names, sizes and XXH3-128; computed once.

        XXH3 runs at the speed of memory, where a cryptographic hash would take as long as the growth: it tells an
        altered or damaged source from the one that grew, but is no defense against forgery. `proceed` is asked between
        pieces; if it says no, the digest is left undone and "" returned. Raises GrowthError if a file has changed.
        """
        with self._lock:
            if self._digest is None:
                lines = []
                for file in self._mapped:
                    file.check()
                    data, hasher = file.data.numpy().data, xxhash.xxh3_128()
                    for start in range(0, len(data), _HASHED_AT_ONCE):
                        if not proceed():
                            return ""
                        file.check()
                        hasher.update(data[start : start + _HASHED_AT_ONCE])
                    lines.append(f"{file.path.name} {len(data)} {hasher.hexdigest()}\n")
                self._digest = hashlib.sha256("".join(lines).encode()).hexdigest()
            return self._digest


def open_source(name: str | Path, strip_prefix: str = "") -> Source:
    """Open a folder, or a checkpoint of the Hugging Face hub by its id (fetched through huggingface_hub, in part).

    Takes model.safetensors or pytorch_model.bin, whole or in shards with an index, beside a config.json; safetensors
    first, as transformers does. `strip_prefix`: what a wrapper put before names of tensors, such as "module.", to be left
    out of them. Raises GrowthError for everything missing, damaged or inconsistent.
    """
    try:
        return _open(str(name), _folder(str(name)), strip_prefix)
    except OSError as error:
        raise cannot_open(Path(error.filename or name), error) from error


def read_config(path: Path) -> dict[str, Any]:
    """The JSON of a `config.json`. Raises GrowthError if there is none, or something else in it."""
    path = user_path(path)
    try:
        return _json_object(path)
    except OSError as error:
        raise cannot_open(path, error) from error


def _open(name: str, folder: Path, strip_prefix: str) -> Source:
    first = [MappedFile(path) for path in (folder / "config.json",) if path.is_file()]
    config = _json_object(folder / "config.json")
    shards, index, listed = _weight_files(folder)
    first += [MappedFile(index)] if index else []
    weights = [MappedFile(path) for path in shards]
    views: dict[str, tuple[MappedFile, Callable[[], torch.Tensor]]] = {}
    tensors: dict[str, TensorSpec] = {}
    home: dict[str, Path] = {}
    for file in weights:
        for tensor, (spec, get) in _open_weights(file).items():
            if tensor in home:
                raise GrowthError(
                    f"{tensor!r} is both in {home[tensor].name} and in {file.path.name} of {folder}; remove one."
                )
            tensors[tensor], views[tensor], home[tensor] = spec, (file, get), file.path
    for tensor, shard in listed.items():
        if tensor not in home or home[tensor].name != shard:
            raise GrowthError(
                f"{index} says that {tensor!r} is in {shard}, but it is not. Shards and index are not of one "
                f"checkpoint: download or save it again."
            )
    if not tensors:
        raise GrowthError(f"{folder} holds no tensors in {', '.join(path.name for path in shards)}.")
    if strip_prefix:
        tensors, views = strip(tensors, strip_prefix), strip(views, strip_prefix)
    check_wrappers(list(tensors))
    files = (*first, *weights)
    return Source(
        name,
        folder,
        config,
        tensors,
        find_side_files(folder, [file.path for file in files]),
        files,
        views,
        strip_prefix,
    )


def _folder(name: str) -> Path:
    path = user_path(name)
    if path.is_dir():
        return path.resolve()
    if path.exists():
        if (what := describe(path)) is not None:
            raise GrowthError(f"{name} {what}.")
        raise GrowthError(f"{name} is a file; expected the folder of a checkpoint, with config.json and its weights.")
    if not _HUB_ID.fullmatch(name):
        raise GrowthError(
            f"{name} does not exist; expected the folder of a checkpoint or a hub id such as owner/model."
        )
    return _download(name)


def _download(name: str) -> Path:
    # Imported here: a local growth does not wait for a library that it does not use.
    from huggingface_hub import snapshot_download

    # Whole names: a repository may hold other variants beside (model.fp16.safetensors).
    safetensors = ["model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"]
    pickles = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]
    fetch = partial(snapshot_download, name, ignore_patterns=list(_NOT_FETCHED))
    try:
        folder = Path(fetch(allow_patterns=[*_SMALL, *safetensors]))
        if not any(path for pattern in safetensors for path in folder.glob(pattern)):
            folder = Path(fetch(allow_patterns=[*_SMALL, *pickles]))
    except Exception as error:
        # Some errors are of the HTTP library, which another major version of the hub's library replaces by another one.
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GrowthError(
            f"{name} is no folder here, and the hub did not give a checkpoint of that name: {first}. Check the name, "
            f"the network and your access."
        ) from error
    return folder


def _json_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        whole = any((path.parent / name).is_file() for name in (_SAFETENSORS, _PICKLE))
        if not whole and (what := describe(path.parent)) is not None:
            raise GrowthError(f"{path.parent} {what}.")
        present = ", ".join(sorted(p.name for p in path.parent.iterdir())[:10]) or "nothing"
        raise GrowthError(f"{path.parent} has no {path.name}; it holds {present}. Expected a Hugging Face checkpoint.")
    if path.stat().st_size > _LARGEST_JSON:
        raise GrowthError(
            f"{path} has {path.stat().st_size:,} bytes, which no such file has. Download or save it again."
        )
    _check_fetched(path)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise GrowthError(f"{path} is no valid JSON: {error}. Download or save it again.") from error
    if not isinstance(value, dict):
        raise GrowthError(f"{path} holds a JSON {type(value).__name__}; expected an object.")
    return value


def _weight_files(folder: Path) -> tuple[list[Path], Path | None, dict[str, str]]:
    """The weight files in order, the index if there is one, and what it says: tensor -> file."""
    for single in (_SAFETENSORS, _PICKLE):
        if (folder / single).is_file():
            return [folder / single], None, {}
        index = folder / f"{single}.index.json"
        if index.is_file():
            listed = _json_object(index).get("weight_map")
            if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
                raise GrowthError(f"{index} has no weight_map of tensor names to files. Download or save it again.")
            return [_shard(index, file) for file in dict.fromkeys(listed.values())], index, listed
    if (what := describe(folder)) is not None:
        raise GrowthError(f"{folder} {what}.")
    present = ", ".join(sorted(p.name for p in folder.iterdir())[:10])
    raise GrowthError(
        f"{folder} has no weights; expected {_SAFETENSORS} or {_PICKLE}, whole or in shards with an index. It holds "
        f"{present}."
    )


def _shard(index: Path, file: str) -> Path:
    # Names only: a link inside the folder may lead out of it (the hub's cache is made of them), a name may not.
    if Path(file).name != file or file in (".", ".."):
        raise GrowthError(f"{index} names {file!r}, which is not a file in its folder. Do not trust this checkpoint.")
    if not (index.parent / file).is_file():
        raise GrowthError(f"{index} names {file}, which is missing. Download the whole checkpoint.")
    return index.parent / file


def _check_fetched(path: Path) -> None:
    if is_lfs_pointer(path):
        raise GrowthError(
            f"{path} is a pointer of git-lfs and not the file itself: fetch it with git lfs pull, or download the "
            f"checkpoint from the hub."
        )


def _open_weights(file: MappedFile) -> dict[str, tuple[TensorSpec, Callable[[], torch.Tensor]]]:
    _check_fetched(file.path)
    if file.path.suffix == ".safetensors":
        entries = read_header(file.path)
        return {name: (entry.spec, partial(_view, file, entry)) for name, entry in entries.items()}
    return {name: (stored.spec, stored.view) for name, stored in load_pickle(file).items()}


def _view(file: MappedFile, entry: Entry) -> torch.Tensor:
    return view(file.data, entry)

"""The files beside the weights: which go along with a grown model, and why the others do not.

A tokenizer's files may have any name. So what is small and is not known to be something else goes along.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from growkernels.errors import printable
from growkernels.executors.files.mapped import Identity

#: Larger files are taken for weights or data, whatever their names are.
LARGEST = 100 * 10**6
#: What a file of git-lfs begins with where only its pointer was fetched.
LFS_POINTER = b"version https://git-lfs.github.com/spec/"

_TRAINING = "the state or the record of a training, which the grown weights do not continue"
_WEIGHTS = "the source's weights in another form"
#: Names, in lower case, of what is left behind, and the reason; the first that matches counts.
_LEFT: tuple[tuple[str, str], ...] = (
    ("optimizer* scheduler* scaler.pt rng_state* random_states_* trainer_state.json training_args.*", _TRAINING),
    ("*_results.json events.out.tfevents* *.log latest zero_to_fp32.py *.distcp", _TRAINING),
    ("growkernels.json growkernels.safetensors growkernels-fit.png", "how the source was grown itself"),
    ("adapter_config.json adapter_model.*", "an adapter to the source's weights"),
    ("*.safetensors *.bin *.pt *.pth *.ckpt *.h5 *.msgpack *.onnx *.onnx_data *.gguf *.ggml *.tflite *.ot", _WEIGHTS),
    ("*.npz *.npy *.pkl *.pickle *.pdparams *.mar *.zip *.tar *.gz *.index.json params.json", _WEIGHTS),
    ("quant*_config.json hf_quant_config.json", "how the source's weights were quantized"),
    ("readme* model_card* modelcard.json *.ipynb", "describes the source, not the grown model"),
    ("*.png *.jpg *.jpeg *.gif *.svg *.webp *.pdf", "describes the source, not the grown model"),
    ("*.jsonl *.csv *.tsv *.parquet *.arrow", "data"),
    ("*.incomplete *.partial *.tmp *.lock *.swp *~", "a file that is not finished"),
)
_UNKNOWN = "a folder that is not known to belong to the model"
_EXPORTS = ("onnx", "openvino", "gguf", "ggml", "coreml", "tflite", "original", "mlx")
_CHAT_TEMPLATES, _MODULES = "additional_chat_templates", "modules.json"
_LARGEST_JSON = 1 << 20
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class SideFiles:
    """The files beside the weights of the checkpoint in `root`, as they were when they were found.

    carried: paths below it of what goes along, each with what tells the file from another one, None for a folder;
    left: paths of what does not, with the reason; configs: the JSON objects in the folders of modules.
    """

    root: Path
    carried: dict[PurePosixPath, Identity | None] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    configs: dict[PurePosixPath, dict[str, Any]] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size of all that goes along."""
        return sum(identity.size for identity in self.carried.values() if identity is not None)


def find_side_files(root: Path, weights: Sequence[Path]) -> SideFiles:
    """The side files of a checkpoint; `weights` are its config, its index and its weights, which are none.

    Links are followed inside of `root`, and in a cache of the hub to its own files: others could put any file of the
    reader's into the grown checkpoint. Raises OSError for what the folder lists and is gone when it is looked at.
    """
    own = {path.name for path in weights}
    listed = [path for path in sorted(root.iterdir()) if path.name not in own]
    modules = _module_folders(root, listed)
    side = SideFiles(root)
    for path in listed:
        part = SideFiles(root)
        reason = _reason(root, path, modules)
        _add(part, path, reason)
        if (
            reason is None
            and path.name not in modules
            and any(is_weights(str(inner)) for inner in (*part.carried, *part.left))
        ):
            part = SideFiles(root, left={printable(f"{path.name}/"): _UNKNOWN})
        side.carried.update(part.carried)
        side.left.update(part.left)
    for name in side.carried:
        if len(name.parts) == 2 and name.name == "config.json" and isinstance(config := _json(root / name), dict):
            side.configs[name] = config
    return side


def _add(side: SideFiles, path: Path, reason: str | None) -> None:
    """Add an entry, with everything in it if it is a folder that goes along."""
    name = PurePosixPath(path.relative_to(side.root).as_posix())
    if reason is not None:
        side.left[printable(f"{name}/" if _is_folder(path) else str(name))] = reason
        return
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        side.carried[name] = Identity.of(status)
        return
    side.carried[name] = None
    for inner in sorted(path.iterdir()):
        _add(side, inner, _place(side.root, inner) or _inner_reason(inner, len(name.parts)))


def _is_folder(path: Path) -> bool:
    """Whether it is a folder or a link to one. Raises OSError if it is gone, where `Path.is_dir` says no."""
    return path.is_dir() if path.is_symlink() else stat.S_ISDIR(path.stat().st_mode)


def _inner_reason(path: Path, depth: int) -> str | None:
    """Why an entry of a folder that goes along is left behind; not for its name, since modules have weights."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        return _size(path, status)
    if path.is_symlink():
        # One to a folder that holds it would have no end.
        return "a link to a folder"
    return "a folder too deep inside of others" if depth >= _DEEPEST else None


def _reason(root: Path, path: Path, modules: set[str]) -> str | None:
    """Why an entry of the checkpoint's folder is left behind; None if it goes along."""
    name = path.name.lower()
    if name.startswith("."):
        return "hidden"
    if (place := _place(root, path)) is not None:
        return place
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        return _folder_reason(path, name, modules)
    for patterns, reason in _LEFT:
        if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
            return reason
    return _size(path, status)


def _folder_reason(path: Path, name: str, modules: set[str]) -> str | None:
    if path.name == _CHAT_TEMPLATES or path.name in modules:
        return None
    if name.startswith(("checkpoint-", "global_step", "iter_")) or "config.json" in os.listdir(path):
        return "a checkpoint of its own"
    if name in _EXPORTS:
        return "an export of the source's weights"
    # One that holds weights is left behind all the same, which its files tell.
    return None if "tokenizer" in name else _UNKNOWN


def is_weights(path: str) -> bool:
    """Whether a file of this name holds weights."""
    name = PurePosixPath(path).name.lower()
    return any(fnmatchcase(name, p) for patterns, why in _LEFT if why == _WEIGHTS for p in patterns.split())


def _place(root: Path, path: Path) -> str | None:
    """Why a path may not be followed to where it leads; None if it may."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        # Python 3.13 gives a loop of links an error of the operating system's, earlier ones one of its own.
        leads_nowhere = not isinstance(error, OSError) or error.errno in (errno.ENOENT, errno.ELOOP)
        if leads_nowhere and path.is_symlink():
            return "a link that leads nowhere"
        raise
    if not any(real.is_relative_to(place) for place in _places(root)):
        return "a link to a place outside of the checkpoint, which is not followed"
    mode = real.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return "no file"
    if os.access(real, os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK):
        return None
    # That question does not say why: what is gone since it was listed is an error here.
    real.stat()
    return "it cannot be read"


def _places(root: Path) -> Iterator[Path]:
    yield root.resolve()
    repository = root.parent.parent
    if root.parent.name == "snapshots" and repository.name.startswith("models--"):
        yield (repository / "blobs").resolve()


def _size(path: Path, status: os.stat_result) -> str | None:
    if status.st_size > LARGEST:
        return (
            f"{status.st_size / 1e6:,.0f} MB, which is more than a file beside the weights has ({LARGEST // 10**6} MB)"
        )
    if status.st_size < 1000 and is_lfs_pointer(path):
        return "a git-lfs pointer in place of the file: run git lfs pull in the source"
    return None


def is_lfs_pointer(path: Path) -> bool:
    """Whether the file is what git-lfs leaves in place of one that was not fetched."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def _module_folders(root: Path, listed: Sequence[Path]) -> set[str]:
    """The folders of the modules of sentence-transformers."""
    path = root / _MODULES
    if path not in listed or _place(root, path) is not None or path.is_dir():
        return set()
    modules = _json(path)
    paths = [module.get("path") for module in modules if isinstance(module, dict)] if isinstance(modules, list) else []
    return {path for path in paths if isinstance(path, str) and path and Path(path).name == path}


def _json(path: Path) -> Any:
    """What a small JSON file holds; None where it holds none."""
    try:
        return json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else None
    except (ValueError, RecursionError):
        return None

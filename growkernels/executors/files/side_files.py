"""The files beside the weights: which go along with a grown model, and why the others do not.

A tokenizer's files may have any name. So what is small and is not known to be something else goes along.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from growkernels.errors import GrowthError, printable
from growkernels.plans import Plan, TensorSpec

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
_EXPORTS = ("onnx", "openvino", "gguf", "ggml", "coreml", "tflite", "original", "mlx")
_CHAT_TEMPLATES, _MODULES = "additional_chat_templates", "modules.json"
#: How the modules of sentence-transformers call the model's hidden size.
_HIDDEN = ("word_embedding_dimension", "in_features", "dimension")
_LARGEST_JSON = 1 << 20


@dataclass(frozen=True, slots=True)
class SideFiles:
    """The files beside the weights of the checkpoint in `root`.

    carried: paths below it of what goes along, folders too; left: paths of what does not, with the reason.
    """

    root: Path
    carried: tuple[PurePosixPath, ...] = ()
    left: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size of all that goes along."""
        return sum((self.root / name).stat().st_size for name in self.carried)


@dataclass(frozen=True, slots=True)
class SideReport:
    """What becomes of the files beside the weights: copied, changed (path -> what), and left behind (path -> why)."""

    copied: tuple[str, ...]
    changed: dict[str, str]
    left: dict[str, str]

    def with_training(self, names: Sequence[str]) -> SideReport:
        """The same report where the state of a training, in these files, went along."""
        if not names:
            return self
        left = {name: why for name, why in self.left.items() if name not in names}
        return SideReport((*self.copied, *names), self.changed, left)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the manifest and the command line."""
        return {"copied": list(self.copied), "changed": self.changed, "left_behind": self.left}


def find_side_files(root: Path, weights: Sequence[Path]) -> SideFiles:
    """The side files of a checkpoint; `weights` are its config, its index and its weights, which are none.

    Links are followed inside of `root`, and in a cache of the hub to its own files: others could put any file of the
    reader's into the grown checkpoint.
    """
    own = {path.name for path in weights}
    carried: list[PurePosixPath] = []
    left: dict[str, str] = {}
    modules = _module_folders(root)
    for path in sorted(root.iterdir()):
        if path.name in own:
            continue
        reason = _reason(root, path, modules)
        if reason is None and path.is_dir():
            inner, refused = _inside(root, path)
            carried += [PurePosixPath(path.name), *inner]
            left |= refused
        elif reason is None:
            carried.append(PurePosixPath(path.name))
        else:
            left[printable(f"{path.name}/" if path.is_dir() else path.name)] = reason
    return SideFiles(root, tuple(carried), left)


def _inside(root: Path, folder: Path) -> tuple[list[PurePosixPath], dict[str, str]]:
    """The files below a folder that goes along with everything in it; a module of sentence-transformers has weights."""
    carried, left = [], {}
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(root).as_posix())
        reason = _place(root, path) or (None if path.is_dir() else _size(path))
        if reason is None:
            carried.append(name)
        else:
            left[printable(str(name))] = reason
    return carried, left


def _reason(root: Path, path: Path, modules: set[str]) -> str | None:
    """Why an entry of the checkpoint's folder is left behind; None if it goes along."""
    name = path.name.lower()
    if name.startswith("."):
        return "hidden"
    if (place := _place(root, path)) is not None:
        return place
    if path.is_dir():
        return _folder_reason(path, name, modules)
    for patterns, reason in _LEFT:
        if any(fnmatchcase(name, pattern) for pattern in patterns.split()):
            return reason
    return _size(path)


def _folder_reason(path: Path, name: str, modules: set[str]) -> str | None:
    if path.name == _CHAT_TEMPLATES or path.name in modules:
        return None
    if name.startswith(("checkpoint-", "global_step", "iter_")) or (path / "config.json").is_file():
        return "a checkpoint of its own"
    if name in _EXPORTS:
        return "an export of the source's weights"
    if "tokenizer" in name and not any(_is_weights(file) for file in path.rglob("*")):
        return None
    return "a folder that is not known to belong to the model"


def _is_weights(file: Path) -> bool:
    return any(
        fnmatchcase(file.name.lower(), p) for patterns, why in _LEFT if why == _WEIGHTS for p in patterns.split()
    )


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
    if not (real.is_file() or real.is_dir()):
        return "no file"
    return None if os.access(real, os.R_OK) else "it cannot be read"


def _places(root: Path) -> Iterator[Path]:
    yield root.resolve()
    repository = root.parent.parent
    if root.parent.name == "snapshots" and repository.name.startswith("models--"):
        yield (repository / "blobs").resolve()


def _size(path: Path) -> str | None:
    size = path.stat().st_size
    if size > LARGEST:
        return f"{size / 1e6:,.0f} MB, which is more than a file beside the weights has ({LARGEST // 10**6} MB)"
    if size < 1000 and is_lfs_pointer(path):
        return "a git-lfs pointer in place of the file: run git lfs pull in the source"
    return None


def is_lfs_pointer(path: Path) -> bool:
    """Whether the file is what git-lfs leaves in place of one that was not fetched."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def _module_folders(root: Path) -> set[str]:
    """The folders of the modules of sentence-transformers."""
    listed = _json(root / _MODULES)
    paths = [module.get("path") for module in listed if isinstance(module, dict)] if isinstance(listed, list) else []
    return {path for path in paths if isinstance(path, str) and path and Path(path).name == path}


def _json(path: Path) -> Any:
    """What a small JSON file holds; None where it holds none."""
    try:
        return json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        return None


def report_side_files(side: SideFiles, plan: Plan, tensors: Mapping[str, TensorSpec]) -> SideReport:
    """What a growth does with the side files. `tensors` are those of the source."""
    changed = {name: text for name, (text, _) in _module_changes(side, plan, tensors).items()}
    copied = [name for name in side.carried if not (side.root / name).is_dir()]
    return SideReport(tuple(printable(str(name)) for name in copied), changed, dict(side.left))


def copy_side_files(side: SideFiles, plan: Plan, tensors: Mapping[str, TensorSpec], folder: Path) -> None:
    """Copy what goes along into the folder of the grown checkpoint, with the permissions that it has.

    Raises GrowthError for a file that cannot be copied.
    """
    changes = _module_changes(side, plan, tensors)
    for name in side.carried:
        source, target = side.root / name, folder / name
        try:
            if source.is_dir():
                target.mkdir()
            else:
                _copy(source.resolve(), target, changes.get(str(name), ("", None))[1])
        except OSError as error:
            raise GrowthError(
                f"{source} cannot be copied to the grown checkpoint: {error.strerror or error}."
            ) from error


def _copy(source: Path, target: Path, config: dict[str, Any] | None) -> None:
    # The links have been followed: one that stands there now was put there since.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file, target.open("xb") as copy:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no file any more")
        os.fchmod(copy.fileno(), mode & 0o777)
        if config is None:
            shutil.copyfileobj(file, copy)
        else:
            copy.write(json.dumps(config, indent=2).encode() + b"\n")


def _module_changes(
    side: SideFiles, plan: Plan, tensors: Mapping[str, TensorSpec]
) -> dict[str, tuple[str, dict[str, Any] | None]]:
    """Configs of modules that state the model's hidden size, where it grows: what is done, and the config that states the
    grown one; None where the module's own weights have the size, so that it has to be trained again."""
    embedding = next((rule for rule in plan.rules if rule.kind == "embedding" and len(rule.spec.shape) == 2), None)
    if embedding is None or not embedding.drawn:
        return {}
    before, after = tensors[embedding.source].shape[1], embedding.spec.shape[1]
    changes: dict[str, tuple[str, dict[str, Any] | None]] = {}
    for name in side.carried:
        config = _json(side.root / name) if len(name.parts) == 2 and name.name == "config.json" else None
        if not isinstance(config, dict):
            continue
        keys = [key for key in _HIDDEN if config.get(key) == before != after]
        if not keys:
            continue
        text = ", ".join(f"{key} {before} -> {after}" for key in keys)
        if any(map(_is_weights, (side.root / name.parent).iterdir())):
            text = f"left as it is: its weights are of the source's size ({text}); train this module again"
            changes[str(name)] = text, None
        else:
            changes[str(name)] = text, {**config, **dict.fromkeys(keys, after)}
    return changes

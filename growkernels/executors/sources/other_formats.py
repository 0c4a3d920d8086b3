"""What a path is that is no Hugging Face checkpoint, and how it becomes one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from growkernels.errors import shorten

_SAVE = "and save it with save_pretrained()"


def describe(path: Path) -> str | None:
    """What a file or a folder is, and what to do, in one sentence after its name; None where nobody knows."""
    if path.is_file():
        return _FILES.get(path.suffix.lower())
    names = {entry.name for entry in path.iterdir()}
    for recognized, text in _FOLDERS:
        if recognized(path, names):
            return text(path) if callable(text) else text
    return None


_GGUF = (
    "is a GGUF file, an export for llama.cpp whose weights are quantized: grow the checkpoint that it was made from, or "
    f"read it with from_pretrained(folder, gguf_file=...) {_SAVE}"
)
_LIGHTNING = (
    "is a checkpoint of PyTorch Lightning, a training state around the model: load its 'state_dict' into the model of "
    f"transformers, without the name of the attribute that held it, {_SAVE}"
)
_FILES = {
    ".gguf": _GGUF,
    ".ckpt": _LIGHTNING,
    ".safetensors": "is one weights file; name its folder, which holds config.json too",
    ".bin": "is one weights file; name its folder, which holds config.json too",
    ".pt": f"is a file of torch; load it into the model of transformers {_SAVE}",
    ".pth": f"is a file of torch; load it into the model of transformers {_SAVE}",
    ".json": "is one file; name its folder, which holds the weights too",
}


def _adapter(path: Path) -> str:
    try:
        base = json.loads((path / "adapter_config.json").read_bytes()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        base = None
    named = f" {shorten(base, 100)}" if isinstance(base, str) and base else ""
    return (
        f"is an adapter of peft, without the model that it adapts: load it on its base model{named}, merge it "
        f"(merge_and_unload) {_SAVE}"
    )


def _has(*wanted: str) -> Callable[[Path, set[str]], bool]:
    return lambda path, names: all(name in names for name in wanted)


def _ends(*endings: str) -> Callable[[Path, set[str]], bool]:
    return lambda path, names: any(name.lower().endswith(endings) for name in names)


def _starts(*starts: str) -> Callable[[Path, set[str]], bool]:
    return lambda path, names: any(name.startswith(starts) for name in names)


def _any(*tests: Callable[[Path, set[str]], bool]) -> Callable[[Path, set[str]], bool]:
    return lambda path, names: any(test(path, names) for test in tests)


#: How a folder is recognized, and what it is; the first that fits counts.
_FOLDERS: tuple[tuple[Callable[[Path, set[str]], bool], str | Callable[[Path], str]], ...] = (
    (_has("adapter_config.json"), _adapter),
    (
        _any(_has("checkpoint_metadata.json"), _has("model_config.json", "model")),
        "is a checkpoint of nanotron: convert it with nanotron's convert_nanotron_to_hf",
    ),
    (
        _any(_has("latest_checkpointed_iteration.txt"), _starts("mp_rank_", "iter_")),
        "is a checkpoint of Megatron-LM: convert it with Megatron's tools or Megatron Bridge",
    ),
    (
        _any(_has("zero_to_fp32.py"), _starts("global_step", "zero_pp_rank_")),
        "is a training state of DeepSpeed, in parts: put it together with its zero_to_fp32.py, load that into the model of "
        f"transformers {_SAVE}",
    ),
    (
        _any(_has(".metadata"), _ends(".distcp")),
        "is a distributed checkpoint of torch (DCP), in parts: convert it with python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch, load that into the model of transformers "
        f"{_SAVE}",
    ),
    (_ends(".ckpt"), f"holds what {_LIGHTNING}"),
    (_ends(".gguf"), f"holds what {_GGUF}"),
    (
        _any(_has("params.json"), _starts("consolidated.")),
        "holds weights as their authors published them: take the version for transformers, or convert it with "
        "transformers' conversion script of this family",
    ),
    (
        _ends(".h5", ".msgpack", ".onnx"),
        f"holds weights of another framework: take the version for PyTorch, or load it there {_SAVE}",
    ),
    (
        _has("model_index.json"),
        "is a pipeline of several models: name the folder of one of them",
    ),
)

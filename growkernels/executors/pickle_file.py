"""Weights in torch's own format (`pytorch_model.bin`), memory mapped, never running code that the file brings."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from growkernels.errors import GrowthError


def load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, in its order, as maps of it.

    Raises GrowthError for a file that needs code, is damaged, cannot be mapped, or holds other things than tensors.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            old = file.read(1) == b"\x80"
        raise GrowthError(
            f"{path} is in torch's format from before 1.6, which cannot be memory mapped. Load the model with "
            f"transformers and save it again with save_pretrained()."
            if old
            else f"{path} is damaged or cut short: it is no torch file. Download or save it again."
        )
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise GrowthError(
            f"{path} needs code to be read, and code from a checkpoint is never run ({_first_line(error)}). Convert it "
            f"to safetensors where you trust it: load it with transformers and save it with save_pretrained()."
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise GrowthError(
            f"{path} is damaged or cut short: {_first_line(error)}. Download or save it again."
        ) from error
    if not isinstance(data, dict):
        raise GrowthError(f"{path} holds a {type(data).__name__}; expected a state dict of names and tensors.")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise GrowthError(
                f"{path}: {name!r} is a {type(value).__name__}; expected a state dict of names and tensors. Save the "
                f"model's state_dict() alone, or use save_pretrained()."
            )
        if value.layout is not torch.strided or value.is_quantized:
            raise GrowthError(f"{path}: {name!r} is a quantized or sparse tensor; expected a dense floating-point one.")
    return {name: value.detach() for name, value in data.items()}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

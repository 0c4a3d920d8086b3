"""Weights in torch's own format (`pytorch_model.bin`), memory mapped, never running code that the file brings."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch

from growkernels.errors import GrowthError

#: How torch says which function or class a file asks for.
_CODE = re.compile(r"GLOBAL (\S+)")


def load_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, in its order, as maps of it.

    Raises GrowthError for a file that needs code, is damaged, cannot be mapped, or holds other things than tensors.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80":
        raise GrowthError(
            f"{path} is in torch's format from before 1.6, which cannot be memory mapped. Load the model with "
            f"transformers and save it again with save_pretrained()."
        )
    if start != b"PK\x03\x04":
        raise GrowthError(f"{path} is damaged or cut short: it is no torch file. Download or save it again.")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    # The reader raises whatever the damage leads to.
    except Exception as error:
        code = _CODE.search(str(error))
        if isinstance(error, pickle.UnpicklingError) and code:
            raise GrowthError(
                f"{path} needs code to be read ({code[1]}), and code from a checkpoint is never run. If you trust it, load it "
                f"with transformers where it may run, and save it as safetensors with save_pretrained()."
            ) from error
        # Without torch's advice to load the file regardless.
        lines = str(error).rpartition("WeightsUnpickler error:")[2].split("\n")
        what = [line for line in lines if line.strip() and not line.startswith("Weights only")] or [
            type(error).__name__
        ]
        raise GrowthError(f"{path} is damaged or cut short: {what[0].strip()}. Download or save it again.") from error
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

"""The bits of grown checkpoints: 42 digests that hold from commit to commit.

They were recorded at 0dbad59 and change only with the version of the noise definition. The sources hold integers divided by
a power of two, made without a random generator, so that they are the same under every release of torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import growkernels
from tests.families import FAMILIES, make_model

OPTIONS: dict[str, dict[str, Any]] = {
    "width-2": {"width": 2, "noise_snr_db": None},
    "width-3-noise": {"width": 3, "noise_snr_db": 10.0, "seed": 5},
    "width-2-depth-2-bfloat16": {"width": 2, "depth": 2, "noise_snr_db": 12.5, "dtype": "bfloat16"},
    "diagonal-noise": {"width": 2, "variant": "diagonal", "noise_snr_db": 10.0},
    "ffn-2": {"ffn": 2},
    "layers": {"layers": "0,(0-1)*2,1"},
    "interpolate-3": {"depth": 3, "depth_operator": "interpolate"},
}
DIGESTS: dict[str, str] = json.loads(Path(__file__).with_name("digests.json").read_text())


def values(name: str, shape: torch.Size) -> torch.Tensor:
    """Float32 [*shape]: integers from -128 to 127 over 64 that follow from the name and the position."""
    count = int(np.prod(shape, dtype=np.int64))
    mixed = (np.arange(count, dtype=np.uint64) + np.uint64(crc32(name.encode()))) * np.uint64(0x9E3779B97F4A7C15)
    integers = (mixed >> np.uint64(56)).astype(np.int64) - 128
    return torch.from_numpy((integers / 64).astype(np.float32).reshape(tuple(shape)))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each family."""
    folders = {}
    for family in FAMILIES:
        folders[family] = tmp_path_factory.mktemp(family)
        _, model = make_model(family)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(values(name, parameter.shape))
        model.save_pretrained(folders[family])
    return folders


def digest(folder: Path) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of every tensor in a checkpoint, by name."""
    tensors = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        hasher.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_grown_weights_keep_their_bits(sources: dict[str, Path], tmp_path: Path, family: str, option: str) -> None:
    growkernels.grow_checkpoint(sources[family], tmp_path / "grown", no_verify=True, **OPTIONS[option])
    assert digest(tmp_path / "grown") == DIGESTS[f"{family} {option}"]


def test_every_combination_has_a_digest_of_its_own() -> None:
    assert len(DIGESTS) == len(set(DIGESTS.values())) == len(FAMILIES) * len(OPTIONS) == 42

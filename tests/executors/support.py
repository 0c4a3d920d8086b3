"""Small checkpoints made by hand, plans for them, and the whole road from one folder to the other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from growkernels.executors import execute, open_source, staged, write_manifest
from growkernels.plans import Noise, Plan, Rule, TensorSpec, Tile

CONFIG = {"model_type": "test", "hidden_size": 48}


def tensors(dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, torch.Tensor]:
    """A matrix [out, in], one stored [in, out], a norm, and a buffer that no rule takes."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "embed.weight": random(97, 48),
        "layers.0.proj.weight": random(64, 48),
        "layers.0.conv.weight": random(48, 40),
        "layers.0.norm.weight": random(48),
        "layers.0.mask": torch.ones(5, 5, dtype=torch.bool),
    }


def write_config(folder: Path, config: Any = CONFIG) -> None:
    """A config and the small files that go along."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')


def write_source(folder: Path, values: Mapping[str, torch.Tensor] | None = None) -> Path:
    """A checkpoint in one safetensors file."""
    write_config(folder)
    save_file(dict(tensors() if values is None else values), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_sharded(folder: Path, values: Mapping[str, torch.Tensor] | None = None) -> Path:
    """The same in one file for each tensor, with an index."""
    write_config(folder)
    values = tensors() if values is None else values
    weight_map = {}
    for number, (name, value) in enumerate(values.items(), 1):
        weight_map[name] = f"model-{number:05}-of-{len(values):05}.safetensors"
        save_file({name: value}, folder / weight_map[name], metadata={"format": "pt"})
    write_index(folder, weight_map)
    return folder


def write_index(folder: Path, weight_map: Any) -> None:
    """The index of a sharded checkpoint."""
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def rule(name: str, shape: tuple[int, ...], dtype: str, sum_axis: int | None = None, **fields: Any) -> Rule:
    """Every axis twice, the input divided by two."""
    tile = replace(Tile.copies(shape, [2] * len(shape), sum_axis), **fields)
    return Rule(name, (name,), TensorSpec(tile.shape, dtype), tile, kind="linear")


def plan(dtype: str = "float32", snr_db: float | None = None, **fields: Any) -> Plan:
    """Twice as wide, with the norm kept in float32."""

    noise = None if snr_db is None else Noise(snr_db)
    rules = (
        rule("embed.weight", (97, 48), dtype),
        rule("layers.0.proj.weight", (64, 48), dtype, 1, noise=noise, key=11),
        rule("layers.0.conv.weight", (48, 40), dtype, 0, noise=noise, key=12),
        rule("layers.0.norm.weight", (48,), "float32"),
    )
    config = {**CONFIG, "hidden_size": 96}
    return Plan(rules, CONFIG, config, (0,), {}, 0, (), dropped={"layers.0.mask": "a buffer"}, **fields)


def grow(src: Path, dst: Path, wanted: Plan | None = None, overwrite: bool = False, **options: Any) -> Plan:
    """The whole road."""
    source = open_source(src)
    with staged(dst, overwrite, source.path) as folder:
        done = execute(source, wanted or plan(), folder, **options)
        write_manifest(folder, source, done)
    return done


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with a hash of its contents."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def write_bin(folder: Path) -> Path:
    """A checkpoint in one torch file."""
    write_config(folder)
    torch.save(tensors(), folder / "pytorch_model.bin")
    return folder


def write_sharded_bin(folder: Path) -> Path:
    """A checkpoint in torch files, one for each tensor, with an index."""
    write_config(folder)
    weight_map = {}
    for number, (name, value) in enumerate(tensors().items()):
        weight_map[name] = f"pytorch_model-{number}.bin"
        torch.save({name: value}, folder / weight_map[name])
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder

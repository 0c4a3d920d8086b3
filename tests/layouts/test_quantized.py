"""Quantized checkpoints as they are published: their layers are copied bit for bit, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import growkernels
from growkernels.errors import GrowthError
from tests.coverage import twins

_GENERATOR = torch.Generator().manual_seed(0)


def _bytes(*shape: int) -> torch.Tensor:
    return torch.randint(1, 255, shape, dtype=torch.uint8, generator=_GENERATOR)


def _checkpoint(folder: Path, name: str, quantization: dict[str, object], **changes: object) -> dict[str, torch.Tensor]:
    """A twin in bfloat16 with the config of a quantized one; its tensors, which are still plain."""
    model = twins.make_model(name, twins.make_config(name, **changes)).to(torch.bfloat16)
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    # As published: with code of its own beside, which transformers does not need.
    config |= {"quantization_config": quantization, "auto_map": {"AutoModelForCausalLM": "modeling_own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    return load_file(folder / "model.safetensors")


def _fp8(folder: Path, block: tuple[int, int]) -> Path:
    """DeepSeek-V3: blocks of float8 with a scale each, and a layer behind the last that predicts one more token."""
    tensors = _checkpoint(
        folder,
        "deepseek_v3",
        {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": list(block)},
    )
    for name, value in list(tensors.items()):
        if name.endswith("_proj.weight") or name.endswith("proj_with_mqa.weight"):
            tensors[name] = _bytes(*value.shape).clamp(max=100).view(torch.float8_e4m3fn)
            rows, columns = (-(-size // each) for size, each in zip(value.shape, block, strict=True))
            tensors[name + "_scale_inv"] = torch.rand(rows, columns, generator=_GENERATOR)
    tensors["model.layers.61.eh_proj.weight"] = torch.ones(24, 48, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def fp8(tmp_path: Path) -> Path:
    """Some of its blocks are cut off by the edge."""
    return _fp8(tmp_path / "fp8", (16, 8))


@pytest.fixture
def fp8_whole(tmp_path: Path) -> Path:
    """All of its blocks are whole."""
    return _fp8(tmp_path / "fp8", (2, 2))


@pytest.fixture
def mxfp4(tmp_path: Path) -> Path:
    """GPT-OSS: experts as codes of four bits, two in a byte, and a scale for 32 of them."""
    tensors = _checkpoint(
        tmp_path / "mxfp4",
        "gpt_oss",
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
        hidden_size=64,
        intermediate_size=96,
    )
    for name, value in list(tensors.items()):
        if name.endswith(("gate_up_proj", "down_proj")):
            experts, summed, put_out = tensors.pop(name).shape
            tensors[f"{name}_blocks"] = _bytes(experts, put_out, summed // 32, 16)
            # Powers of two, 127 for one.
            tensors[f"{name}_scales"] = _bytes(experts, put_out, summed // 32) % 8 + 120
            assert value.ndim == 3
    save_file(tensors, tmp_path / "mxfp4" / "model.safetensors")
    return tmp_path / "mxfp4"


def _layer(name: str) -> tuple[str, int | None]:
    head, _, rest = name.removeprefix("model.layers.").partition(".")
    return (rest, int(head)) if head.isdigit() else (name, None)


@pytest.mark.parametrize(("name", "layers"), [("fp8", [0, 1, 1, 2, 3, 2, 3]), ("mxfp4", [0, 1, 2, 3, 0, 1, 2, 3])])
def test_layers_are_copied_bit_for_bit(name, layers, request, tmp_path):
    source = request.getfixturevalue(name)
    with pytest.warns(UserWarning, match="names code of its own"):
        report = growkernels.grow_checkpoint(source, tmp_path / "deep", layers=",".join(map(str, layers)))
    assert report.verification.passed
    wanted, got = load_file(source / "model.safetensors"), load_file(tmp_path / "deep" / "model.safetensors")
    expected = {}
    for tensor, value in wanted.items():
        rest, layer = _layer(tensor)
        if layer is None:
            expected[tensor] = value
        elif layer < 4:
            expected |= {f"model.layers.{i}.{rest}": value for i, taken in enumerate(layers) if taken == layer}
    assert got.keys() == expected.keys()
    for tensor, value in expected.items():
        assert got[tensor].dtype == value.dtype
        assert torch.equal(got[tensor].view(torch.uint8), value.view(torch.uint8)), tensor
    config = json.loads((tmp_path / "deep" / "config.json").read_text())
    assert config["num_hidden_layers"] == len(layers)
    assert config["quantization_config"] == json.loads((source / "config.json").read_text())["quantization_config"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("fp8_whole", r"fp8\).*quantization_config=t\.FineGrainedFP8Config\(dequantize=True\)"),
        ("fp8", r"fp8\).*fp8_cast_bf16\.py --input-fp8-hf-path"),
        ("mxfp4", r"mxfp4\).*quantization_config=t\.Mxfp4Config\(dequantize=True\)"),
    ],
)
def test_width_is_refused_with_the_command_that_dequantizes(name, command, request):
    with pytest.raises(GrowthError, match=rf"weights are quantized \({command}"):
        growkernels.plan(request.getfixturevalue(name), width=2)


@pytest.mark.parametrize("name", ["fp8", "mxfp4"])
@pytest.mark.parametrize(
    "options", [{"dtype": "float32"}, {"depth_operator": "ligo", "width_operator": "ligo"}], ids=["dtype", "ligo"]
)
def test_what_computes_with_weights_is_refused(name, options, request):
    with pytest.raises(GrowthError, match=r"quantized \("):
        growkernels.plan(request.getfixturevalue(name), layers="0,1,2,3,1,2,3", **options)


def test_live_models_of_it_are_refused(mxfp4):
    with pytest.raises(GrowthError, match="live model of them is not known"):
        growkernels.load_grown(mxfp4, depth=2)


def test_config_alone_is_refused(mxfp4):
    with pytest.raises(GrowthError, match="plan the folder"):
        growkernels.plan(mxfp4 / "config.json", depth=2)


@pytest.mark.parametrize(
    ("name", "piece", "spoil", "words"),
    [
        ("fp8", "layers.1.self_attn.o_proj.weight_scale_inv", None, "o_proj.weight_scale_inv is missing"),
        ("fp8", "layers.1.self_attn.o_proj.weight", None, "o_proj.weight is missing"),
        ("fp8", "layers.2.mlp.experts.3.up_proj.weight_scale_inv", torch.ones(2, 2), r"has shape \[2, 2\].* gives \[1, 3\]"),
        ("mxfp4", "layers.1.mlp.experts.down_proj_scales", None, "down_proj_scales is missing"),
        ("mxfp4", "layers.1.mlp.experts.down_proj_blocks", None, "down_proj_blocks is missing"),
        ("mxfp4", "layers.1.mlp.experts.down_proj_scales", _bytes(4, 24, 1), r"has shape \[4, 24, 1\].* gives \[4, 64, 3\]"),
    ],
)  # fmt: skip
def test_pieces_that_do_not_fit_are_refused(name, piece, spoil, words, request):
    source = request.getfixturevalue(name)
    tensors = load_file(source / "model.safetensors")
    assert tensors.pop(f"model.{piece}") is not None
    if spoil is not None:
        tensors[f"model.{piece}"] = spoil
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(GrowthError, match=words):
        growkernels.plan(source, layers="0,1,1,2,3")


@pytest.mark.parametrize("options", [{"depth_operator": "llama_pro"}, {"depth_operator": "random"}, {"fade": True}])
def test_layers_that_are_no_copies_are_refused(fp8: Path, mxfp4: Path, options: dict[str, object]) -> None:
    for source, kind in ((fp8, "fp8"), (mxfp4, "mxfp4")):
        with pytest.raises(
            GrowthError, match=rf"quantized \({kind}\): their layers can be copied as they are .*and nothing else"
        ):
            growkernels.plan(source, layers="0-3,3", **options)

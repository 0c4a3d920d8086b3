"""What is no checkpoint of Hugging Face is named, with the way to one; and so are files that are not the files themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from growkernels.errors import GrowthError
from growkernels.executors import open_source
from tests.executors.support import write_config

#: Files of a folder without config.json or weights, and what is said of it.
FOLDERS = {
    "peft": (("adapter_config.json", "adapter_model.safetensors"), "adapter of peft.*base model x.*merge_and_unload"),
    "peft, damaged": (("adapter_config.json",), "adapter of peft"),
    "gguf": (("model-Q4.gguf",), "is a GGUF file.*quantized.*gguf_file"),
    "DCP": ((".metadata", "__0_0.distcp"), r"distributed checkpoint of torch \(DCP\).*dcp_to_torch"),
    "DeepSpeed": (("zero_to_fp32.py", "latest"), "DeepSpeed.*zero_to_fp32"),
    "DeepSpeed's step": (("global_step500/mp_rank_00_model_states.pt",), "DeepSpeed.*zero_to_fp32"),
    "Lightning": (("epoch=1-step=9.ckpt", "hparams.yaml"), "PyTorch Lightning.*state_dict"),
    "nanotron": (("checkpoint_metadata.json", "model_config.json", "model/x"), "nanotron.*convert_nanotron_to_hf"),
    "Megatron": (("latest_checkpointed_iteration.txt", "iter_0000010/mp_rank_00/x.pt"), "Megatron-LM.*Megatron Bridge"),
    "Meta": (("params.json", "consolidated.00.pth"), "as their authors published them"),
    "TensorFlow": (("tf_model.h5",), "of another framework"),
    "Flax": (("flax_model.msgpack",), "of another framework"),
    "diffusers": (("model_index.json", "unet/config.json"), "pipeline of several models"),
}


@pytest.mark.parametrize("config", [False, True], ids=["no config", "no weights"])
@pytest.mark.parametrize("case", FOLDERS)
def test_folders_of_other_kinds(tmp_path: Path, case: str, config: bool) -> None:
    files, message = FOLDERS[case]
    src = tmp_path / "src"
    for name in files:
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}' if case == "peft" else "[")
    if config:
        write_config(src)
    with pytest.raises(GrowthError, match=f"(?s){message}"):
        open_source(src)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.gguf", "is a GGUF file"),
        ("last.ckpt", "PyTorch Lightning"),
        ("model.safetensors", "is one weights file; name its folder"),
        ("pytorch_model.bin", "is one weights file; name its folder"),
        ("model.pth", "is a file of torch"),
        ("config.json", "is one file; name its folder"),
        ("notes.txt", "is a file; expected the folder of a checkpoint"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(GrowthError, match=message):
        open_source(tmp_path / name)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "pytorch_model.bin", "config.json", "model.safetensors.index.json"]
)
def test_pointers_of_git_lfs(tmp_path: Path, file: str) -> None:
    src = tmp_path / "src"
    write_config(src)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456789\n"
    (src / file).write_text(pointer)
    with pytest.raises(GrowthError, match=rf"{file} is a pointer of git-lfs and not the file itself.*git lfs pull"):
        open_source(src)


def named(folder: Path, *names: str) -> Path:
    write_config(folder)
    save_file({name: torch.full((2,), float(i)) for i, name in enumerate(names)}, folder / "model.safetensors")
    return folder


WRAPPED = {
    "_orig_mod.": ("_orig_mod.a.weight", "_orig_mod.b.weight"),
    "module.": ("module.a.weight", "module.b.weight"),
    "module._orig_mod.": ("module._orig_mod.a.weight", "module._orig_mod.b.weight"),
    "_forward_module.": ("_forward_module.a.weight", "_forward_module.b.weight"),
}


@pytest.mark.parametrize("prefix", WRAPPED)
def test_prefixes_of_wrappers_are_named_and_left_out_on_request(tmp_path: Path, prefix: str) -> None:
    src = named(tmp_path / "src", *WRAPPED[prefix])
    with pytest.raises(GrowthError) as refused:
        open_source(src)
    assert f"--strip-prefix {prefix} " in str(refused.value) and f"strip_prefix={prefix!r}" in str(refused.value)
    assert "remove" not in str(refused.value)
    source = open_source(src, prefix)
    assert set(source.tensors) == {"a.weight", "b.weight"}
    assert source.tensor("b.weight").tolist() == [1.0, 1.0]


def test_layers_that_were_compiled_each(tmp_path: Path) -> None:
    names = ("embed.weight", "layers.0._orig_mod.a.weight", "layers.1._orig_mod.a.weight")
    src = named(tmp_path / "src", *names)
    with pytest.raises(GrowthError, match=r"--strip-prefix _orig_mod\. .*or save the model without"):
        open_source(src)
    assert set(open_source(src, "_orig_mod.").tensors) == {"embed.weight", "layers.0.a.weight", "layers.1.a.weight"}


def test_adapted_weights_are_to_be_merged(tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match="merge the adapter"):
        open_source(named(tmp_path / "src", "base_model.model.a.lora_A.weight", "base_model.model.a.weight"))


def test_prefixes_that_are_none(tmp_path: Path) -> None:
    src = named(tmp_path / "src", "a.weight", "x.a.weight")
    with pytest.raises(GrowthError, match=r"no tensor's name has the prefix 'y\.'; the first is 'a\.weight'"):
        open_source(src, "y.")
    with pytest.raises(GrowthError, match="two tensors have the same name without the prefix"):
        open_source(src, "x.")
    # Within a word it is no prefix.
    other = named(tmp_path / "other", "bx.a", "x.c")
    assert set(open_source(other, "x.").tensors) == {"bx.a", "c"}

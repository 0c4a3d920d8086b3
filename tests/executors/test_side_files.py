"""Files beside the weights: what belongs to the model goes along as it is, and what does not is named with the reason."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from growkernels.errors import GrowthError
from growkernels.executors import open_source, read_manifest
from growkernels.executors.files import side_files
from growkernels.executors.files.side_copies import copy_side_files
from growkernels.plans import Plan
from tests.executors.support import grow, plan, snapshot, tensors, write_config, write_source

#: Goes along, also where nobody has heard of the name.
CARRIED = (
    "tokenizer.model",
    "tokenizer_config.json",
    "source.spm",
    "target.spm",
    "bpe.codes",
    "dict.en.txt",
    "tekken.json",
    "qwen.tiktoken",
    "vocab",
    "tokenization_own.py",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool_use.jinja",
    "additional_chat_templates/rag.jinja",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "LICENSE",
    "LICENSE.md",
    "NOTICE.txt",
    "USE_POLICY.md",
    "my_tokenizer/vocab.txt",
)
#: Does not, and what the reason says; a folder is named once.
LEFT = {
    "model.fp16.safetensors": "weights in another form",
    "flax_model.msgpack": "weights in another form",
    "tf_model.h5": "weights in another form",
    "pytorch_model.bin.index.json": "weights in another form",
    "model-Q4_K_M.gguf": "weights in another form",
    "optimizer.pt": "training",
    "scheduler.pt": "training",
    "rng_state_0.pth": "training",
    "trainer_state.json": "training",
    "training_args.bin": "training",
    "all_results.json": "training",
    "checkpoint-500/model.safetensors": "a checkpoint of its own",
    "inner/config.json": "a checkpoint of its own",
    "global_step500/mp_rank_00_model_states.pt": "a checkpoint of its own",
    ".git/config": "hidden",
    ".gitattributes": "hidden",
    "onnx/model.onnx": "an export",
    "original/consolidated.00.pth": "an export",
    "old_tokenizer/inner/model.onnx": "not known to belong",
    "runs/events.out.tfevents.1": "not known to belong",
    "README.md": "describes the source",
    "curve.png": "describes the source",
    "train.jsonl": "data",
    "adapter_config.json": "an adapter",
    "quantize_config.json": "quantized",
    "growkernels.json": "how the source was grown",
    "growkernels.safetensors": "how the source was grown",
    "tokenizer.json.partial": "not finished",
}


def put(folder: Path, name: str, data: bytes | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"contents of {name}".encode() if data is None else data)
    return path


def modules(src: Path) -> None:
    """What sentence-transformers writes: a pooling, a normalization without a file, a layer with weights."""
    paths = ["", "1_Pooling", "2_Dense", "3_Normalize"]
    put(src, "modules.json", json.dumps([{"idx": i, "name": str(i), "path": p} for i, p in enumerate(paths)]).encode())
    put(src, "1_Pooling/config.json", b'{"word_embedding_dimension": 48, "pooling_mode_mean_tokens": true}')
    put(src, "2_Dense/config.json", b'{"in_features": 48, "out_features": 7}')
    save_file({"linear.weight": torch.ones(7, 48)}, src / "2_Dense" / "model.safetensors")
    (src / "3_Normalize").mkdir()


def embedding_plan() -> Plan:
    """Whose embedding says how the hidden size grows."""
    wanted = plan()
    return replace(wanted, rules=(replace(wanted.rules[0], kind="embedding"), *wanted.rules[1:]))


def test_what_goes_along_and_what_is_left_behind(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    for name in (*CARRIED, *LEFT):
        put(src, name)
    modules(src)
    before = snapshot(src)
    grow(src, tmp_path / "dst")
    grown = snapshot(tmp_path / "dst")
    for name in (*CARRIED, "generation_config.json", "tokenizer.json"):
        assert grown[name] == before[name], name
    assert grown["3_Normalize"] == "folder"
    written = {
        "config.json",
        "model.safetensors",
        "growkernels.json",
        "additional_chat_templates",
        "1_Pooling",
        "2_Dense",
    }
    assert set(grown) - set(before) - written == set()
    left = read_manifest(tmp_path / "dst").side_files["left_behind"]
    for name, reason in LEFT.items():
        entry = f"{name.partition('/')[0]}/" if "/" in name else name
        assert reason in left[entry], name
        assert name not in grown or name in written
    assert len(left) == len({name.partition("/")[0] for name in LEFT})
    assert set(read_manifest(tmp_path / "dst").side_files["copied"]) == {
        *CARRIED,
        "generation_config.json",
        "tokenizer.json",
    }


def test_a_pooling_follows_the_hidden_size_and_a_module_with_weights_is_named(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    modules(src)
    (src / "1_Pooling" / "config.json").chmod(0o640)
    grow(src, tmp_path / "dst", embedding_plan())
    pooling = json.loads((tmp_path / "dst" / "1_Pooling" / "config.json").read_text())
    assert pooling == {"word_embedding_dimension": 96, "pooling_mode_mean_tokens": True}
    assert stat.S_IMODE((tmp_path / "dst" / "1_Pooling" / "config.json").stat().st_mode) == 0o640
    assert json.loads((tmp_path / "dst" / "2_Dense" / "config.json").read_text())["in_features"] == 48
    changed = read_manifest(tmp_path / "dst").side_files["changed"]
    assert changed["1_Pooling/config.json"] == "word_embedding_dimension 48 -> 96"
    assert "train this module again" in changed["2_Dense/config.json"] and len(changed) == 2


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    src = write_source(tmp_path / "src")
    put(src, "vocab.txt").chmod(mode)
    grow(src, tmp_path / "dst")
    assert stat.S_IMODE((tmp_path / "dst" / "vocab.txt").stat().st_mode) == mode


def test_bits_beyond_the_permissions_are_not(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    put(src, "vocab.txt").chmod(0o4755)
    grow(src, tmp_path / "dst")
    assert stat.S_IMODE((tmp_path / "dst" / "vocab.txt").stat().st_mode) == 0o755


def test_links_are_followed_inside_of_the_source_only(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    put(tmp_path, "key", b"PRIVATE").chmod(0o600)
    put(tmp_path / "outside", "secret.jinja", b"PRIVATE")
    put(src, "real.txt", b"vocabulary").chmod(0o600)
    for name, target in {
        "LICENSE": tmp_path / "key",
        "vocab.txt": Path("real.txt"),
        "merges.txt": Path("nowhere"),
        "loop": Path("loop"),
        "additional_chat_templates": tmp_path / "outside",
        "up.txt": Path("../key"),
    }.items():
        (src / name).symlink_to(target)
    put(src, "my_tokenizer/a.txt")
    (src / "my_tokenizer" / "b.txt").symlink_to(tmp_path / "key")
    grow(src, tmp_path / "dst")
    grown = tmp_path / "dst"
    assert not any(path.is_symlink() for path in grown.rglob("*"))
    assert not any(b"PRIVATE" in path.read_bytes() for path in grown.rglob("*") if path.is_file())
    assert (grown / "vocab.txt").read_bytes() == b"vocabulary"
    assert stat.S_IMODE((grown / "vocab.txt").stat().st_mode) == 0o600
    left = read_manifest(grown).side_files["left_behind"]
    for name in ("LICENSE", "up.txt", "additional_chat_templates/", "my_tokenizer/b.txt"):
        assert "outside of the checkpoint" in left[name]
    assert left["merges.txt"] == left["loop"] == "a link that leads nowhere"


def test_links_into_the_files_of_the_hub_cache_are_followed(tmp_path: Path) -> None:
    snapshot_, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    write_source(snapshot_)
    put(blobs, "abc", b"vocabulary")
    (snapshot_ / "vocab.txt").symlink_to("../../blobs/abc")
    put(tmp_path / "models--c--d" / "blobs", "abc", b"another model's")
    (snapshot_ / "merges.txt").symlink_to(tmp_path / "models--c--d" / "blobs" / "abc")
    grow(snapshot_, tmp_path / "dst")
    assert (tmp_path / "dst" / "vocab.txt").read_bytes() == b"vocabulary"
    assert not (tmp_path / "dst" / "merges.txt").exists()


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    put(src, "vocab.txt")
    put(tmp_path, "key", b"PRIVATE")
    source = open_source(src)
    (src / "vocab.txt").unlink()
    (src / "vocab.txt").symlink_to(tmp_path / "key")
    real = Path.resolve
    with pytest.MonkeyPatch.context() as patch:
        # The link comes after its target was looked up.
        patch.setattr(
            Path, "resolve", lambda self, strict=False: self if self.name == "vocab.txt" else real(self, strict)
        )
        with pytest.raises(GrowthError, match=r"vocab\.txt cannot be copied"):
            copy_side_files(source.side, plan(), source.tensors, put(tmp_path / "out", "x").parent)


@pytest.mark.parametrize(
    ("folder", "gone"),
    [
        ("", "vocab.txt"),
        ("", "modules.json"),
        ("", "my_tokenizer"),
        ("my_tokenizer", "my_tokenizer/a.txt"),
        ("my_tokenizer", "my_tokenizer/inner"),
        ("2_Dense", "2_Dense/config.json"),
    ],
)
def test_what_vanishes_after_it_was_listed_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, gone: str
) -> None:
    src = write_source(tmp_path / "src")
    modules(src)
    for name in ("vocab.txt", "my_tokenizer/a.txt", "my_tokenizer/inner/b.txt"):
        put(src, name)
    open_source(src)
    real = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        listed = list(real(self))
        if self == src / folder and (src / gone).exists():
            (src / gone).rename(tmp_path / "elsewhere")
        return iter(listed)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(GrowthError, match=rf"{gone} is gone since its folder was listed: .* run again"):
        open_source(src)


def replaced(path: Path) -> None:
    put(path.parent, "new", path.read_bytes())
    (path.parent / "new").rename(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda path: path.write_bytes(b"contents of VOCAB.txt"), "it was written to"),
        (lambda path: path.write_bytes(b"short"), "it had 21 bytes and has 5"),
        (replaced, "another file is in its place"),
    ],
)
def test_a_side_file_that_changes_during_the_growth(tmp_path: Path, change: Callable[[Path], None], why: str) -> None:
    src = write_source(tmp_path / "src")
    path = put(src, "vocab.txt")
    os.utime(path, ns=(0, 0))
    source = open_source(src)
    change(path)
    with pytest.raises(GrowthError, match=rf"vocab\.txt has changed since it was opened \({why}\)"):
        copy_side_files(source.side, plan(), source.tensors, put(tmp_path / "out", "x").parent)


def test_links_to_folders_inside_of_folders_and_deep_ones_have_an_end(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    put(src, "/".join(["my_tokenizer", *"x" * 40, "a.txt"]))
    (src / "my_tokenizer" / "loop").symlink_to("../my_tokenizer")
    grow(src, tmp_path / "dst")
    left = read_manifest(tmp_path / "dst").side_files["left_behind"]
    assert left["my_tokenizer/loop/"] == "a link to a folder"
    assert left["/".join(["my_tokenizer", *"x" * 20, ""])] == "a folder too deep inside of others"


def test_a_list_of_modules_that_is_a_pipe_or_a_link_out_is_not_read(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    put(src, "1_Pooling/pooling.txt")
    os.mkfifo(src / "modules.json")
    assert open_source(src).side.left["modules.json"] == "no file"
    (src / "modules.json").unlink()
    (src / "modules.json").symlink_to(put(tmp_path, "outside.json", b'[{"path": "1_Pooling"}]'))
    assert "not known to belong" in open_source(src).side.left["1_Pooling/"]


def test_pipes_pointers_and_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    src = write_source(tmp_path / "src")
    os.mkfifo(src / "pipe.txt")
    put(src, "vocab.json", side_files.LFS_POINTER + b"v1\noid sha256:0\nsize 5\n")
    with (src / "huge.txt").open("wb") as file:
        file.truncate(side_files.LARGEST + 1)
    with (src / "large.txt").open("wb") as file:
        file.truncate(1000)
    grow(src, tmp_path / "dst")
    left = read_manifest(tmp_path / "dst").side_files["left_behind"]
    assert left["pipe.txt"] == "no file" and "git lfs pull" in left["vocab.json"]
    assert "100 MB, which is more than" in left["huge.txt"]
    assert (tmp_path / "dst" / "large.txt").stat().st_size == 1000


def test_names_that_no_terminal_may_see(tmp_path: Path) -> None:
    src = write_source(tmp_path / "src")
    put(src, "\x1b]0;title\x07.npz")
    grow(src, tmp_path / "dst")
    assert r"\x1b]0;title\x07.npz" in read_manifest(tmp_path / "dst").side_files["left_behind"]


@pytest.mark.parametrize("listed", [b"[" * 100_000, b"5", b'[5, {"path": "../outside"}, {"path": ["x"]}]', b"\xff"])
def test_damaged_lists_of_modules(tmp_path: Path, listed: bytes) -> None:
    src = write_source(tmp_path / "src")
    put(src, "modules.json", listed)
    put(tmp_path / "outside", "config.json", b"{}")
    grow(src, tmp_path / "dst")
    assert (tmp_path / "dst" / "modules.json").read_bytes() == listed


def test_a_pickled_source_leaves_no_weights_behind_but_its_others(tmp_path: Path) -> None:
    write_config(tmp_path / "src")
    torch.save(tensors(), tmp_path / "src" / "pytorch_model.bin")
    assert open_source(tmp_path / "src").side.left == {}

"""Input of absurd size or depth: refused within a second of computing, by a message of bounded length."""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import growkernels
from growkernels import GrowthError
from tests.end_to_end.support import saved


def header(src: Path, change: Callable[[dict[str, Any]], bytes | None]) -> None:
    path = src / "model.safetensors"
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + length])
    text = change(head) or json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def shape(value: Any) -> Callable[[Path], None]:
    """The head's shape, as a file may state it."""

    def spoil(src: Path) -> None:
        header(src, lambda head: head["lm_head.weight"].update(shape=value))

    return spoil


def config(**changes: Any) -> Callable[[Path], None]:
    def spoil(src: Path) -> None:
        path = src / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def one_name_twice(src: Path) -> None:
    entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    names = ",".join([*(f'"t{i}":{entry}' for i in range(20_000)), f'"t1":{entry}'])
    header(src, lambda head: f"{{{names}}}".encode())


def all_names_twice(src: Path) -> None:
    names = ",".join(['"x":5'] * 200_000)
    header(src, lambda head: f"{{{names}}}".encode())


def deep_header(src: Path) -> None:
    header(src, lambda head: b"[" * 1_000_000)


def deep_index(src: Path) -> None:
    (src / "model.safetensors").rename(src / "other.safetensors")
    (src / "model.safetensors.index.json").write_text('{"weight_map":' + "[" * 1_000_000)


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "a shape of 4000 digits": (shape([10**4000] * 2), "expected a name and numbers"),
    "a shape of 1000 numbers of 4200 digits": (shape([10**4200 - 1] * 1000), "expected a name and numbers"),
    "a shape of 100,000 ones": (shape([1] * 100_000), "expected a name and numbers"),
    "a shape of 60 large numbers": (shape([2**62] * 60), "needs .* bytes and has"),
    "a number too long for Python": (
        lambda src: header(src, lambda head: b'{"x":{"dtype":"F32","shape":[' + b"9" * 10**6 + b'],"data_offsets":[0,0]}}'),
        "its header is no valid JSON",
    ),
    "a shape that is an object": (shape({}), "expected a name and numbers"),
    "a shape that is text": (shape(""), "expected a name and numbers"),
    "20,000 names, one twice": (one_name_twice, "twice in one object: t1"),
    "one name 200,000 times": (all_names_twice, "twice in one object: x"),
    "a header of a million brackets": (deep_header, "its header is no valid JSON"),
    "an index of a million brackets": (deep_index, "is no valid JSON"),
    "10^7 layers": (config(num_hidden_layers=10**7), "number of layers is 10000000 in config.json, but 2"),
    "10^400 layers": (config(num_hidden_layers=10**400), "number of layers is absurd in config.json, but 2"),
    "10^7 layers of the window": (config(max_window_layers=10**7), "number of layers is 10000000 in config.json, but 2"),
    "three million labels": (config(num_labels=3 * 10**6), "num_labels to 3,000,000: more than"),
    "a million labels by name": (config(id2label={str(i): "x" for i in range(10**6)}), "id2label to 1,000,000"),
    "labels that are no names": (config(id2label={str(i): i for i in range(50_000)}), "expected numbers and names"),
    "labels of no numbers": (config(id2label={f"x{i}": "x" for i in range(50_000)}), "expected numbers and names"),
    "numbers of labels that are none": (config(label2id={str(i): [] for i in range(50_000)}), "expected numbers and names"),
    "a list of 200,000 numbers": (config(extra=[0] * 200_000), "more than 100,000 values"),
    "200,000 lists in lists": (config(extra=[[[]] * 10] * 20_000), "more than 100,000 values"),
    "numbers for layer lists": (config(mlp_only_layers=5), "mlp_only_layers to 5: expected a list"),
    "text in layer numbers": (config(mlp_only_layers=["x"]), "mlp_only_layers to a list: expected a list of layer numbers"),
    "layer types that are a number": (config(layer_types=5), "layer_types to 5: expected a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused_within_a_second(tmp_path: Path, case: str) -> None:
    spoil, message = BAD[case]
    src = saved(tmp_path, "llama")
    spoil(src)
    start = process_time()
    with pytest.raises(GrowthError, match=message) as error:
        growkernels.plan(src, depth=2)
    assert process_time() - start < 1.0
    assert len(str(error.value)) < 2100


LABELS = 50_000


@pytest.mark.parametrize(
    "labels",
    [
        {"num_labels": LABELS},
        {"id2label": {str(i): f"l{i}" for i in range(LABELS)}},
        {
            "id2label": {str(i): f"l{i}" for i in range(LABELS)},
            "label2id": {f"l{i}": i for i in range(LABELS)},
        },
    ],
    ids=["number", "names", "both"],
)
def test_many_labels_take_no_time(tmp_path: Path, labels: dict[str, Any]) -> None:
    """They are kept, and the head of a classifier has as many rows."""
    src = saved(tmp_path, "llama")
    tensors = load_file(src / "model.safetensors")
    tensors["score.weight"] = torch.ones(LABELS, tensors.pop("lm_head.weight").shape[1])
    save_file(tensors, src / "model.safetensors", metadata={"format": "pt"})
    config(architectures=["LlamaForSequenceClassification"], **labels)(src)
    start = process_time()
    planned = growkernels.plan(src, width=2)
    assert process_time() - start < 1.0
    assert {key: planned.config[key] for key in labels} == labels
    score = next(rule for rule in planned.rules if rule.target == "score.weight")
    assert score.spec.shape[0] == LABELS


def test_as_many_labels_as_the_class_has_by_itself(tmp_path: Path) -> None:
    """Numbers of labels alone say nothing of the head."""
    src = saved(tmp_path, "llama")
    tensors = load_file(src / "model.safetensors")
    tensors["score.weight"] = torch.ones(2, tensors.pop("lm_head.weight").shape[1])
    save_file(tensors, src / "model.safetensors", metadata={"format": "pt"})
    config(architectures=["LlamaForSequenceClassification"], label2id={f"l{i}": i for i in range(LABELS)})(src)
    assert growkernels.plan(src, width=2).rules[-1].spec.shape[0] == 2


def test_a_config_longer_than_any(tmp_path: Path) -> None:
    src = saved(tmp_path, "llama")
    with (src / "config.json").open("r+b") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(GrowthError, match="which no such file has"):
        growkernels.plan(src, depth=2)


def test_a_key_of_another_family_is_accepted(tmp_path: Path) -> None:
    """Llama knows no window layers; configs written for several families have them all the same."""
    src = saved(tmp_path, "llama")
    config(max_window_layers=1)(src)
    assert growkernels.plan(src, depth=2).config["max_window_layers"] == 1


def test_more_files_than_descriptors(tmp_path: Path) -> None:
    """A plan maps no file; a growth maps them all, and says what to raise. In a process of its own: the limit stays."""
    src = saved(tmp_path, "llama")
    tensors = load_file(src / "model.safetensors")
    (src / "model.safetensors").unlink()
    weight_map = {}
    for number, (name, value) in enumerate(tensors.items()):
        weight_map[name] = f"model-{number}.safetensors"
        save_file({name: value}, src / weight_map[name], metadata={"format": "pt"})
    (src / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    code = f"""
import os, resource, growkernels
from growkernels import api, live, GrowthError
growkernels.plan({str(src)!r}, depth=2)
free = os.open("/", os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 14, free + 14))
print(len(growkernels.plan({str(src)!r}, depth=2).rules))
try:
    growkernels.grow_checkpoint({str(src)!r}, {str(tmp_path / "dst")!r}, depth=2)
except GrowthError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be opened: Too many open files" in done.stdout and "ulimit -n" in done.stdout
    assert not (tmp_path / "dst").exists()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 14

"""The file format: the library reads what is written here, and no damage makes anything but a clear error."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from growkernels.errors import GrowthError
from growkernels.executors.files.mapped import MappedFile
from growkernels.executors.files.safetensors_file import header, read_header, view
from growkernels.plans import DTYPE_BYTES, TensorSpec

specs = st.builds(TensorSpec, st.lists(st.integers(0, 5), max_size=3).map(tuple), st.sampled_from(sorted(DTYPE_BYTES)))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__")


@given(st.dictionaries(names, specs, min_size=1, max_size=6))
@example({'"\\\n\u00e4.weight': TensorSpec((1,), "bfloat16"), "b": TensorSpec((), "float64")})
def test_the_library_reads_what_is_written(wanted: dict[str, TensorSpec]) -> None:
    head, entries = header(wanted)
    size = max(entry.end for entry in entries.values())
    data = bytes(i * 37 % 251 for i in range(size - len(head)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(head + data)
        loaded, found = load_file(path), read_header(path)
        mapped = MappedFile(path).data
        assert found == entries
        assert {name: entry.spec for name, entry in found.items()} == wanted
        for name, value in loaded.items():
            ours = view(mapped, found[name])
            assert (ours.dtype, ours.shape) == (value.dtype, value.shape)
            assert ours.reshape(-1).view(torch.uint8).equal(value.reshape(-1).view(torch.uint8))


@given(st.data())
def test_damage_is_a_clear_error_or_harmless(data: st.DataObject) -> None:
    """Bytes of the header are replaced, removed or added anywhere."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({"a": torch.ones(3, 5), "b": torch.ones(7, dtype=torch.bfloat16)}, path)
        content = bytearray(path.read_bytes())
        end = 8 + struct.unpack("<Q", content[:8])[0]
        for _ in range(data.draw(st.integers(1, 4))):
            start = data.draw(st.integers(0, end))
            stop = data.draw(st.integers(start, start + 4))
            content[start:stop] = data.draw(st.binary(max_size=6))
        path.write_bytes(content)
        try:
            found = read_header(path)
        except GrowthError:
            return
        mapped = MappedFile(path).data
        for entry in found.values():
            assert view(mapped, entry).shape == entry.shape


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
@example([])
def test_entries_of_any_kind_are_a_clear_error(value: object) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        for changed in [value, *({**entry, key: value} for key in entry)]:
            text = json.dumps({"w": changed}).encode()
            path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
            try:
                read_header(path)
            except GrowthError:
                continue
            assert changed == entry or changed["shape"] != [2]

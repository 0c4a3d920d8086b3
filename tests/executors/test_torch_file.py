"""Torch files whose archive and pickle do not agree, or that a map would read wrongly: refused, and never grown."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from growkernels.errors import GrowthError
from growkernels.executors import open_source
from growkernels.executors.files.mapped import MappedFile
from growkernels.executors.files.pickle_file import load_pickle
from tests.executors import support
from tests.executors.support import grow, snapshot, write_bin

Records = list[tuple[str, bytes]]


def records(path: Path) -> Records:
    """The archive's records in order."""
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def write(path: Path, content: Records, method: int = zipfile.ZIP_STORED) -> None:
    """An archive of those records; a name may come twice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in content:
                archive.writestr(name, data)


def cut(share: float) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        write(path, [(n, d[: int(len(d) * share)] if n.endswith("data/1") else d) for n, d in records(path)])

    return spoil


def longer(path: Path) -> None:
    write(path, [(n, d + bytes(4) if n.endswith("data/1") else d) for n, d in records(path)])


def compressed(path: Path) -> None:
    write(path, records(path), zipfile.ZIP_DEFLATED)


def twice(path: Path) -> None:
    content = records(path)
    name, data = next(item for item in content if item[0].endswith("data/1"))
    write(path, [*content, (name, bytes(len(data)))])


def missing(path: Path) -> None:
    write(path, [item for item in records(path) if not item[0].endswith("data/1")])


def two_roots(path: Path) -> None:
    write(path, [*records(path), ("other/data.pkl", b"")])


def encrypted(path: Path) -> None:
    """The flag of one record, in both of its headers."""
    content = records(path)
    write(path, content)
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)


def overlapping(path: Path) -> None:
    """The directory sends two names to one record, whose own header bears one of them."""
    write(path, records(path))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        first, second = (archive.getinfo(f"pytorch_model/data/{i}") for i in (1, 2))
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(second.filename.encode()))
    data[entry + 42 : entry + 46] = first.header_offset.to_bytes(4, "little")
    path.write_bytes(data)


def other_byte_order(path: Path) -> None:
    write(path, [(n, b"big" if n.endswith("byteorder") else d) for n, d in records(path)])


def program(path: Path) -> None:
    write(path, [*records(path), ("pytorch_model/constants.pkl", b"")])


def meta(path: Path) -> None:
    torch.save({"w": torch.ones(2), "x": torch.empty(2, device="meta")}, path)


def pickled(data: bytes) -> Callable[[Path], None]:
    """The records with a pickle of one's own."""

    def spoil(path: Path) -> None:
        write(path, [(n, data if n.endswith("data.pkl") else d) for n, d in records(path)])

    return spoil


class Reference:
    """Stands for what a pickle says of a storage; pickled by `pickle_of`."""

    def __init__(self, *pid: Any) -> None:
        self.pid = pid


class Rebuilt:
    """A call of a function of torch."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def pickle_of(value: Any) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return obj.pid if isinstance(obj, Reference) else None

    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


def tensor(pid: Any, offset: Any, size: Any, stride: Any) -> bytes:
    """A state dict of one tensor."""
    return pickle_of(
        {"w": Rebuilt(torch._utils._rebuild_tensor_v2, Reference(*pid), offset, size, stride, False, OrderedDict())}
    )


STORAGE = ("storage", torch.FloatStorage, "1", "cpu", 64 * 48)

BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "cut to a half": (cut(0.5), r"record data/1 has 6,144 bytes, the pickle says 3072 of 4"),
    "cut to nothing": (cut(0), r"record data/1 has 0 bytes, the pickle says 3072 of 4"),
    "longer": (longer, r"record data/1 has 12,292 bytes"),
    "compressed": (compressed, "is compressed, and cannot be memory mapped.*save_pretrained"),
    "a record twice": (twice, "has two records 'pytorch_model/data/1'"),
    "a record missing": (missing, "record data/1 is missing"),
    "two archives in one": (two_roots, "stand in 2 folders"),
    "encrypted": (encrypted, "is encrypted"),
    "overlapping": (overlapping, "do not agree"),
    "another byte order": (other_byte_order, r"saved on a machine of another byte order \(b'big'"),
    "a program": (program, "is a TorchScript program"),
    "no values": (meta, "'x' has no values .*load the whole model"),
    "beyond its storage": (pickled(tensor(STORAGE, 1, (64, 48), (48, 1))), "ends at element 3072 of a storage of 3072"),
    "negative stride": (pickled(tensor(STORAGE, 3071, (3072,), (-1,))), r"strides \(-1,\)"),
    "absurd shape": (pickled(tensor(STORAGE, 0, (10**4000,), (1,))), "a tensor has the shape"),
    "shape of text": (pickled(tensor(STORAGE, 0, "ab", "ab")), "a tensor has the shape"),
    "a storage of nothing": (pickled(pickle_of({"w": Reference("storage", 5, "1", "cpu", 4)})), "a storage is of type 5"),
    "a state": (pickled(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b."), "sets the state of an object"),
    "a large memo": (pickled(b"\x80\x02}r\xff\xff\xff\x7f."), None),
    "an extension": (pickled(b"\x80\x02\x82\x01."), "uses extension code 1"),
    "code by a dotted name": (
        pickled(b"\x80\x04\x8c\x05torch\x8c\x08hub.load\x93."),
        r"needs code to be read \(torch.hub.load\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_a_map_would_read_wrongly_is_refused(tmp_path: Path, case: str) -> None:
    path = write_bin(tmp_path / "src") / "pytorch_model.bin"
    spoil, message = BAD[case]
    spoil(path)
    before = snapshot(tmp_path)
    with pytest.raises(GrowthError, match=message or "holds no tensors"):
        grow(tmp_path / "src", tmp_path / "dst", allow_nonfinite=True)
    assert snapshot(tmp_path) == before


def test_every_kind_of_tensor_that_torch_saves(tmp_path: Path) -> None:
    """Parameters, views that share a storage, transposed and strided ones, attributes, scalars and empty ones."""
    base = torch.randn(6, 8)
    marked = nn.Parameter(torch.randn(3))
    marked.tensor_model_parallel = True
    values = {
        "parameter": nn.Parameter(base),
        "view": base[1:3],
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "marked": marked,
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.empty(0, 4),
        "expanded": torch.tensor([2.0]).expand(3),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "new": torch.arange(5).to(torch.uint16),
        "bool": torch.tensor([True, False]),
    }
    path = tmp_path / "model.bin"
    torch.save(OrderedDict(values), path)
    wanted, found = torch.load(path, weights_only=True, mmap=True), load_pickle(MappedFile(path))
    assert list(found) == list(values)
    for name, value in wanted.items():
        assert found[name].view().equal(value) and found[name].view().dtype == value.dtype
        assert found[name].spec.shape == value.shape and found[name].view().stride() == value.stride()


def test_a_repacked_archive_is_read_at_any_alignment(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "src") / "pytorch_model.bin"
    write(path, [(f"{name}", data) for name, data in [*records(path), ("pytorch_model/x", b"odd")]])
    source = open_source(tmp_path / "src")
    for name, value in support.tensors().items():
        assert torch.equal(source.tensor(name), value)
        assert source.tensor(name).data_ptr() % value.dtype.itemsize == 0

"""Weights in torch's own format (`pytorch_model.bin`), memory mapped, never running code that the file brings.

The pickle is read here and not by `torch.load`: it is to be held against the archive's directory, and nothing but
names, numbers and descriptions of tensors can come out of it.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, NamedTuple, NoReturn

import torch

from growkernels.errors import GrowthError, shorten
from growkernels.executors.files.archive import Record, read_directory
from growkernels.executors.files.mapped import MappedFile, aligned
from growkernels.rules.tensor import TensorSpec

#: Storage classes of torch by their dtype; the last one counts bytes, and its tensors bring the dtype.
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_QUANTIZED = ("QUInt8Storage", "QInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage")
_LARGEST, _MOST_AXES = 2**63 - 1, 64
#: Objects of a pickle may hold each other many times over: as text they are bounded in depth too.
_short = Repr()
_short.maxlevel, _short.maxstring, _short.maxother, _short.maxlong = 2, 100, 100, 25


class _Storage(NamedTuple):
    """What a tensor's numbers are kept in: a record of the archive."""

    dtype: torch.dtype
    key: str
    numel: int


class StoredTensor(NamedTuple):
    """A tensor of a file: its numbers start at `offset`, in elements, of a storage of `dtype`."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    record: Record
    file: MappedFile

    @property
    def spec(self) -> TensorSpec:
        """Shape and dtype."""
        return TensorSpec(self.shape, str(self.dtype).removeprefix("torch."))

    def view(self) -> torch.Tensor:
        """The tensor as a read-only view of its file."""
        raw = self.file.data[self.record.start : self.record.end]
        if self.record.start % self.dtype.itemsize:
            raw = aligned(raw)
        flat = raw.view(self.dtype)
        return flat.as_strided(self.shape, self.strides, flat.storage_offset() + self.offset)


def load_pickle(mapped: MappedFile) -> dict[str, StoredTensor]:
    """The tensors of a file, in its order, to be viewed one by one.

    Raises GrowthError for a file that needs code, is damaged, cannot be mapped, or holds other things than tensors with
    values.
    """
    path = mapped.path
    with path.open("rb") as file:
        start = file.read(4)
    if start[:1] == b"\x80":
        raise GrowthError(
            f"{path} is in torch's format from before 1.6, which cannot be memory mapped. Load the model with "
            f"transformers and save it again with save_pretrained()."
        )
    if start != b"PK\x03\x04":
        raise GrowthError(f"{path} is damaged or cut short: it is no torch file. Download or save it again.")
    records = read_directory(path)
    with path.open("rb") as file:
        _check_byte_order(path, _read(file, records.get("byteorder")))
        text = _read(file, records["data.pkl"])
    try:
        data = _Unpickler(io.BytesIO(text), records, mapped).load()
    except GrowthError:
        raise
    except Exception as error:  # a damaged pickle can make the reader raise anything
        raise GrowthError(
            f"{path} is damaged or cut short: {error or type(error).__name__}. Download or save it again."
        ) from error
    if not isinstance(data, dict):
        raise GrowthError(f"{path} holds a {_kind(data)}; expected a state dict of names and tensors.")
    # By the class: a pickle may give the object an `items` of its own.
    items = list(dict.items(data))
    for name, value in items:
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            if isinstance(value, _Unusable):
                raise GrowthError(f"{path}: {_short.repr(name)} {value.reason}")
            raise GrowthError(
                f"{path}: {_short.repr(name)} is a {_kind(value)}; expected a state dict of names and tensors. "
                f"Save the model's state_dict() alone, or use save_pretrained()."
            )
    return dict(items)


def _read(file: io.BufferedReader, record: Record | None) -> bytes:
    if record is None:
        return b""
    file.seek(record.start)
    return file.read(record.size)


def _check_byte_order(path: Path, given: bytes) -> None:
    if given and given != sys.byteorder.encode():
        raise GrowthError(
            f"{path} was saved on a machine of another byte order ({given[:10]!r}, here {sys.byteorder}). Load the model "
            f"with transformers and save it again with save_pretrained()."
        )


def _kind(value: object) -> str:
    return "tensor" if isinstance(value, StoredTensor) else type(value).__name__


class _Closed:
    """What a pickle can call or hold, and cannot change: instructions that set an object's state end in an error."""

    __slots__ = ()

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("it sets the state of an object that has none")


class _Call(_Closed):
    """A function that a pickle may call."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError("it sets an attribute of a function")


class _Unusable(_Closed):
    """A tensor that has no dense values in the file, and why."""

    __slots__ = ("reason",)
    reason: str

    def __init__(self, reason: str) -> None:
        object.__setattr__(self, "reason", reason)

    __setattr__ = _Call.__setattr__


class _Type(_Closed):
    """A class that a pickle names and that is never called."""

    __slots__ = ()
    __setattr__ = _Call.__setattr__


_SPARSE = "is a quantized or sparse tensor; expected a dense floating-point one."
_META = "has no values (it was on the meta device, or offloaded, when it was saved): load the whole model and save it again."


class _Unpickler(pickle._Unpickler):
    """Reads descriptions of tensors. The reader in Python keeps no table whose size a damaged file could choose."""

    def __init__(self, file: io.BytesIO, records: Mapping[str, Record], mapped: MappedFile) -> None:
        super().__init__(file, encoding="utf-8")
        self._records, self._mapped = records, mapped
        sparse, meta = _Call(lambda *_: _Unusable(_SPARSE)), _Call(lambda *_: _Unusable(_META))
        tensor, first = _Call(self._tensor), _Call(lambda value, *_: value)
        self._known: dict[str, object] = {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": tensor,
            "torch._utils._rebuild_tensor_v2": tensor,
            "torch._utils._rebuild_tensor_v3": _Call(self._tensor_of_bytes),
            "torch._utils._rebuild_parameter": first,
            "torch._utils._rebuild_parameter_with_state": first,
            "torch._tensor._rebuild_from_type_v2": _Call(self._subclass),
            "torch.Tensor": _Type(),
            "torch.nn.parameter.Parameter": _Type(),
            "torch._utils._rebuild_meta_tensor_no_storage": meta,
            "torch._utils._rebuild_sparse_tensor": sparse,
            "torch._utils._rebuild_sparse_csr_tensor": sparse,
            "torch._utils._rebuild_nested_tensor": sparse,
            "torch._utils._rebuild_qtensor": sparse,
            "torch.serialization._get_layout": _Call(lambda *_: "layout"),
            "torch.device": _Call(lambda *_: "device"),
            **{f"torch.{name}": dtype for name, dtype in _STORAGES.items()},
            "torch.storage.UntypedStorage": torch.uint8,
            **{f"torch.{name}": None for name in _QUANTIZED},
            **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
        }

    def find_class(self, module: str, name: str) -> object:
        """What stands for a function or class that the pickle names; code is never imported."""
        full = f"{module}.{name}"
        if full not in self._known:
            code = full.removeprefix("builtins.").removeprefix("__builtin__.")
            raise GrowthError(
                f"{self._mapped.path} needs code to be read ({shorten(code, 100)}), and code from a checkpoint is never "
                f"run. If you trust it, load it with transformers where it may run, and save it as safetensors with "
                f"save_pretrained()."
            )
        return self._known[full]

    def get_extension(self, code: int) -> NoReturn:
        """Codes of `copyreg` name classes of this process, which no file may use."""
        raise pickle.UnpicklingError(f"it uses extension code {code}")

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that the pickle refers to, checked against its record."""
        kind, dtype, key, location, numel = pid
        if kind != "storage" or not isinstance(key, str) or not _is_size(numel):
            raise pickle.UnpicklingError(f"it refers to a storage as {_short.repr(pid)}")
        if dtype is None:
            dtype = torch.quint8
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a storage is of type {_short.repr(dtype)}")
        if location == "meta":
            return _Storage(dtype, "", numel)
        record = self._records.get(f"data/{key}")
        if record is None:
            raise pickle.UnpicklingError(f"its record data/{shorten(key, 100)} is missing")
        if record.size != numel * dtype.itemsize:
            raise pickle.UnpicklingError(
                f"its record data/{shorten(key, 100)} has {record.size:,} bytes, the pickle says {numel} of "
                f"{dtype.itemsize}"
            )
        return _Storage(dtype, key, numel)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor | _Unusable:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError(f"a tensor's storage is a {type(storage).__name__}")
        shape, strides = tuple(size), tuple(stride)
        if len(shape) != len(strides) or len(shape) > _MOST_AXES or not all(map(_is_size, (offset, *shape, *strides))):
            raise pickle.UnpicklingError(
                f"a tensor has the shape {_short.repr(shape)}, strides {_short.repr(strides)} and offset "
                f"{_short.repr(offset)}"
            )
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if all(shape) and last >= storage.numel:
            raise pickle.UnpicklingError(f"a tensor ends at element {last} of a storage of {storage.numel}")
        if storage.dtype is torch.quint8:
            return _Unusable(_SPARSE)
        if not storage.key:
            return _Unusable(_META)
        record = self._records[f"data/{storage.key}"]
        return StoredTensor(storage.dtype, shape, strides, offset if all(shape) else 0, record, self._mapped)

    def _tensor_of_bytes(
        self, storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
    ) -> StoredTensor | _Unusable:
        if not isinstance(storage, _Storage) or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a tensor of {type(storage).__name__} has dtype {_short.repr(dtype)}")
        if storage.numel % dtype.itemsize:
            raise pickle.UnpicklingError(f"a storage of {storage.numel} bytes holds no whole number of {dtype}")
        return self._tensor(_Storage(dtype, storage.key, storage.numel // dtype.itemsize), offset, size, stride)

    @staticmethod
    def _subclass(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
        """A tensor with attributes of its own, which are left out."""
        if not isinstance(function, _Call):
            raise pickle.UnpicklingError("a tensor is rebuilt by no function of torch")
        return function(*arguments)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST

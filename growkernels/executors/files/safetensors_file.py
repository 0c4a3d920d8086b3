"""The safetensors format: 8 bytes of header length, a JSON header, the tensors end to end.

Read and written here and not through the library: a growth writes tensors in place into a mapped file, and names what
is wrong with a damaged one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from reprlib import Repr
from typing import Any, NamedTuple

import torch

from growkernels.errors import GrowthError
from growkernels.executors.files.mapped import aligned
from growkernels.plans import TensorSpec

#: The format's dtypes that torch can hold as they are; others are quantized.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
CODES = {str(dtype).removeprefix("torch."): code for code, dtype in DTYPES.items()}
_MAX_HEADER = 100_000_000
_ALIGNMENT = 64
#: Larger numbers and more axes are in no file; without a bound, multiplying them would take for ever.
_LARGEST, _MOST_AXES = 2**63 - 1, 64
_short = Repr()
_short.maxstring = _short.maxother = 100
_short.maxlong = 25


class Entry(NamedTuple):
    """A tensor of a file: dtype, shape, and where its bytes are, counted from the start of the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def spec(self) -> TensorSpec:
        """Shape and dtype."""
        return TensorSpec(self.shape, str(self.dtype).removeprefix("torch."))


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of a file in the order of their bytes. Raises GrowthError for a file that is cut short or damaged."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise _damaged(path, f"it has {size} bytes, its header claims {length if size >= 8 else 'at least 8'}")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is no valid JSON ({error})") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, value, 8 + length) for name, value in header.items()}
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)))
    position = 8 + length
    for name, entry in entries.items():
        if entry.start != position:
            raise _damaged(path, f"{name!r} starts at byte {entry.start}, expected {position}")
        position = entry.end
    if position != size:
        raise _damaged(path, f"it has {size} bytes, its header describes {position}")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"twice in one object: {', '.join(twice[:3])}{', ...' if len(twice) > 3 else ''}")
    return result


def _entry(path: Path, name: str, value: Any, data: int) -> Entry:
    try:
        code, shape, (start, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(
            path, f"the entry of {name!r} has no dtype, shape and data_offsets: {_short.repr(value)}"
        ) from error
    is_list = isinstance(shape, list) and len(shape) <= _MOST_AXES
    if (
        not isinstance(code, str)
        or not is_list
        or not all(type(n) is int and 0 <= n <= _LARGEST for n in [*shape, start, end])
    ):
        raise _damaged(
            path,
            f"{name!r} has dtype {_short.repr(code)}, shape {_short.repr(shape)}, data_offsets "
            f"{_short.repr([start, end])}; expected a name and numbers",
        )
    dtype = DTYPES.get(code)
    if dtype is None:
        raise GrowthError(
            f"{path}: {name!r} is stored as {_short.repr(code)[1:-1]}, a quantized or unknown format; weights are grown "
            f"from float64, float32, bfloat16 or float16. Start from the checkpoint before quantization."
        )
    needed = prod(shape) * dtype.itemsize
    if end - start != needed:
        raise _damaged(
            path,
            f"{name!r}, {code} {_short.repr(shape)}, needs {_short.repr(needed)} bytes and has {end - start}",
        )
    return Entry(dtype, tuple(shape), data + start, data + end)


def _damaged(path: Path, what: str) -> GrowthError:
    return GrowthError(f"{path} is damaged or cut short: {what}. Download or save it again.")


def view(data: torch.Tensor, entry: Entry) -> torch.Tensor:
    """One tensor of a mapped file."""
    raw = data[entry.start : entry.end]
    if entry.start % entry.dtype.itemsize:
        # Old files have headers of any length. Unaligned tensors move to an unlinked file, not to memory.
        raw = aligned(raw)
    return raw.view(entry.dtype).reshape(entry.shape)


def header(specs: Mapping[str, TensorSpec]) -> tuple[bytes, dict[str, Entry]]:
    """The bytes before the data of a new file, and where each tensor goes; tensors of larger elements come first.

    So every tensor is aligned to its elements, and the data starts at a multiple of 64 bytes.
    """
    ordered = sorted(specs.items(), key=lambda item: -getattr(torch, item[1].dtype).itemsize)
    fields: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, spec in ordered:
        fields[name] = {
            "dtype": CODES[spec.dtype],
            "shape": spec.shape,
            "data_offsets": [position, position + spec.nbytes],
        }
        position += spec.nbytes
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    start = 8 + len(text)
    entries = {}
    for name, spec in ordered:
        low, high = fields[name]["data_offsets"]
        entries[name] = Entry(getattr(torch, spec.dtype), spec.shape, start + low, start + high)
    return len(text).to_bytes(8, "little") + text, entries

"""The directory of a torch file, which is a zip archive: where each record is, checked before anything is mapped.

torch's own reader, when it maps, takes a record's start from the archive and its length from the pickle: a record that
is shorter than the pickle says runs on into its neighbor, and a compressed one is taken for weights.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from growkernels.errors import GrowthError

#: A record's own header: signature, five fields, the sizes, lengths of name and extra field; name, extra and data follow.
_LOCAL = struct.Struct("<4s2xHH4xI8x2H")
_ENCRYPTED = 0x1
_REMEDY = "Load the model with transformers and save it again with save_pretrained()."


class Record(NamedTuple):
    """Where the bytes of a record are, counted from the start of the file."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self.end - self.start


def read_directory(path: Path) -> Mapping[str, Record]:
    """The records of a torch file, by their names without the archive's own: `data.pkl`, `data/0`.

    Raises GrowthError unless every record is stored uncompressed and unencrypted, has a name of its own, and is apart
    from the others.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            found = [(info.orig_filename, _locate(file, info, path)) for info in archive.infolist()]
            end = archive.start_dir
    except GrowthError:
        raise
    except (
        Exception
    ) as error:  # the library raises whatever the damage leads to, also an OSError for a negative position
        raise GrowthError(
            f"{path} is damaged or cut short: {error or type(error).__name__}. Download or save it again."
        ) from error
    last, position = "", 0
    for name, record in sorted(found, key=lambda item: item[1]):
        if record.start < position:
            raise _unusable(path, f"its records {last!r} and {name!r} overlap")
        last, position = name, record.end
    if position > end:
        raise _unusable(path, f"its record {last!r} runs into the archive's directory")
    records: dict[str, Record] = {}
    roots = {name.partition("/")[0] for name, _ in found}
    if len(roots) != 1:
        raise _unusable(path, f"its records stand in {len(roots)} folders, expected one")
    for name, record in found:
        short = name.partition("/")[2]
        if short in records:
            raise _unusable(path, f"it has two records {name!r}")
        records[short] = record
    if "data.pkl" not in records:
        raise _unusable(path, "it has no record data.pkl")
    if "constants.pkl" in records:
        raise GrowthError(f"{path} is a TorchScript program and not a state dict. {_REMEDY}")
    return records


def _locate(file: BinaryIO, info: zipfile.ZipInfo, path: Path) -> Record:
    name = info.orig_filename
    file.seek(info.header_offset)
    header = file.read(_LOCAL.size)
    signature, flags, method, _, name_length, extra_length = _LOCAL.unpack(header)
    if signature != b"PK\x03\x04" or file.read(name_length).decode("utf-8", "replace") != name:
        raise _unusable(path, f"its directory and the header of the record {name!r} do not agree")
    if (flags | info.flag_bits) & _ENCRYPTED:
        raise _unusable(path, f"its record {name!r} is encrypted")
    if method != zipfile.ZIP_STORED or info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise _unusable(path, f"its record {name!r} is compressed, and cannot be memory mapped")
    start = info.header_offset + _LOCAL.size + name_length + extra_length
    return Record(start, start + info.file_size)


def _unusable(path: Path, what: str) -> GrowthError:
    return GrowthError(f"{path} is no file that torch.save wrote, or a damaged one: {what}. {_REMEDY}")

"""Readers in this process on inputs damaged at random: an input is read, or refused by a GrowthError, within a second.

Every input follows from its reader and a seed: a failure names both, and `seeds.json` keeps those that once failed.
"""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

from growkernels.errors import GrowthError
from tests.torture.readers import Reader

HERE = Path(__file__).parent
#: Seconds of computing, far beyond what any of these small inputs takes.
LIMIT = 2.0
_NUMBERS = (0, 1, -1, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(2**63))
_VALUES: tuple[Any, ...] = (
    None, True, False, "", "x", "\x1b[2J", "../x", "9" * 400, [], {}, [[]], {"x": 1}, [1, 2], 0.5, float("nan"), float("inf"),
    *_NUMBERS,
)  # fmt: skip
_PIECES = (
    b"\xff" * 8,
    b"\x00" * 8,
    b"[" * 3000,
    b'{"a":' * 3000,
    b"9" * 5000,
    b"\x80\x02}r\xff\xff\xff\xff.",
    b"PK\x03\x04",
    b'"',
)


@dataclass
class Findings:
    """How many inputs were read and refused, and those that failed."""

    read: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """All inputs."""
        return self.read + self.refused + len(self.failures)


def fuzz(reader: Reader, seeds: list[int], time_left: Callable[[], bool] = lambda: True) -> Findings:
    """Read one damaged input for each seed, as long as there is time."""
    findings = Findings()
    for seed in seeds:
        if not time_left():
            break
        try_input(reader, damaged(reader, seed), f"{reader.name}, seed {seed}", findings)
    return findings


def try_corpus(reader: Reader) -> Findings:
    """Read the inputs that were kept because they once failed: files, and seeds."""
    kept = json.loads((HERE / "seeds.json").read_text())
    findings = fuzz(reader, kept.get(reader.name, []))
    for path in sorted((HERE / "corpus" / reader.name.replace(" ", "_")).glob("*")):
        try_input(reader, path.read_bytes(), path.name, findings)
    return findings


def try_input(reader: Reader, data: bytes, name: str, findings: Findings) -> None:
    """Read one input, and note how that went."""
    reader.file.write_bytes(data)
    start = process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read()
        findings.read += 1
    except GrowthError as error:
        findings.refused += 1
        findings.kinds[" ".join(str(error).split()[1:4])] += 1
        if len(str(error)) > 2200 or not all(c == "\n" or c.isprintable() for c in str(error)):
            findings.failures.append(
                f"{name}: a message of {len(str(error))} characters, or one that acts on a terminal"
            )
    except Exception as error:
        findings.failures.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
    finally:
        reader.file.write_bytes(reader.sound)
    if (took := process_time() - start) > LIMIT:
        findings.failures.append(f"{name}: {took:.1f} s")


def damaged(reader: Reader, seed: int) -> bytes:
    """The reader's sound input, damaged as the seed says."""
    chance = random.Random(f"{reader.name} {seed}")
    if reader.text and chance.random() < 0.8:
        value = json.loads(reader.sound)
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            value = _change_json(value, chance)
        try:
            return reader.seal(json.dumps(value).encode())
        except (ValueError, RecursionError):  # a number that Python does not write
            pass
    data = bytearray(reader.sound)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        _change_bytes(data, chance)
    return bytes(data)


def _change_bytes(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(7):
        case 0:
            del data[at:]
        case 1 if at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        case 2:
            data[at : at + chance.randrange(1, 9)] = chance.randbytes(chance.randrange(9))
        case 3:
            data[at:at] = chance.choice(_PIECES)
        case 4:
            start = chance.randrange(len(data) + 1)
            data[at:at] = data[start : start + chance.randrange(1, 200)]
        case 5:
            number = chance.choice(_NUMBERS) % 2**64
            size = chance.choice((2, 4, 8))
            data[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
        case _:
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
            if digits:
                data[(at := chance.choice(digits)) : at + 1] = str(chance.choice(_NUMBERS)).encode()


def _change_json(value: Any, chance: random.Random) -> Any:
    """The value with one place in it changed."""
    places = list(_places(value))
    if not places:
        return chance.choice(_VALUES)
    holder, key = chance.choice(places)
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("x", "", "../x", *map(str, holder)))] = holder.pop(key)
        case 2:
            other, where = chance.choice(places)
            try:
                holder[key] = json.loads(json.dumps(other[where]))
            except (LookupError, ValueError):
                holder[key] = None
        case 3 if isinstance(holder[key], int | float):
            holder[key] = chance.choice(
                (-holder[key], holder[key] + 1, holder[key] * 2, str(holder[key]), [holder[key]])
            )
        case _:
            holder[key] = chance.choice(_VALUES)
    return value


def _places(value: Any) -> Any:
    stack = [value] if isinstance(value, dict | list) else []
    while stack:
        holder = stack.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, held in items:
            yield holder, key
            if isinstance(held, dict | list):
                stack.append(held)

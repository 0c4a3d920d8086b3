"""The values of a plan's learned matrices. They lie in a file beside the manifest, which holds their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np


class Matrices(Mapping[str, np.ndarray]):
    """Matrices by name, float32 and read-only; two are equal if they agree bit for bit."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        """Copies. Raises ValueError for what is no float32 matrix."""
        self._values = {name: np.array(values[name], order="C") for name in sorted(values)}
        for name, value in self._values.items():
            if value.dtype != np.float32 or value.ndim != 2:
                raise ValueError(f"{name} is {value.dtype} with {value.ndim} axes; learned matrices are float32 with 2")
            value.flags.writeable = False

    def __getitem__(self, name: str) -> np.ndarray:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrices) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def digest(self) -> str:
        """SHA-256 over names, shapes and values (little-endian), in hexadecimal."""
        hasher = hashlib.sha256()
        for name, value in self._values.items():
            hasher.update(f"{name} {value.shape[0]} {value.shape[1]}\n".encode())
            hasher.update(np.ascontiguousarray(value, "<f4").data)
        return hasher.hexdigest()

"""The noise key of a tensor: made once on the host, when the plan is made. A leaf, which plans and ops both use."""

from __future__ import annotations

import hashlib

from growkernels.errors import GrowthError

_KEYS = 2**64


def noise_key(seed: int, name: str) -> int:
    """Unsigned 64-bit noise key of a tensor.

    BLAKE2b with an 8-byte digest of the canonical `name` (UTF-8; the parameter's name in the checkpoint file), keyed with
    `seed` (8 bytes, little-endian), read as a little-endian integer (noise version 1). Raises GrowthError unless
    0 <= seed < 2**64.
    """
    if not 0 <= seed < _KEYS:
        raise GrowthError(f"seed is {seed}; expected a whole number from 0 to 2**64 - 1.")
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little")

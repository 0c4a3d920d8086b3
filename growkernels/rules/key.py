"""The noise key of a tensor: made once on the host, when the plan is made. A leaf, which plans and ops both use."""

from __future__ import annotations

import hashlib

from growkernels.errors import GrowthError

_KEYS = 2**64


def noise_key(seed: int, name: str) -> int:
    """Unsigned 64-bit noise key of a tensor.

    BLAKE2b with an 8-byte digest of the name (UTF-8), keyed with the seed (8 bytes, little-endian), read as a little-endian
    integer (noise version 1).

    Args:
        seed: of the growth, 0 to 2**64 - 1.
        name: the tensor's name in the checkpoint file.

    Returns:
        The key.

    Raises:
        GrowthError: the seed is out of range.

    Example:
        >>> key = noise_key(0, "model.layers.0.mlp.up_proj.weight")
    """
    if not 0 <= seed < _KEYS:
        raise GrowthError(f"seed is {seed}; expected a whole number from 0 to 2**64 - 1.")
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest, "little")

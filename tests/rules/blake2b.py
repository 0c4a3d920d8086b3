"""BLAKE2b as RFC 7693 writes it down, so that noise keys are checked against more than the library that makes them."""

from __future__ import annotations

import struct

_MASK = 2**64 - 1
_IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def blake2b(data: bytes, key: bytes, size: int) -> bytes:
    """Keyed digest of `size` bytes."""
    state = list(_IV)
    state[0] ^= 0x01010000 ^ (len(key) << 8) ^ size
    message = (key.ljust(128, b"\0") if key else b"") + data
    blocks = [message[i : i + 128] for i in range(0, len(message), 128)] or [b""]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        count = len(message) if last else 128 * (number + 1)
        _compress(state, struct.unpack("<16Q", block.ljust(128, b"\0")), count, last)
    return struct.pack("<8Q", *state)[:size]


def _compress(state: list[int], words: tuple[int, ...], count: int, last: bool) -> None:
    v = [*state, *_IV]
    v[12] ^= count & _MASK
    v[13] ^= count >> 64
    if last:
        v[14] ^= _MASK
    for turn in range(12):
        order = _SIGMA[turn % 10]
        for step, (a, b, c, d) in enumerate(_COLUMNS + _DIAGONALS):
            for word, turns in ((order[2 * step], (32, 24)), (order[2 * step + 1], (16, 63))):
                v[a] = (v[a] + v[b] + words[word]) & _MASK
                v[d] = _rotate(v[d] ^ v[a], turns[0])
                v[c] = (v[c] + v[d]) & _MASK
                v[b] = _rotate(v[b] ^ v[c], turns[1])
    for i in range(8):
        state[i] ^= v[i] ^ v[i + 8]


def _rotate(word: int, by: int) -> int:
    return ((word >> by) | (word << (64 - by))) & _MASK

"""Noise version 1 in NumPy: the oracle that every backend must match bit for bit.

Each arithmetic step is one NumPy operation on float32 or uint32 arrays, so each is rounded exactly once. PyTorch's CPU
`sqrt` and `addcmul` are not correctly rounded everywhere and take no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from growkernels.ops.arithmetic import compute_dtype, load, store

#: Rounds of Philox4x32: the fewest that pass BigCrush (Salmon et al., SC 2011).
ROUNDS = 7
WIDTH_FIELD, COPY_FIELD = 0, 1
#: Fields of the fills of new rows, of new columns, and of entries that are new in both.
NEW_ROW_FIELD, NEW_COLUMN_FIELD, NEW_BOTH_FIELD = 2, 3, 4

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_P = [np.float32(c) for c in (1.000004530, -0.4999021590, 0.3325803578, -0.2540333271, 0.2205577791, -0.1429155320)]
_S = [np.float32(c) for c in (1.570793986, -0.6457980275, 0.07793992758)]
_C = [np.float32(c) for c in (0.9999999404, -1.233696699, 0.2535949349, -0.02039858140)]
_LN2 = np.float32(0.693147182)


def philox(counter: tuple[np.ndarray, ...], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Philox4x32 with 7 rounds.

    `counter`: four uint32 arrays of one shape; `key`: two 32-bit integers. Returns four uint32 arrays.
    """
    c0, c1, c2, c3 = (np.asarray(word, np.uint32) for word in counter)
    k0, k1 = key
    for _ in range(ROUNDS):
        first, second = c0.astype(np.uint64) * _MULTIPLIERS[0], c2.astype(np.uint64) * _MULTIPLIERS[1]
        c0 = (second >> np.uint64(32)).astype(np.uint32) ^ c1 ^ np.uint32(k0)
        c2 = (first >> np.uint64(32)).astype(np.uint32) ^ c3 ^ np.uint32(k1)
        c1, c3 = (second & _LOW).astype(np.uint32), (first & _LOW).astype(np.uint32)
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _horner(coefficients: list[np.float32], x: np.ndarray) -> np.ndarray:
    value = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def normal_pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two standard normals, float32, from two uint32 arrays of random words (a polar method without rejection)."""
    b = ((x >> np.uint32(1)) | np.uint32(1)).astype(np.float32).view(np.uint32)
    t = (b - np.uint32(0x3F3504F3)) & np.uint32(0xFF800000)
    f = (b - t).view(np.float32) - np.float32(1)
    k = (31 - (t.view(np.int32) >> 23)).astype(np.float32)
    radius = np.sqrt(k * _LN2 - f * _horner(_P, f))
    a = (np.uint32(0x3F800000) | (y & np.uint32(0x007FFFFF))).view(np.float32) - np.float32(1.5)
    v = a * a
    s, c = a * _horner(_S, v), _horner(_C, v)
    z0, z1 = radius * (c - s), radius * (c + s)
    flip0, flip1 = y & np.uint32(0x80000000), (y << np.uint32(1)) & np.uint32(0x80000000)
    return (z0.view(np.uint32) ^ flip0).view(np.float32), (z1.view(np.uint32) ^ flip1).view(np.float32)


def z(key: int, field: int, e: np.ndarray) -> np.ndarray:
    """The standard normals `z(key, field, e)`: float32 of the shape of `e`.

    `key` and `field` are 64-bit integers (signed or unsigned), `e` an array of non-negative integers.
    """
    e = np.atleast_1d(np.asarray(e)).astype(np.uint64)
    quad, lane = e >> np.uint64(2), (e & np.uint64(3)).astype(np.uint32)
    shape = quad.shape
    counter = (
        (quad & _LOW).astype(np.uint32),
        (quad >> np.uint64(32)).astype(np.uint32),
        np.full(shape, field & 0xFFFFFFFF, np.uint32),
        np.full(shape, (field >> 32) & 0xFFFFFFFF, np.uint32),
    )
    w0, w1, w2, w3 = philox(counter, (key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF))
    z0, z1 = normal_pair(np.where(lane < 2, w0, w2), np.where(lane < 2, w1, w3))
    return np.where(lane % 2 == 0, z0, z1)


_LANES, _BLOCK = 32, 4096


def _lane_sums(values: np.ndarray) -> np.ndarray:
    """Sum of every block of 4096 float64 values: 32 interleaved lanes, each in order, then halved together."""
    blocks = np.pad(values, (0, -len(values) % _BLOCK)).reshape(-1, _BLOCK // _LANES, _LANES)
    lanes = np.zeros((len(blocks), _LANES))
    for step in range(_BLOCK // _LANES):
        lanes = lanes + blocks[:, step]
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def mean_square(tensors: Sequence[torch.Tensor], divisors: Sequence[float]) -> torch.Tensor:
    """Mean of `(source / divisor) ** 2` of each tensor in one fixed order; float64 [len(tensors)], 0 for an empty tensor.

    The quotient is rounded to the compute dtype, squares and sums to float64. Blocks of 4096 consecutive elements in
    logical row-major order are summed in 32 lanes; the block sums are summed by the same scheme until one is left.
    """
    means = []
    for tensor, divisor in zip(tensors, divisors, strict=True):
        compute = compute_dtype(tensor.dtype, tensor.dtype)
        flat = tensor.detach().reshape(-1)
        sums = [np.empty(0)]
        with np.errstate(all="ignore"):
            for piece in flat.split(64 * _BLOCK):
                x = (load(piece, compute) / compute(divisor)).astype(np.float64)
                sums.append(_lane_sums(x * x))
            partial = np.concatenate(sums)
            while len(partial) > 1:
                partial = _lane_sums(partial)
        means.append(partial[0] / flat.numel() if flat.numel() else 0.0)
    return torch.tensor(means, dtype=torch.float64)


def noise_std(square: float, snr_db: float) -> float:
    """The standard deviation, a float32 value, of noise `snr_db` decibels below a signal of the given mean square."""
    return float(np.float32(np.sqrt(np.float64(square)) * 10.0 ** (-snr_db / 20)))


def normal_(out: torch.Tensor, key: int, field: int, start: int) -> None:
    """Fill `out` with `z(key, field, start + row-major index)`, rounded once to its dtype."""
    e = start + np.arange(out.numel(), dtype=np.int64)
    out.copy_(store(z(key, field, e), out.dtype).reshape(out.shape))

"""Noise version 1 in Triton: the same bits as the NumPy definition in `growkernels.ops.noise_reference`.

Compile with `enable_fp_fusion=False`: every product and sum is rounded once, and square roots are the correctly rounded ones.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

ROUNDS = tl.constexpr(7)
#: Options that every kernel that draws noise must be launched with.
EXACT = {"enable_fp_fusion": False}


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-7: four uint32 words of a counter and two of the key give four uint32 words."""
    for _ in tl.static_range(ROUNDS):
        high0, low0 = tl.umulhi(c0, 0xD2511F53), c0 * 0xD2511F53
        high2, low2 = tl.umulhi(c2, 0xCD9E8D57), c2 * 0xCD9E8D57
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + 0x9E3779B9, k1 + 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def normal_pair(x, y):
    """Two float32 normals from two uint32 words."""
    # (x >> 1) | 1 is below 2^31: the conversion from a signed integer is the same and is the one that hardware has.
    u = ((x >> 1) | 1).to(tl.int32).to(tl.float32)
    b = u.to(tl.uint32, bitcast=True)
    t = (b - 0x3F3504F3) & 0xFF800000
    f = (b - t).to(tl.float32, bitcast=True) - 1.0
    k = (31 - (t.to(tl.int32, bitcast=True) >> 23)).to(tl.float32)
    p = f * -0.1429155320 + 0.2205577791
    p = p * f + -0.2540333271
    p = p * f + 0.3325803578
    p = p * f + -0.4999021590
    p = p * f + 1.000004530
    radius = tl.sqrt_rn(k * 0.693147182 - f * p)
    a = ((y & 0x007FFFFF) | 0x3F800000).to(tl.float32, bitcast=True) - 1.5
    v = a * a
    s = v * 0.07793992758 + -0.6457980275
    s = a * (s * v + 1.570793986)
    c = v * -0.02039858140 + 0.2535949349
    c = c * v + -1.233696699
    c = c * v + 0.9999999404
    z0 = (radius * (c - s)).to(tl.uint32, bitcast=True) ^ (y & 0x80000000)
    z1 = (radius * (c + s)).to(tl.uint32, bitcast=True) ^ ((y << 1) & 0x80000000)
    return z0.to(tl.float32, bitcast=True), z1.to(tl.float32, bitcast=True)


@triton.jit
def normal_quad(quad, k0, k1, field_low, field_high):
    """The four normals of the counters `quad` (int64), for a key and a field given as uint32 halves."""
    low, high = quad.to(tl.uint32), (quad >> 32).to(tl.uint32)
    w0, w1, w2, w3 = philox(low, high, low * 0 + field_low, low * 0 + field_high, k0, k1)
    z0, z1 = normal_pair(w0, w1)
    z2, z3 = normal_pair(w2, w3)
    return z0, z1, z2, z3


@triton.jit(do_not_specialize=["count", "start", "key_low", "key_high", "field_low", "field_high"])
def normal_kernel(out, count, start, key_low, key_high, field_low, field_high, BLOCK: tl.constexpr):
    """`out[i] = z(key, field, start + i)`, float32, for i below count; a program writes `BLOCK` counters of four.

    Key and field come as `words` of theirs.
    """
    start = start.to(tl.int64)
    quad = start // 4 + tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    z0, z1, z2, z3 = normal_quad(
        quad, key_low.to(tl.uint32), key_high.to(tl.uint32), field_low.to(tl.uint32), field_high.to(tl.uint32)
    )
    i = quad * 4 - start
    tl.store(out + i, z0, (i >= 0) & (i < count))
    tl.store(out + i + 1, z1, (i + 1 >= 0) & (i + 1 < count))
    tl.store(out + i + 2, z2, (i + 2 >= 0) & (i + 2 < count))
    tl.store(out + i + 3, z3, (i + 3 >= 0) & (i + 3 < count))


def words(number: int) -> tuple[int, int]:
    """Low and high half of a 64-bit integer, each as a signed 32-bit one.

    A launch gives an integer the narrowest type that holds it; so halves are always int32 and one compilation serves every
    key. (Triton 3.7's interpreter also mistypes integers from 2^31 to 2^32.)
    """
    low, high = number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF
    return (low ^ 0x80000000) - 0x80000000, (high ^ 0x80000000) - 0x80000000


def normal_(out: torch.Tensor, key: int, field: int, start: int = 0) -> None:
    """Fill a contiguous float32 `out` with `z(key, field, start + index)`. key, field: 64-bit integers; start >= 0."""
    count, block = out.numel(), 512
    if count:
        quads = (start + count + 3) // 4 - start // 4
        normal_kernel[(triton.cdiv(quads, block),)](out, count, start, *words(key), *words(field), BLOCK=block, **EXACT)

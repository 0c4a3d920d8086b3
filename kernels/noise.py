"""Noise version 1 in Triton: the same bits as the NumPy definition in `growkernels.ops.noise.reference`.

Compile with `enable_fp_fusion=False`: every product and sum is rounded once, and square roots are the correctly rounded ones.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from growkernels.kernels.dtype import FORMATS, compute_format, narrow, pointer, vector
from growkernels.kernels.table import EXACT, element_offset, upload, view_of, warps

ROUNDS = tl.constexpr(7)
#: Fields of the noise on copies of a width rule, and on copies of whole blocks.
WIDTH_FIELD, COPY_FIELD = 0, 1
#: Fields of the fills of new rows, of new columns, and of entries that are new in both.
NEW_ROW_FIELD, NEW_COLUMN_FIELD, NEW_BOTH_FIELD = 2, 3, 4
_BLOCK = 2048


@triton.jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-7: four uint32 words of a counter and two of the key give four uint32 words."""
    for _ in tl.static_range(ROUNDS):
        # Whole products: one instruction each, where the halves apart take two.
        product0, product2 = c0.to(tl.uint64) * 0xD2511F53, c2.to(tl.uint64) * 0xCD9E8D57
        c0, c2 = (product2 >> 32).to(tl.uint32) ^ c1 ^ k0, (product0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c1, c3 = product2.to(tl.uint32), product0.to(tl.uint32)
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
def counter_words(quad, key, field):
    """The four words of the counters `quad`; all int64."""
    low = quad.to(tl.uint32)
    return philox(
        low,
        (quad >> 32).to(tl.uint32),
        low * 0 + field.to(tl.uint32),
        low * 0 + (field >> 32).to(tl.uint32),
        key.to(tl.uint32),
        (key >> 32).to(tl.uint32),
    )


@triton.jit
def normals_of(quad, key, field, VECTOR: tl.constexpr):
    """All normals of the counters from each `quad` [..., Q] on that make VECTOR (4 or 8): float32 [..., VECTOR Q].

    Arguments int64. VECTOR is what a thread stores: its normals are then its own and need no exchange.
    """
    w0, w1, w2, w3 = counter_words(quad, key, field)
    z0, z1 = normal_pair(w0, w1)
    z2, z3 = normal_pair(w2, w3)
    if VECTOR == 8:
        w0, w1, w2, w3 = counter_words(quad + 1, key, field)
        z4, z5 = normal_pair(w0, w1)
        z6, z7 = normal_pair(w2, w3)
        z0, z1, z2, z3 = tl.interleave(z0, z4), tl.interleave(z1, z5), tl.interleave(z2, z6), tl.interleave(z3, z7)
    return tl.interleave(tl.interleave(z0, z2), tl.interleave(z1, z3))


@triton.jit
def normals_at(e, key, field):
    """The normals of the elements `e`, in any order: each draws its counter and makes its pair. Arguments int64."""
    w0, w1, w2, w3 = counter_words(e >> 2, key, field)
    first = (e & 2) == 0
    z0, z1 = normal_pair(tl.where(first, w0, w2), tl.where(first, w1, w3))
    return tl.where((e & 1) == 0, z0, z1)


@triton.jit
def normal_kernel(
    table,
    FORMAT: tl.constexpr,
    COMPUTE: tl.constexpr,
    FLAT: tl.constexpr,
    ALIGNED: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program writes the normals of `BLOCK` elements. Table: address, count, start, key, field, the view's axes."""
    count, start = tl.load(table + 1), tl.load(table + 2)
    if ALIGNED:
        count, start = tl.multiple_of(count, 16), tl.multiple_of(start, 16)
    quad = start // 4 + tl.program_id(0).to(tl.int64) * (BLOCK // 4)
    quads = quad + tl.arange(0, BLOCK // VECTOR) * (VECTOR // 4)
    z = normals_of(quads, tl.load(table + 3), tl.load(table + 4), VECTOR)
    e = quad * 4 - start + tl.arange(0, BLOCK)
    out = pointer(tl.load(table), FORMAT, ALIGNED)
    tl.store(out + element_offset(table + 5, e, FLAT), narrow(z.to(COMPUTE), FORMAT), (e >= 0) & (e < count))


def signed(number: int) -> int:
    """A 64-bit integer, signed or not, as the signed one with its bits."""
    return ((number & 0xFFFFFFFFFFFFFFFF) ^ (1 << 63)) - (1 << 63)


def normal_(out: torch.Tensor, key: int, field: int, start: int = 0) -> None:
    """Fill `out` with `z(key, field, start + row-major index)`, rounded once to its dtype.

    out: any strides and supported dtype; key, field: 64-bit integers; start >= 0.
    """
    count = out.numel()
    if not count:
        return
    view = view_of(out)
    aligned = view.flat and view.address % 16 == start % 16 == count % 16 == 0
    table = upload([view.address, count, start, signed(key), signed(field), *view.words()], out.device)
    normal_kernel[(triton.cdiv(start % 4 + count, _BLOCK),)](
        table,
        FORMATS[out.dtype],
        compute_format(out.dtype, out.dtype),
        view.flat,
        aligned,
        vector(out.dtype),
        _BLOCK,
        num_warps=warps(aligned),
        **EXACT,
    )

"""`replicate`: copies of blocks, each scaled and with its own noise. Every source element is read once for all copies alike.

Twin of csrc/cuda/replicate.cu.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import triton
import triton.language as tl

from growkernels.kernels.dtype import FORMATS, compute_format, narrow, pointer, vector, widen
from growkernels.kernels.noise import COPY_FIELD, normals_at, normals_of, signed
from growkernels.kernels.table import EXACT, View, bits, element_offset, find, number_of, upload, view_of, warps

_BLOCK = 2048
# Words of a group: address, elements, number of copies, where the copies' words and its axes are; of a copy: address, scale,
# its first element's place among all outputs, where its axes are.
_GROUP_WORDS, _COPY_WORDS = tl.constexpr(5), tl.constexpr(4)
# Words of the noise, in front of all: share of the values kept, share of the noise, its standard deviation, the key.
_NOISE_WORDS = tl.constexpr(4)
_FIELD = tl.constexpr(COPY_FIELD)


@triton.jit(do_not_specialize=["count"])
def replicate_kernel(
    table,
    count,
    SOURCE: tl.constexpr,
    TARGET: tl.constexpr,
    COMPUTE: tl.constexpr,
    KIND: tl.constexpr,
    FLAT: tl.constexpr,
    ALIGNED: tl.constexpr,
    QUADS: tl.constexpr,
    VECTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program takes BLOCK elements of one block and writes them to all copies of its group.

    Table: the noise, the first program of each of `count` groups, their words, those of the copies, and axes.
    """
    firsts = table + _NOISE_WORDS
    group = find(firsts, count, tl.program_id(0))
    words = firsts + count + group * _GROUP_WORDS
    elements = tl.load(words + 1)
    if ALIGNED:
        elements = tl.multiple_of(elements, VECTOR)
    first = (tl.program_id(0) - tl.load(firsts + group)) * BLOCK
    e = first + tl.arange(0, BLOCK)
    inside = e < elements
    source = pointer(tl.load(words), SOURCE, ALIGNED)
    stored = tl.load(source + element_offset(table + tl.load(words + 4), e, FLAT), inside)
    copy = table + tl.load(words + 3)
    for _ in range(tl.load(words + 2).to(tl.int32)):
        if KIND == "move":
            written = stored
        else:
            value = number_of(tl.load(copy + 1), COMPUTE) * widen(stored, SOURCE, COMPUTE)
            if KIND == "noise":
                place, key = tl.load(copy + 2) + first, tl.load(table + 3)
                if QUADS:
                    quads = place // 4 + tl.arange(0, BLOCK // VECTOR) * (VECTOR // 4)
                    z = normals_of(quads, key, tl.full((), _FIELD, tl.int64), VECTOR)
                else:
                    z = normals_at(place + tl.arange(0, BLOCK), key, tl.full((), _FIELD, tl.int64))
                keep, alpha = number_of(tl.load(table), COMPUTE), number_of(tl.load(table + 1), COMPUTE)
                value = keep * value + alpha * (number_of(tl.load(table + 2), COMPUTE) * z.to(COMPUTE))
            written = narrow(value, TARGET)
        target = pointer(tl.load(copy), TARGET, ALIGNED)
        tl.store(target + element_offset(table + tl.load(copy + 3), e, FLAT), written, inside)
        copy += _COPY_WORDS


class _Variant(NamedTuple):
    """What the kernel is compiled for."""

    source: torch.dtype
    target: torch.dtype
    kind: Literal["move", "scale", "noise"]
    flat: bool
    aligned: bool
    quads: bool


class _Copy(NamedTuple):
    """An output: its scale, and where its first element is among all outputs laid end to end."""

    out: View
    scale: float
    place: int


def replicate(
    outs: Sequence[torch.Tensor],
    blocks: Sequence[torch.Tensor],
    index: Sequence[int],
    scale: Sequence[float],
    noise_alpha: float,
    noise_std: float,
    key: int,
) -> None:
    """`outs[k] = (1 - a) * (scale[k] * blocks[index[k]]) + a * (std * z)`; without noise `scale[k] * blocks[index[k]]`.

    Tensors of any strides and supported dtypes on one device; `z` counts over the outputs laid end to end. One launch for
    all copies of one variant.
    """
    sources, targets = [view_of(block) for block in blocks], [view_of(out) for out in outs]
    launches: dict[_Variant, dict[int, list[_Copy]]] = defaultdict(lambda: defaultdict(list))
    place = 0
    for k, out in enumerate(outs):
        block, elements = blocks[index[k]], out.numel()
        views = sources[index[k]], targets[k]
        flat = all(view.flat for view in views)
        moved = scale[k] == 1 and not noise_alpha and block.dtype == out.dtype
        variant = _Variant(
            block.dtype,
            out.dtype,
            "move" if moved else "noise" if noise_alpha else "scale",
            flat,
            aligned=flat
            and elements % vector(block.dtype, out.dtype) == 0
            and all(view.address % 16 == 0 for view in views),
            quads=bool(noise_alpha) and place % 4 == 0,
        )
        if elements:
            launches[variant][index[k]].append(_Copy(targets[k], scale[k], place))
        place += elements
    noise = [bits(1.0 - noise_alpha), bits(noise_alpha), bits(noise_std), signed(key)]
    for variant, groups in launches.items():
        _launch(variant, [(sources[i], copies) for i, copies in groups.items()], noise, outs[0].device)


def _launch(variant: _Variant, groups: list[tuple[View, list[_Copy]]], noise: list[int], device: torch.device) -> None:
    programs = 0
    firsts: list[int] = []
    group_words: list[int] = []
    copy_words: list[int] = []
    axes: list[int] = []
    copies_at = len(noise) + len(groups) * (1 + _GROUP_WORDS.value)
    axes_at = copies_at + sum(len(copies) for _, copies in groups) * _COPY_WORDS.value
    for block, copies in groups:
        firsts.append(programs)
        programs += triton.cdiv(block.elements, _BLOCK)
        copies_here, axes_here = copies_at + len(copy_words), axes_at + len(axes)
        group_words += [block.address, block.elements, len(copies), copies_here, axes_here]
        axes += block.words()
        for copy in copies:
            copy_words += [copy.out.address, bits(copy.scale), copy.place, axes_at + len(axes)]
            axes += copy.out.words()
    replicate_kernel[(programs,)](
        upload([*noise, *firsts, *group_words, *copy_words, *axes], device),
        len(groups),
        FORMATS[variant.source],
        FORMATS[variant.target],
        compute_format(variant.source, variant.target),
        variant.kind,
        variant.flat,
        variant.aligned,
        variant.quads,
        vector(variant.source, variant.target),
        _BLOCK,
        num_warps=warps(variant.aligned),
        **EXACT,
    )

"""How products are cut into tiles and steps: by a rule, never by what was measured or by what else is in a call."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

#: Tiles that keep a GPU about full.
_FULL = 128


class Blocks(NamedTuple):
    """How a product is cut: rows and columns of a tile, how much is summed at once; how a program runs.

    resident: programs that a processor holds at once; registers: of a thread, at most.
    """

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int
    resident: int
    registers: int | None = None


#: For few or small tiles, and for any strides, whose addresses take all registers; for layers; the same for two programs to a
#: processor, where warp groups multiply (sm_90, sm_100); and there for outs of many tiles.
SMALL, LARGE = Blocks(64, 64, 64, 4, 4, 2), Blocks(128, 128, 64, 8, 3, 1)
PAIRED, WIDE = LARGE._replace(resident=2, registers=128), Blocks(128, 256, 64, 8, 3, 1)
#: In float32, without tensor cores: a thread multiplies 32 or 64 elements from registers.
SMALL_FLOAT, LARGE_FLOAT = Blocks(64, 64, 32, 4, 3, 2), Blocks(128, 64, 32, 4, 3, 2)


def blocks_of(
    rows: int,
    columns: int,
    pairs: int,
    dtype: torch.dtype,
    target: torch.dtype,
    aligned: bool,
    add: bool,
    generation: int,
) -> Blocks:
    """The blocks of one out of these sizes and dtype `target`; generation: the GPU's major compute capability.

    A sum of several pairs, a gradient, often has a GPU for itself, and takes smaller tiles where larger ones would leave much
    of it idle; a single product is one of many layers. What is added to needs registers of its own, and so does float32 on its
    way from the tensor memory of sm_100.
    """
    tiles = triton.cdiv(rows, 128) * triton.cdiv(columns, 128)
    small = not aligned or min(rows, columns) <= 64 or (pairs > 1 and tiles < _FULL)
    if dtype == torch.float32:
        return SMALL_FLOAT if small else LARGE_FLOAT
    if small:
        return SMALL
    if add or generation not in (9, 10) or (generation == 10 and target == torch.float32):
        return LARGE
    return WIDE if tiles >= 2 * _FULL and columns > 128 else PAIRED

"""Whole models in one call, against the sum of their tensors one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import COMPILED, EAGER, NORMAL, OURS, OURS_OUT, PAPER, Case, Provider, Setting, Work, data, short
from benchmarks.case import untouched_never as touched
from growkernels import ops
from growkernels.ops import TileSpec, noise_key

STD = 0.003
#: The provider that grows the tensors in a loop of single calls.
ONE_BY_ONE = "ours in place, one by one"

#: A tensor and how it grows x2: shape, row copies, column copies.
Shape = tuple[tuple[int, ...], int, int]


def pythia_410m(layers: int, shrink: int) -> list[Shape]:
    """GPT-NeoX of hidden 1024: fused attention in, LayerNorms and biases, untied head."""
    h, vocab = 1024 // shrink, 50304 // shrink
    layer: list[Shape] = [((3 * h, h), 2, 2), ((h, h), 2, 2), ((4 * h, h), 2, 2), ((h, 4 * h), 2, 2)]
    layer += [((size,), 2, 1) for size in (3 * h, h, 4 * h, h, h, h, h, h)]
    return [((vocab, h), 1, 2), *layer * layers, ((h,), 2, 1), ((h,), 2, 1), ((vocab, h), 1, 2)]


def llama_1b(layers: int, shrink: int) -> list[Shape]:
    """Llama of hidden 2048: 32 query and 8 key-value heads of 64, gated ffn of 8192, tied head."""
    h, vocab, kv = 2048 // shrink, 128256 // shrink, 512 // shrink
    attention: list[Shape] = [((h, h), 2, 2), ((kv, h), 2, 2), ((kv, h), 2, 2), ((h, h), 2, 2)]
    mlp: list[Shape] = [((4 * h, h), 2, 2), ((4 * h, h), 2, 2), ((h, 4 * h), 2, 2), ((h,), 2, 1), ((h,), 2, 1)]
    return [((vocab, h), 1, 2), *(attention + mlp) * layers, ((h,), 2, 1)]


def cases(setting: Setting) -> Iterator[Case]:
    """bfloat16; the Llama has 8 of its 16 layers, so that source, target and a rival's copies fit in 24 GB."""
    models = {
        "Pythia-410M": partial(pythia_410m, max(1, 24 // setting.shrink), setting.shrink),
        "half Llama-1B": partial(llama_1b, max(1, 8 // setting.shrink), setting.shrink),
    }
    dtype = torch.bfloat16
    for name, shapes in models.items():
        for std in (0.0, STD):
            sizes = [(torch.Size(shape).numel(), rows, cols) for shape, rows, cols in shapes()]
            normals = sum(size * 2 for size, rows, cols in sizes if _takes_noise(rows, cols)) if std else 0
            work = Work(
                bytes=sum(size * (1 + rows * cols) for size, rows, cols in sizes) * dtype.itemsize,
                operations=sum(size for size, _, _ in sizes) + normals * NORMAL,
            )
            label = f"{name} x2{' noise' if std else ''} {short(dtype)}"
            yield Case(label, work, partial(_build, setting, dtype, shapes, std))


def _takes_noise(rows: int, cols: int) -> bool:
    return rows > 1 and cols > 1


def _spec(shape: Shape, std: float, name: str) -> TileSpec:
    size, rows, cols = shape
    height, width = (1, size[0]) if len(size) == 1 else size
    if len(size) == 1:
        return TileSpec((0, 1, 1, 1), (0, width, rows, 1))
    # The embedding's columns are copies, not sums: it is not divided. The head's are, but moves the same bytes.
    divisor = float(cols) if rows > 1 else 1.0
    noise = std if _takes_noise(rows, cols) else 0.0
    return TileSpec((0, height, rows, 1), (0, width, cols, 1), divisor, noise_std=noise, key=noise_key(0, name))


def _build(setting: Setting, dtype: torch.dtype, shapes: Callable[[], list[Shape]], std: float) -> list[Provider]:
    model = shapes()
    weights = [data(shape, dtype, setting.device) for shape, _, _ in model]
    specs = [_spec(shape, std, str(k)) for k, shape in enumerate(model)]
    outs = [
        touched((rows * size[0],) if len(size) == 1 else (rows * size[0], cols * size[1]), dtype, setting.device)
        for size, rows, cols in model
    ]
    tile = rivals.paper_tile_noisy if std else rivals.tile

    def grow(
        clean: Callable[..., Tensor] = rivals.tile, noisy: Callable[..., Tensor] = rivals.tile_noisy
    ) -> list[Tensor]:
        grown = []
        for weight, (_, rows, cols) in zip(weights, model, strict=True):
            if weight.ndim == 2 and rows == 1:
                grown.append(weight.repeat(rows, cols))
            elif std and _takes_noise(rows, cols):
                grown.append(noisy(weight, rows, cols, std))
            else:
                grown.append(clean(weight, rows, cols))
        return grown

    def at_once() -> list[Tensor]:
        ops.tile_rules_(outs, weights, specs)
        return outs

    def one_by_one() -> list[Tensor]:
        for out, weight, spec in zip(outs, weights, specs, strict=True):
            ops.tile_rules_([out], [weight], [spec])
        return outs

    def functional() -> list[Tensor]:
        fresh = [torch.empty_like(out) for out in outs]
        ops.tile_rules_(fresh, weights, specs)
        return fresh

    def ours(outputs: list[Tensor]) -> None:
        for out, weight, spec in zip(outputs, weights, specs, strict=True):
            checks.follows_reference(out, weight, spec)

    def theirs(outputs: list[Tensor]) -> None:
        for out, weight, spec, (_, rows, cols) in zip(outputs, weights, specs, model, strict=True):
            if std and _takes_noise(rows, cols):
                checks.noise_cancels(out, weight, rows, cols, std)
            else:
                checks.follows_reference(out, weight, spec)

    compiled_clean, compiled_noisy = rivals.compiled(rivals.tile), rivals.compiled(rivals.tile_noisy)
    providers = [
        Provider(OURS_OUT, at_once, ours, fresh=False),
        Provider(ONE_BY_ONE, one_by_one, ours, fresh=False),
        Provider(OURS, functional, ours),
        Provider(EAGER, grow, theirs),
        Provider(COMPILED, lambda: grow(compiled_clean, compiled_noisy), theirs),
    ]
    return [*providers, Provider(PAPER, lambda: grow(noisy=tile), theirs)] if std else providers

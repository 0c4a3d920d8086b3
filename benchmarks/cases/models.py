"""Whole models in one call: against their tensors one by one, and against the rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import COMPILED, EAGER, NORMAL, OURS, PAPER, Case, Provider, Setting, Work, data, in_place, short
from benchmarks.case import untouched_never as touched
from growkernels import ops
from growkernels.ops import Noise, Tile, noise_key

STD = 0.003
#: The provider that grows the tensors in a loop of single calls.
ONE_BY_ONE = "ours in place, one by one"

#: The model that fills most of a GPU's memory.
LARGEST = "Llama-8B"

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


def llama_8b(layers: int, shrink: int) -> list[Shape]:
    """Llama of hidden 4096: 32 query and 8 key-value heads of 128, gated ffn of 14336, untied head."""
    h, vocab, kv, ffn = 4096 // shrink, 128256 // shrink, 1024 // shrink, 14336 // shrink
    attention: list[Shape] = [((h, h), 2, 2), ((kv, h), 2, 2), ((kv, h), 2, 2), ((h, h), 2, 2)]
    mlp: list[Shape] = [((ffn, h), 2, 2), ((ffn, h), 2, 2), ((h, ffn), 2, 2), ((h,), 2, 1), ((h,), 2, 1)]
    return [((vocab, h), 1, 2), *(attention + mlp) * layers, ((h,), 2, 1), ((vocab, h), 1, 2)]


def cases(setting: Setting) -> Iterator[Case]:
    """bfloat16. Lists: whole models in place. Rivals: half the Llama, so that source, target and a copy fit in 24 GB."""
    layers = {"Pythia-410M": (pythia_410m, 24), "Llama-1B": (llama_1b, 16), "half Llama-1B": (llama_1b, 8)}
    builds = {"list": ("Pythia-410M", "Llama-1B"), "": ("Pythia-410M", "half Llama-1B")}
    dtype = torch.bfloat16
    if setting.kind == "cuda":
        # 16 GB become 60; the noise of a model this large is that of its parts.
        shapes = partial(llama_8b, max(1, 32 // setting.shrink), setting.shrink)
        build = partial(_build_list, setting, dtype, shapes, 0.0)
        yield Case(f"{LARGEST} list x2 {short(dtype)}", _work(shapes(), 0.0, dtype), build)
    for kind, names in builds.items():
        for name in names:
            model, depth = layers[name]
            shapes = partial(model, max(1, depth // setting.shrink), setting.shrink)
            for std in (0.0, STD):
                label = " ".join(word for word in (name, kind, "x2", "noise" if std else "", short(dtype)) if word)
                build = partial(_build_list if kind else _build, setting, dtype, shapes, std)
                yield Case(label, _work(shapes(), std, dtype), build, rounds=None if kind else 3)


def _work(model: list[Shape], std: float, dtype: torch.dtype) -> Work:
    sizes = [(torch.Size(shape).numel(), rows, cols) for shape, rows, cols in model]
    normals = sum(size * 2 for size, rows, cols in sizes if _takes_noise(rows, cols)) if std else 0
    return Work(
        bytes=sum(size * (1 + rows * cols) for size, rows, cols in sizes) * dtype.itemsize,
        operations=sum(size for size, _, _ in sizes) + normals * NORMAL,
    )


def _takes_noise(rows: int, cols: int) -> bool:
    return rows > 1 and cols > 1


def _spec(shape: Shape, std: float, name: str) -> Tile:
    size, rows, cols = shape
    if len(size) == 1:
        return Tile.copies(size, (rows,))
    # The embedding's columns are copies, not sums: it is not divided. The head's are, but moves the same bytes.
    noise = Noise(std=std) if std and _takes_noise(rows, cols) else None
    return Tile.copies(size, (rows, cols), 1 if rows > 1 else None, noise, noise_key(0, name))


@dataclass(frozen=True)
class _Model:
    """A model's tensors, what they become, and how."""

    shapes: list[Shape]
    weights: list[Tensor]
    specs: list[Tile]
    outs: list[Tensor]

    @classmethod
    def make(cls, setting: Setting, dtype: torch.dtype, shapes: list[Shape], std: float) -> _Model:
        weights = [data(shape, dtype, setting.device) for shape, _, _ in shapes]
        specs = [_spec(shape, std, str(k)) for k, shape in enumerate(shapes)]
        outs = [
            touched((rows * size[0],) if len(size) == 1 else (rows * size[0], cols * size[1]), dtype, setting.device)
            for size, rows, cols in shapes
        ]
        return cls(shapes, weights, specs, outs)

    def grow(self, backend: str | None) -> list[Tensor]:
        ops.tile_rules_(self.outs, self.weights, self.specs, backend=backend)
        return self.outs

    def grow_one_by_one(self) -> list[Tensor]:
        for out, weight, spec in zip(self.outs, self.weights, self.specs, strict=True):
            ops.tile_rules_([out], [weight], [spec])
        return self.outs

    def grow_new(self) -> list[Tensor]:
        fresh = [torch.empty_like(out) for out in self.outs]
        ops.tile_rules_(fresh, self.weights, self.specs)
        return fresh

    def check(self, outputs: list[Tensor]) -> None:
        for k, (out, weight, spec) in enumerate(zip(outputs, self.weights, self.specs, strict=True)):
            checks.follows_reference(out, weight, spec, bands=(k % 4 / 3,))


def _build_list(setting: Setting, dtype: torch.dtype, shapes: Callable[[], list[Shape]], std: float) -> list[Provider]:
    """Nothing is allocated: beside rivals that take and return gigabytes, the system's work for them fell on these too."""
    model = _Model.make(setting, dtype, shapes(), std)
    return [
        *in_place(setting, model.grow, model.check),
        Provider(ONE_BY_ONE, model.grow_one_by_one, model.check, fresh=False),
    ]


def _build(setting: Setting, dtype: torch.dtype, shapes: Callable[[], list[Shape]], std: float) -> list[Provider]:
    model = _Model.make(setting, dtype, shapes(), std)

    def grow(clean: Callable[..., Tensor], noisy: Callable[..., Tensor]) -> list[Tensor]:
        grown = []
        for weight, (_, rows, cols) in zip(model.weights, model.shapes, strict=True):
            if weight.ndim == 2 and rows == 1:
                grown.append(weight.repeat(rows, cols))
            elif std and _takes_noise(rows, cols):
                grown.append(noisy(weight, rows, cols, std))
            else:
                grown.append(clean(weight, rows, cols))
        return grown

    def theirs(outputs: list[Tensor]) -> None:
        for out, weight, spec, (_, rows, cols) in zip(outputs, model.weights, model.specs, model.shapes, strict=True):
            if std and _takes_noise(rows, cols):
                checks.noise_cancels(out, weight, rows, cols, std)
            else:
                checks.follows_reference(out, weight, spec)

    def rival(name: str, clean: Callable[..., Tensor], noisy: Callable[..., Tensor]) -> Provider:
        return Provider(name, partial(grow, clean, noisy), theirs)

    ours = [
        *in_place(setting, model.grow, model.check),
        Provider(OURS, model.grow_new, model.check),
    ]
    if std and setting.kind == "cpu":
        # With noise every rival takes minutes here; the single matrices tell how eager and compiled code compare.
        return [*ours, rival(PAPER, rivals.tile, rivals.paper_tile_noisy)]
    others = [rival(EAGER, rivals.tile, rivals.tile_noisy)]
    if setting.kind == "cpu":
        # On a GPU, compiling a model's shapes one by one takes longer than all else in the suite.
        others.append(rival(COMPILED, rivals.compiled(rivals.tile), rivals.compiled(rivals.tile_noisy)))
    if std:
        others.append(rival(PAPER, rivals.tile, rivals.paper_tile_noisy))
    return [*ours, *others]

"""Every op on a few inputs, into outputs that stay: something for streams, graphs, threads and pools to carry out."""

from __future__ import annotations

import torch
from torch import Tensor

from growkernels import ops
from growkernels.ops import Tile
from growkernels.ops.tile.numbers import RuleNumbers
from tests.gpu.device import NAMESPACES
from tests.ops.tensors import POISON, assert_same_bits, data


class Work:
    """Inputs and outputs on a device. `run` calls every op; `check` compares with the CPU kernels on the same inputs."""

    def __init__(self, backend: str | None, device: torch.device, shape: tuple[int, int] = (130, 520)) -> None:
        rows, cols = shape
        self.backend = backend
        self.weight = torch.full(shape, POISON, dtype=torch.bfloat16, device=device)
        self.vector = torch.full((cols,), POISON, device=device)
        self.coefficients = torch.full((18, rows // 5), POISON, device=device)
        self.whole = torch.full((2 * rows, cols), POISON, device=device)
        self.rule = RuleNumbers(
            (0, rows, 2, 1, -1, 3, 1, 1),
            (0, cols, 2, 2, -1, 5, 1, 1),
            2.0,
            noise_std=0.1,
            key=5,
            fill=((0.0, 0.1), (0.5, 0.2), (0.0, 0.3)),
        ).tile()
        sizes = [(2 * rows, 2 * cols), (2 * rows, 2 * cols), (2 * rows, 3 * cols), self.rule.shape, (3 * cols,)]
        sizes += [shape, (cols,), shape, (777,), (2 * rows, 2 * cols)]
        self.outs = [torch.full(size, POISON, device=device) for size in sizes]
        self.outs += [torch.full(size, POISON, device=device) for size in [(3, rows // 2, cols), (18, 5, cols - 1)]]
        self.outs += [torch.full(size, POISON, dtype=torch.float64, device=device) for size in [(2,), (4, 13)]]

    def fill(self, seed: int) -> None:
        """New inputs; the outputs are poisoned."""
        self.weight.copy_(data(tuple(self.weight.shape), torch.bfloat16, seed))
        self.vector.copy_(data(tuple(self.vector.shape), torch.float32, seed + 1))
        self.coefficients.copy_(data(tuple(self.coefficients.shape), torch.float32, seed + 2))
        # Inner products of these are exact in any order.
        self.whole.copy_(data(tuple(self.whole.shape), torch.float32, seed + 3).abs().ceil().clamp(max=4))
        for out in self.outs:
            out.fill_(POISON)

    def run(self) -> None:
        """Call every op once, on the current stream."""
        w, v, backend = self.weight, self.vector, self.backend
        library = getattr(torch.ops, NAMESPACES.get(backend, "growkernels"))
        clean, noisy, measured, rule, repeated, first, second, third, normals, grown, *sums = self.outs
        mixes, many, squares, products = sums
        ops.tile_(clean, w, 2, 2, backend=backend)
        ops.tile_(noisy, w, 2, 2, noise_std=0.02, key=1, backend=backend)
        ops.tile_(measured, w, 2, 3, "diagonal", snr_db=10.0, key=2, backend=backend)
        repeats = Tile.copies(v.shape, (3,))
        ops.tile_rules_([rule, repeated], [w, v], [self.rule, repeats], backend=backend)
        ops.replicate_([first, second, third], [w, v], [0, 1, 0], 0.5, 0.2, 0.1, 3, backend=backend)
        ops.normal_(normals, 4, 1, 2, backend=backend)
        grown.copy_(ops.tile(w, 2, 2, snr_db=20.0, key=6, backend=backend))
        squares.copy_(ops.mean_square([w, v], backend=backend))
        library.mix_(list(mixes.unbind()), list(w.chunk(2)), self.coefficients[:3, :2])
        library.mix_(list(many.unbind()), list(w[:, 1:].split(5)), self.coefficients)
        layers = self.whole.split(5)
        library.inner_products_(products.zero_(), list(layers[:4]), list(layers[4:17]))

    def expected(self) -> list[Tensor]:
        """What the CPU kernels make of the same inputs."""
        other = Work("cpu", torch.device("cpu"), tuple(self.weight.shape))
        other.weight.copy_(self.weight)
        other.vector.copy_(self.vector)
        other.coefficients.copy_(self.coefficients)
        other.whole.copy_(self.whole)
        other.run()
        return other.outs

    def check(self) -> None:
        """Every output has the bits of the CPU kernels."""
        for out, right in zip(self.outs, self.expected(), strict=True):
            assert_same_bits(out.cpu(), right)

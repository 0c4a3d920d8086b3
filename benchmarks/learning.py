"""A training step of learned growth against the straightforward one: time, and peak memory beside the sum that docs state.

    python -m benchmarks.learning [--repeats 3] [--hidden 512] [--layers 4] [--tokens 512]

A random Llama is grown twice as wide and deep. The rival makes every grown weight by torch's own ops, keeps their graph, and
goes back through all of it at once. Each way is a process of its own; the ways take turns. Memory is what the process holds
at its peak above what it held before the source was made, once a tiny model has been through the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.memory import peak_above
from growkernels import LearnedGrowth
from growkernels.plans import Learned

WAYS = ("ours", "plain")
#: The second one has the optimizer's moments from the start.
_STEPS = 2
_VOCABULARY = 256


class Plain(LearnedGrowth):
    """The same training with the graph from the matrices to the loss kept whole."""

    def _loss_and_gradients(self, batch: Mapping[str, Tensor]) -> float:
        self._optimizer.forget_gradients()
        loss = self._run(
            {name: plain(grown.how, self._sources(grown), self.matrices) for name, grown in self._learned.items()},
            batch,
        )
        loss.backward()
        return float(loss)


def plain(learned: Learned, weights: Sequence[Tensor], matrices: Mapping[str, Tensor]) -> Tensor:
    """The target of a learned rule by torch's ops, one axis after the other."""
    row = matrices[learned.mix][learned.row]
    value = sum(coefficient * weight for coefficient, weight in zip(row, weights, strict=True))
    for axis, parts in enumerate(learned.axes):
        pieces = value.split([part.size for part in parts], axis)
        grown = [
            piece
            if part.matrix is None
            else torch.tensordot(matrices[part.matrix], piece.unflatten(axis, (-1, part.block)), ([1], [axis]))
            .movedim(0, axis)
            .flatten(axis, axis + 1)
            for part, piece in zip(parts, pieces, strict=True)
        ]
        value = torch.cat(grown, axis)
    return value


def make_source(hidden: int, layers: int) -> LlamaForCausalLM:
    """A Llama with grouped-query attention, random weights in float32."""
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def train(way: str, hidden: int, layers: int, tokens: int) -> tuple[LearnedGrowth, list[float]]:
    """A growth after some steps on one batch, and the processor time of each in seconds."""
    growth = (Plain if way == "plain" else LearnedGrowth)(make_source(hidden, layers), depth=2, width=2)
    seconds, start = [], time.process_time()

    def on_step(step: int, loss: float) -> None:
        nonlocal start
        now = time.process_time()
        seconds.append(now - start)
        start = now

    growth.fit([batch(tokens)] * _STEPS, _STEPS, on_step=on_step)
    return growth, seconds


def batch(tokens: int) -> dict[str, Tensor]:
    """One window."""
    ids = torch.randint(_VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "labels": ids}


def activations(growth: LearnedGrowth, tokens: int) -> int:
    """Bytes that the grown model's forward pass keeps for its backward pass, weights apart."""
    weights = {name: weight.requires_grad_() for name, weight in growth._grown().items()}
    own = {weight.untyped_storage().data_ptr() for weight in weights.values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = growth._run(weights, batch(tokens))
    del loss
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def step(way: str, hidden: int, layers: int, tokens: int) -> dict[str, Any]:
    """Both steps of one way in this process: processor time of the last, bytes at the peak, and the parts of the stated sum."""
    torch.manual_seed(0)
    train(way, 64, 2, 16)
    done: list[tuple[LearnedGrowth, list[float]]] = []
    peak = peak_above(lambda: done.append(train(way, hidden, layers, tokens)), torch.device("cpu"))
    [(growth, seconds)] = done
    grown = [4 * prod(grown.how.shape) for grown in growth._learned.values()]
    parts = {
        "source": sum(weight.nbytes for weight in growth._weights.values()),
        "operator": 4 * sum(matrix.nbytes for matrix in growth.matrices.values()),
        "grown": sum(grown),
        "activations": activations(growth, tokens),
        "gradient": max(grown),
    }
    return {"seconds": seconds[-1], "peak": peak, "parts": parts}


def run(way: str, hidden: int, layers: int, tokens: int) -> dict[str, Any]:
    """`step` in a process of its own, whose allocator gives back at once what is freed."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.learning", "--step", way]
    command += ["--hidden", str(hidden), "--layers", str(layers), "--tokens", str(tokens)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def main() -> None:
    """Measure, and print what a table needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--step", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (arguments.hidden, arguments.layers, arguments.tokens)
    if arguments.step:
        print(json.dumps(step(arguments.step, *sizes)))
        return
    runs = {way: [] for way in WAYS}
    for _ in range(arguments.repeats):
        for way in WAYS:
            runs[way].append(run(way, *sizes))
    for way, found in runs.items():
        seconds = [one["seconds"] for one in found]
        print(
            f"{way}: {statistics.median(seconds):.2f} s of processor time a step ({min(seconds):.2f} to {max(seconds):.2f}), "
            f"{max(one['peak'] for one in found) / 1e6:.0f} MB at the peak"
        )
    parts = runs["ours"][0]["parts"]
    stated = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in parts.items())
    print(f"stated: {sum(parts.values()) / 1e6:.0f} MB ({stated})")


if __name__ == "__main__":
    main()

"""Does learning the growth operator pay? LiGO after 0, 100 and 500 steps against stacking, interpolation and HyperCloning.

A small Llama is trained on Python's standard library, and grown deeper, wider, and both. Each grown model's loss on modules
that nothing was trained on is taken at once, and again after the same further training on the same batches. Run through
`make study`: minutes on two cores. Writes docs/ligo-study.md and docs/ligo-study.png.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Read when torch loads: threads that spin while they wait make training up to ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from matplotlib.figure import Figure
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

import growkernels
from demo import text, training

DOCS = Path(__file__).resolve().parent.parent / "docs"
LENGTH, BATCH, WINDOWS = 128, 4, 48
SOURCE_STEPS, SOURCE_BATCH, SOURCE_PEAK = 1200, 8, 3e-3
#: Further training after growth: steps, peak learning rate, warm-up; and how often the loss is taken.
STEPS, PEAK, WARMUP, EVERY = 150, 1e-3, 15, 30
FITS = (0, 100, 500)
#: The operator's own learning rate, which is the command line's.
FIT_LR = 1e-3

COPIES = {"width_operator": "hypercloning"}
SETTINGS: dict[str, dict[str, int]] = {"deeper": {"depth": 2}, "wider": {"width": 2}, "both": {"depth": 2, "width": 2}}
RIVALS: dict[str, dict[str, dict[str, str]]] = {
    "deeper": {"stacking": {"depth_operator": "gstack"}, "interpolation": {"depth_operator": "interpolate"}},
    "wider": {"HyperCloning": COPIES},
    "both": {
        "stacking + HyperCloning": {"depth_operator": "gstack", **COPIES},
        "interpolation + HyperCloning": {"depth_operator": "interpolate", **COPIES},
    },
}


@dataclass
class Result:
    """One grown model: held-out loss by further training step, and the seconds that its growth took."""

    setting: str
    name: str
    seconds: float
    curve: list[tuple[int, float]] = field(default_factory=list)


def small_llama() -> LlamaForCausalLM:
    """A Llama of 0.2 M parameters with grouped-query attention, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=text.VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def batches(corpus: torch.Tensor, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """What the operator is fitted on."""
    for tokens in text.batches(corpus, LENGTH, BATCH, seed):
        yield {"input_ids": tokens, "labels": tokens}


def fresh(source: PreTrainedModel) -> PreTrainedModel:
    """A copy of the source, to be grown."""
    copy = LlamaForCausalLM(source.config)
    copy.load_state_dict(source.state_dict())
    return copy


def train_on(model: PreTrainedModel, corpus: torch.Tensor, held_out: torch.Tensor, result: Result) -> None:
    """The further training, the same for every model; fills the result's curve."""

    def on_step(step: int, loss: float) -> None:
        del loss
        if step % EVERY == 0:
            result.curve.append((step, training.held_out_loss(model, held_out)))
            model.train()

    result.curve.append((0, training.held_out_loss(model, held_out)))
    training.train(model, text.batches(corpus, LENGTH, BATCH, seed=1), STEPS, PEAK, WARMUP, on_step)
    print(f"{result.setting:8}{result.name:30}{result.curve[0][1]:8.4f}{result.curve[-1][1]:8.4f}", flush=True)


def grown(source: PreTrainedModel, corpus: torch.Tensor) -> Iterator[tuple[Result, PreTrainedModel]]:
    """Every grown model."""
    for setting, sizes in SETTINGS.items():
        for name, operators in RIVALS[setting].items():
            start = time.perf_counter()
            model = growkernels.grow_model(fresh(source), **sizes, **operators)
            yield Result(setting, name, time.perf_counter() - start), model
        for steps in FITS:
            start = time.perf_counter()
            growth = growkernels.LearnedGrowth(source, **sizes)
            if steps:
                growth.fit(batches(corpus, seed=2), steps, FIT_LR)
            model = growkernels.grow_model(fresh(source), plan=growth.materialise())
            yield Result(setting, f"LiGO, {steps} steps", time.perf_counter() - start), model


def table(source: Result, results: list[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "# Study: does learning the growth operator pay?",
        "",
        "Made by `make study`; what it does stands in `studies/ligo.py`. Loss in nats per byte on held-out text, lower is",
        f"better: at once, and after {STEPS} further steps, the same for all. The operator's own steps come on top, on",
        "batches that the others do not see; the last column is wall time. One run, one seed, a model of 0.2 M parameters.",
        "",
        "| growth | operator | loss at once | after further training | grown in |",
        "|---|---|---|---|---|",
    ]
    for result in (source, *results):
        at_once, later = result.curve[0][1], result.curve[-1][1]
        best = min(r.curve[-1][1] for r in results if r.setting == result.setting) if result is not source else None
        shown = f"**{later:.4f}**" if later == best else f"{later:.4f}"
        lines.append(f"| {result.setting} | {result.name} | {at_once:.4f} | {shown} | {result.seconds:.1f} s |")
    lines += ["", "![Held-out loss by further training step](ligo-study.png)", ""]
    return "\n".join(lines)


def draw(path: Path, source: Result, results: list[Result]) -> None:
    """One panel for each growth, with the loss by further training step."""
    figure = Figure(figsize=(13, 4.2), dpi=120, facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(SETTINGS), sharey=True)
    for axes, setting in zip(panels, SETTINGS, strict=True):
        axes.plot(*zip(*source.curve, strict=True), color="#8fa3b8", label="source, not grown")
        for result in (r for r in results if r.setting == setting):
            learned = result.name.startswith("LiGO")
            axes.plot(
                *zip(*result.curve, strict=True),
                marker="o",
                markersize=4,
                linestyle="-" if learned else "--",
                color=_color(result.name),
                label=result.name,
            )
        axes.set_title(setting)
        axes.set_xlabel("training steps after the growth")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("held-out loss, nats per byte")
    figure.savefig(path, format="png")


def _color(name: str) -> str:
    """The same in every panel: of LiGO by its steps, of the others by what orders the layers."""
    fits = [f"LiGO, {steps} steps" for steps in FITS]
    return (
        f"C{fits.index(name) if name in fits else len(fits) + ('interpolation' in name) + 2 * (name == 'HyperCloning')}"
    )


def main() -> None:
    """The whole study."""
    start = time.perf_counter()
    transformers.logging.set_verbosity_error()
    trained, held = text.standard_library()
    corpus = text.as_tensor(trained)
    held_out = text.windows(text.as_tensor(held), LENGTH, WINDOWS)
    source = small_llama()
    data = text.batches(corpus, LENGTH, SOURCE_BATCH, seed=0)
    training.train(source, data, SOURCE_STEPS, SOURCE_PEAK, 50, lambda step, loss: None)
    source.eval()
    as_it_is = Result("none", "source", 0.0)
    train_on(fresh(source), corpus, held_out, as_it_is)
    results = []
    for result, model in grown(source, corpus):
        train_on(model, corpus, held_out, result)
        results.append(result)
        (DOCS / "ligo-study.md").write_text(table(as_it_is, results))
        draw(DOCS / "ligo-study.png", as_it_is, results)
    print(f"Done in {time.perf_counter() - start:.0f} s: {DOCS / 'ligo-study.md'}, {DOCS / 'ligo-study.png'}")


if __name__ == "__main__":
    main()

"""What cloning leaves behind: HyperCloning's two analyses, symmetry between copies and rank of the weights, step by step.

A small Llama is trained on Python's standard library and cloned to twice its width, without noise, with 40 dB and with 10 dB.
Each clone, and a model of the same shape from random weights, is trained on alike and analyzed on the way. Run through
`python -m studies.analysis`: minutes on two cores. Writes docs/analysis-study.png, docs/analysis-clone.png and
docs/analysis-study.json.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

# Read when torch loads: threads that spin while they wait make training up to ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from matplotlib.figure import Figure
from transformers import LlamaConfig, LlamaForCausalLM

import growkernels
from demo import text, training
from growkernels.analyze import Analysis, analyze, draw_analysis

DOCS = Path(__file__).resolve().parent.parent / "docs"
LENGTH, BATCH, WINDOWS = 128, 4, 32
SOURCE_STEPS, STEPS, PEAK, WARMUP = 800, 400, 2e-3, 20
#: Steps at which the models are analyzed.
STOPS = (0, 50, 100, 200, 400)
CLONES: dict[str, float | None] = {"clone, no noise": None, "clone, 40 dB": 40.0, "clone, 10 dB": 10.0}
SCRATCH = "from scratch"
COLORS = {"clone, no noise": "#8a7a33", "clone, 40 dB": "#b4441c", "clone, 10 dB": "#7a3e8a", SCRATCH: "#33658a"}


def llama(hidden: int) -> LlamaForCausalLM:
    """Four layers with grouped-query attention, random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=text.VOCAB_SIZE,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=4,
        num_attention_heads=hidden // 16,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def measured(analysis: Analysis) -> dict[str, float]:
    """Mean cosine between copies and mean effective rank, of the matrices inside the layers."""
    cosines = [entry.cosine for entry in analysis.symmetry if entry.layer is not None]
    ranks = [entry.rank_share for entry in analysis.spectra if entry.layer is not None]
    return {"cosine": sum(cosines) / len(cosines), "rank": sum(ranks) / len(ranks)}


def followed(
    model: LlamaForCausalLM, name: str, corpus: torch.Tensor, held_out: torch.Tensor, folder: Path
) -> list[dict[str, Any]]:
    """Train a model, and analyze it at every stop."""
    found: list[dict[str, Any]] = []

    def look(step: int) -> None:
        model.save_pretrained(folder / name)
        analysis = analyze(folder / name)
        loss = training.held_out_loss(model, held_out)
        model.train()
        found.append({"step": step, "loss": loss, "origin": analysis.verdict.origin, **measured(analysis)})
        print(f"{name:18}", found[-1], flush=True)

    look(0)
    batches = text.batches(corpus, LENGTH, BATCH, seed=1)
    training.train(model, batches, STEPS, PEAK, WARMUP, lambda step, loss: look(step) if step in STOPS else None)
    return found


def draw(path: Path, found: dict[str, list[dict[str, Any]]]) -> None:
    """Symmetry, effective rank and loss by step."""
    figure = Figure(figsize=(14, 4.2), dpi=120, facecolor="white", layout="constrained")
    titles = {
        "cosine": "cosine between copies, means over matrices",
        "rank": "effective rank / smaller side, means over matrices",
        "loss": "held-out loss, nats per byte",
    }
    for axes, (key, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name, points in found.items():
            axes.plot([p["step"] for p in points], [p[key] for p in points], marker="o", color=COLORS[name], label=name)
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel("training step after the growth")
        axes.grid(alpha=0.3)
        if key != "loss":
            axes.set_ylim(-0.05, 1.05)
        axes.legend(frameon=False)
    figure.savefig(path, format="png")


def main() -> None:
    """The whole study."""
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    train_bytes, held_bytes = text.standard_library()
    corpus, held_out = text.as_tensor(train_bytes), text.windows(text.as_tensor(held_bytes), LENGTH, WINDOWS)
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(temporary)
        source = llama(64)
        batches = text.batches(corpus, LENGTH, 2 * BATCH, seed=0)
        training.train(source, batches, SOURCE_STEPS, PEAK, WARMUP, lambda step, loss: None)
        source.save_pretrained(folder / "source")
        print("source", training.held_out_loss(source, held_out), flush=True)
        found = {}
        for name, noise in CLONES.items():
            growkernels.grow_checkpoint(folder / "source", folder / name, width=2, noise_snr_db=noise, no_verify=True)
            found[name] = followed(LlamaForCausalLM.from_pretrained(folder / name), name, corpus, held_out, folder)
        found[SCRATCH] = followed(llama(128), SCRATCH, corpus, held_out, folder)
        (folder / "clone, 10 dB").rename(folder / "clone")
        draw_analysis(analyze(folder / "clone", folder / "source"), DOCS / "analysis-clone.png")
    draw(DOCS / "analysis-study.png", found)
    (DOCS / "analysis-study.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

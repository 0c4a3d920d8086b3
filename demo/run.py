"""Train a small model, grow it wider, deeper and both, verify each, and see what it costs and what it gives.

Run through `make demo`; everything is written to demo/out. A second run reuses the trained model and grows it again.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

# Read when torch loads: threads that spin while they wait make training up to ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT.parent))

import growkernels  # noqa: E402
from demo import text, training  # noqa: E402
from demo.curves import Curve, draw_curves  # noqa: E402
from growkernels.report.picture import draw_plan  # noqa: E402

OUT = ROOT / "out"
STEPS, BATCH, PEAK = 340, 8, 3e-3
#: Training that follows each growth, a few seconds: a low peak, as the models are trained already.
MORE_STEPS, MORE_BATCH, MORE_PEAK = 8, 4, 1e-4
#: Windows of 256 bytes of held-out text that every loss is taken over.
WINDOWS = 24

GROWTHS = {
    "2x wide": ("wide", {"width": 2, "noise_snr_db": 10.0}),
    "2x deep": ("deep", {"depth": 2}),
    "both": ("wide-and-deep", {"width": 2, "depth": 2, "noise_snr_db": 10.0}),
}


@dataclass
class Result:
    """One row of the table: losses in nats per byte of text that the model has never seen."""

    name: str
    parameters: int
    seconds: float = 0.0
    verified: str = ""
    #: (steps after the growth, loss)
    curve: list[tuple[int, float]] = field(default_factory=list)


def load(folder: Path) -> transformers.PreTrainedModel:
    """The checkpoint as any user of transformers would load it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trained_model(console: Console, corpus: torch.Tensor) -> Path:
    """The folder of the small model; trains it first if there is none yet."""
    folder = OUT / "small"
    if folder.exists():
        console.print(f"The small model is trained already: {folder} (delete demo/out to train again)")
        return folder
    model = training.small_llama()
    data = text.batches(corpus, training.LENGTH, BATCH, seed=0)
    columns = (TextColumn("Training"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn("loss {task.fields[loss]:.2f}"), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task("train", total=STEPS, loss=float("nan"))
        training.train(
            model, data, STEPS, PEAK, 20, lambda step, loss: progress.update(task, completed=step, loss=loss)
        )
    # Under its name only when it is complete: an interrupted run trains again.
    partial = OUT / "small.partial"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    text.byte_tokenizer().save_pretrained(partial)
    return partial.rename(folder)


def train_on(model: transformers.PreTrainedModel, corpus: torch.Tensor, held_out: torch.Tensor, result: Result) -> None:
    """A few more steps of training; fills the result's curve."""
    data = text.batches(corpus, training.LENGTH, MORE_BATCH, seed=1)

    def on_step(step: int, loss: float) -> None:
        del loss
        if step % (MORE_STEPS // 2) == 0:
            result.curve.append((step, training.held_out_loss(model, held_out)))
            model.train()

    result.curve.append((0, training.held_out_loss(model, held_out)))
    training.train(model, data, MORE_STEPS, MORE_PEAK, 3, on_step)


def show(console: Console, results: list[Result]) -> None:
    """The table, and what to make of it."""
    table = Table(title="Loss on held-out modules, nats per byte (lower is better)")
    for heading in ("model", "parameters", "grown in", "verified", "loss at once", f"after {MORE_STEPS} more steps"):
        table.add_column(heading, justify="left" if heading in ("model", "verified") else "right")
    for r in results:
        grown = f"{r.seconds:.1f} s" if r.seconds else ""
        table.add_row(r.name, f"{r.parameters:,}", grown, r.verified, f"{r.curve[0][1]:.4f}", f"{r.curve[-1][1]:.4f}")
    console.print(table)


def main() -> None:
    """The whole demonstration."""
    console = Console()
    start = time.perf_counter()
    torch.manual_seed(0)
    transformers.logging.disable_progress_bar()
    training_text, held_text = text.standard_library()
    corpus, held_out = (
        text.as_tensor(training_text),
        text.windows(text.as_tensor(held_text), training.LENGTH, WINDOWS),
    )
    console.print(
        f"Text: Python's standard library, {len(corpus) / 1e6:.1f} MB to train on, {len(held_text) / 1e6:.1f} MB held out"
    )
    small = trained_model(console, corpus)

    results = [measure("small", small, corpus, held_out)]
    for name, (folder, options) in GROWTHS.items():
        began = time.perf_counter()
        report = growkernels.grow_checkpoint(small, OUT / folder, overwrite=True, **options)
        seconds = time.perf_counter() - began
        console.print(f"\n[bold]{name}[/bold]: {OUT / folder}")
        for line in report.verification.lines():
            console.print(f"  {line}")
        result = measure(name, OUT / folder, corpus, held_out)
        result.seconds, result.verified = (seconds, "yes" if report.verification.passed else "NO")
        results.append(result)

    console.print()
    show(console, results)
    draw_curves(OUT / "curves.png", [Curve(r.name, r.curve) for r in results])
    draw_plan(growkernels.plan(small, **GROWTHS["both"][1]), OUT / "plan.png")
    console.print(
        "2x wide computes the same function, so its loss is the small model's: it has room to learn more from here.\n"
        "2x deep stacks the layers and does not: its loss jumps at first. Train on: most of it is back within a few steps.\n"
        f"Checkpoints for stock transformers, with their manifests (growkernels.json): {OUT}\n"
        f"Pictures: {OUT / 'curves.png'} (training on after growth), {OUT / 'plan.png'} (one grown layer)\n"
        f"Done in {time.perf_counter() - start:.0f} s."
    )
    if not all(r.verified in ("", "yes") for r in results):
        raise SystemExit("a grown model failed its verification")


def measure(name: str, folder: Path, corpus: torch.Tensor, held_out: torch.Tensor) -> Result:
    """Load a checkpoint with stock transformers and train it on a little, with its held-out loss before and after."""
    model = load(folder)
    result = Result(name, sum(p.numel() for p in model.parameters()))
    train_on(model, corpus, held_out, result)
    return result


if __name__ == "__main__":
    main()

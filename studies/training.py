"""Does growing the optimizer pay? Moments grown, fresh or asymmetric, with and without the factors of lr, decay and eps.

A small GPT is trained on Python's standard library, grown in the middle of the run, and trained on; beside it the source that
goes on, and models of the grown size from scratch at equal FLOPs in all, those of the source counted. Run through
`make study-training`; every run is kept as it ends, and a second call goes on with those that are missing. Writes
docs/training-study.md, .json and .png.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

# Read when torch loads: threads that spin while they wait make training up to ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers
from matplotlib.figure import Figure
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

import growkernels
from demo import text, training

DOCS = Path(__file__).resolve().parent.parent / "docs"
PEAK, WARMUP, DECAY, CLIP, BATCH, SEEDS = 1e-3, 20, 0.1, 1.0, 8, (0, 1, 2)
#: Steps that count as the bump after the growth, and as the end.
BUMP, END, WINDOWS = 20, 40, 32


@dataclass(frozen=True)
class Setting:
    """Sizes of the source, and the steps before and after the growth."""

    name: str
    hidden: int
    layers: int
    length: int
    before: int
    after: int


SETTINGS = {
    "reduced": Setting("reduced", 32, 2, 64, 300, 150),
    "full": Setting("full", 64, 4, 128, 600, 300),
    "gpu": Setting("gpu", 512, 8, 512, 4000, 2000),
}
GROWTHS: dict[str, dict[str, Any]] = {
    "width 2, 10 dB": {"width": 2, "noise_snr_db": 10.0},
    "width 2, no noise": {"width": 2, "noise_snr_db": None},
    "depth 2": {"depth": 2},
}


@dataclass(frozen=True)
class Run:
    """One row of the study: a growth and what becomes of the optimizer."""

    growth: str
    state: str
    multipliers: str | None = None
    warmup: int = 0

    @property
    def name(self) -> str:
        """What the table calls it."""
        words = [
            self.state,
            *(["with factors"] if self.multipliers else []),
            *([f"warm-up {self.warmup}"] if self.warmup else []),
        ]
        return ", ".join(words)


def runs() -> Iterator[Run]:
    """All rows. In depth no tensor has factors, and none has copies beside the first."""
    for growth in GROWTHS:
        wide = "width" in growth
        for factors in ("step", None) if wide else (None,):
            yield Run(growth, "grow", factors)
            if wide:
                yield Run(growth, "asymmetric", factors)
            yield Run(growth, "fresh", factors)
            yield Run(growth, "fresh", factors, WARMUP)
        yield Run(growth, "from scratch", None, WARMUP)
    yield Run("none", "the source goes on")


class Study:
    """The study in one setting, with the results so far."""

    def __init__(self, setting: Setting, device: str) -> None:
        self._setting, self._device = setting, device
        trained, held = text.standard_library()
        self._corpus = text.as_tensor(trained)
        self._held = text.windows(text.as_tensor(held), setting.length, WINDOWS).to(device)
        self._file = DOCS / "training-study.json"
        kept = json.loads(self._file.read_text()) if self._file.is_file() else {}
        self.results: dict[str, dict[str, Any]] = kept if kept.get("setting") == vars_of(setting) else {}
        self.results.setdefault("setting", vars_of(setting))
        self.results.setdefault("runs", {})

    def carry_out(self) -> None:
        """Every run that is missing."""
        for seed in SEEDS:
            missing = [run for run in runs() if self._key(run, seed) not in self.results["runs"]]
            if not missing:
                continue
            model, optimizer = self._source(seed)
            for run in missing:
                start = time.perf_counter()
                losses, held = self._one(run, seed, model, optimizer)
                self.results["runs"][self._key(run, seed)] = {"losses": losses, "held_out": held}
                self._file.write_text(json.dumps(self.results))
                print(f"{seed} {run.growth:18}{run.name:40}{held:8.4f}{time.perf_counter() - start:7.1f} s", flush=True)

    def _key(self, run: Run, seed: int) -> str:
        return f"{run.growth} | {run.name} | {seed}"

    def _model(self, seed: int, hidden: int, layers: int) -> PreTrainedModel:
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=text.VOCAB_SIZE,
            n_embd=hidden,
            n_layer=layers,
            n_head=hidden // 16,
            n_positions=self._setting.length,
            bos_token_id=256,
            eos_token_id=257,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        return GPT2LMHeadModel(config).to(self._device)

    def _source(self, seed: int) -> tuple[PreTrainedModel, torch.optim.Optimizer]:
        model = self._model(seed, self._setting.hidden, self._setting.layers)
        optimizer = make_optimizer(model)
        self._train(model, optimizer, range(self._setting.before), seed, WARMUP)
        return model, optimizer

    def _one(
        self, run: Run, seed: int, source: PreTrainedModel, trained: torch.optim.Optimizer
    ) -> tuple[list[float], float]:
        setting = self._setting
        after = range(setting.before, setting.before + setting.after)
        if run.state == "from scratch":
            wide = 2 if "width" in run.growth else 1
            model = self._model(seed + 100, setting.hidden * wide, setting.layers * (3 - wide))
            saved = round(setting.before * flops(source) / flops(model))
            steps = range(after.start - saved, after.stop)
            losses = self._train(model, make_optimizer(model), steps, seed, run.warmup)[saved:]
        else:
            model = copy.deepcopy(source)
            optimizer = make_optimizer(model)
            optimizer.load_state_dict(copy.deepcopy(trained.state_dict()))
            if run.growth in GROWTHS:
                growkernels.grow_model(
                    model,
                    optimizer,
                    state=run.state,  # type: ignore[arg-type]
                    multipliers=run.multipliers,  # type: ignore[arg-type]
                    seed=seed,
                    **GROWTHS[run.growth],
                )
            losses = self._train(model, optimizer, after, seed, run.warmup)
        return losses, training.held_out_loss(model, self._held)

    def _train(
        self, model: PreTrainedModel, optimizer: torch.optim.Optimizer, steps: range, seed: int, warmup: int
    ) -> list[float]:
        """Steps at one learning rate after the warm-up; step i has the same batch in every run of a seed."""
        model.train()
        data = text.batches(self._corpus, self._setting.length, BATCH, seed)
        for _ in range(max(0, steps.start)):
            next(data)
        losses = []
        for number, _ in enumerate(steps):
            for group in optimizer.param_groups:
                group["lr"] = PEAK * min(1.0, (number + 1) / max(1, warmup))
            batch = next(data).to(self._device)
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            growkernels.optim.clip_grad_norm_(optimizer, CLIP)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(round(loss.item(), 5))
        return losses


def vars_of(setting: Setting) -> dict[str, Any]:
    """A setting as JSON."""
    return dict(vars(setting))


def make_optimizer(model: PreTrainedModel) -> torch.optim.Optimizer:
    """AdamW with decay on matrices alone."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.95))


def flops(model: PreTrainedModel) -> int:
    """Per token, up to a factor: the entries of the matrices that products read, the tied head among them."""
    positions = model.transformer.wpe.weight.numel()
    return sum(p.numel() for p in model.parameters() if p.ndim > 1) - positions


def table(results: dict[str, Any]) -> str:
    """The results in Markdown: mean over the seeds and, in brackets, the standard deviation."""
    setting = Setting(**results["setting"])
    found = results["runs"]
    lines = [
        "# Study: does growing the optimizer pay?",
        "",
        f"Made by `make study-training`, setting `{setting.name}`; what it does stands in `studies/training.py`. GPT-2 of",
        f"hidden size {setting.hidden} and {setting.layers} layers, {setting.before} steps of {BATCH} x {setting.length} bytes",
        f"of Python's standard library, then the growth, then {setting.after} steps on the same batches for all; AdamW, lr",
        f"{PEAK:g}, clipped by the source's norm. Loss in nats per byte: mean of the first {BUMP} steps after the growth, of",
        f"the last {END}, and on held-out text at the end. Mean over {len(SEEDS)} seeds, standard deviation in brackets. The",
        "differences are paired by seed, from `grow, with factors` (depth: `grow`), with their standard error after `+-`.",
        "",
        "| growth | optimizer | first steps | last steps | held out | first: difference | last: difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs():
        rows = [
            found[f"{run.growth} | {run.name} | {seed}"]
            for seed in SEEDS
            if f"{run.growth} | {run.name} | {seed}" in found
        ]
        if len(rows) < len(SEEDS):
            continue
        base = Run(run.growth, "grow", "step" if "width" in run.growth else None)
        others = [found.get(f"{base.growth} | {base.name} | {seed}") for seed in SEEDS]
        cells = [spread([mean(r["losses"][:BUMP]) for r in rows]), spread([mean(r["losses"][-END:]) for r in rows])]
        cells.append(spread([r["held_out"] for r in rows]))
        for part in (slice(0, BUMP), slice(-END, None)):
            same = run == base or None in others
            cells.append(
                ""
                if same
                else difference(
                    [mean(r["losses"][part]) - mean(o["losses"][part]) for r, o in zip(rows, others, strict=True) if o]
                )
            )
        lines.append(f"| {run.growth} | {run.name} | {' | '.join(cells)} |")
    lines += [
        "",
        "A difference of less than some four standard errors (three seeds: two degrees of freedom) is none that this shows.",
        "",
    ]
    lines += ["![Loss after the growth](training-study.png)", ""]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.4f} ({stdev(values):.4f})"


def difference(values: list[float]) -> str:
    """The mean of paired differences with its standard error."""
    return f"{mean(values):+.4f} +- {stdev(values) / len(values) ** 0.5:.4f}"


def draw(path: Path, results: dict[str, Any]) -> None:
    """One panel for each growth: the loss after it by step, less that of the source that goes on, mean over seeds."""
    figure = Figure(figsize=(13, 4.2), dpi=120, facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(GROWTHS), sharey=True)
    found = results["runs"]
    for axes, growth in zip(panels, GROWTHS, strict=True):
        for run in (run for run in runs() if run.growth == growth and run.state != "from scratch"):
            curves = [
                [
                    a - b
                    for a, b in zip(
                        found[f"{growth} | {run.name} | {seed}"]["losses"],
                        found[f"none | the source goes on | {seed}"]["losses"],
                        strict=True,
                    )
                ]
                for seed in SEEDS
                if f"{growth} | {run.name} | {seed}" in found and f"none | the source goes on | {seed}" in found
            ]
            if curves:
                line = [mean(values) for values in zip(*curves, strict=True)]
                axes.plot(smooth(line), linewidth=1.2, label=run.name, linestyle="-" if run.multipliers else "--")
        axes.axhline(0, color="#8fa3b8", linewidth=0.8)
        axes.set_title(growth)
        axes.set_xlabel("steps after the growth")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("loss less the source's, nats per byte")
    figure.savefig(path, format="png")


def smooth(values: list[float], width: int = 5) -> list[float]:
    """Means of some values in a row."""
    return [mean(values[max(0, i - width + 1) : i + 1]) for i in range(len(values))]


def main() -> None:
    """The whole study."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=SETTINGS, default="full")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=UserWarning)
    study = Study(SETTINGS[options.setting], options.device)
    study.carry_out()
    (DOCS / "training-study.md").write_text(table(study.results))
    draw(DOCS / "training-study.png", study.results)


if __name__ == "__main__":
    main()

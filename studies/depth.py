"""What depth operators cost at once and what is left of it after a little training: a small model, 5 layers to 10.

Run `python -m studies.depth FOLDER`: the trained model and the figures stay there. The data are those of the demo.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import transformers

import growkernels
from demo import text, training

STEPS, BATCH, PEAK = 340, 8, 3e-3
#: Training after the growth, of everything or of new layers alone.
MORE_STEPS, MORE_BATCH, MORE_PEAK = 40, 4, 1e-3
WINDOWS = 32

GROWTHS: dict[str, dict[str, Any]] = {
    "gstack": {"depth": 2},
    "interpolate": {"depth": 2, "depth_operator": "interpolate"},
    "gstack, faded": {"depth": 2, "fade": True},
    "interpolate, faded": {"depth": 2, "depth_operator": "interpolate", "fade": True},
    "llama_pro": {"depth": 2, "depth_operator": "llama_pro"},
    "zero": {"depth": 2, "depth_operator": "zero"},
    "solar (8 layers)": {"num_layers": 8, "depth_operator": "solar"},
    "midas (block 1)": {"depth": 2, "depth_operator": "midas", "block": 1},
    "lidas (block 5)": {"depth": 2, "depth_operator": "lidas", "block": 5},
    "random": {"depth": 2, "depth_operator": "random"},
    "average": {"depth": 2, "depth_operator": "average"},
}


def trained(folder: Path, corpus: torch.Tensor) -> Path:
    """The small model, trained unless it is there."""
    small = folder / "small"
    if not small.exists():
        model = training.small_llama()
        data = text.batches(corpus, training.LENGTH, BATCH, seed=0)
        training.train(model, data, STEPS, PEAK, 20, lambda step, loss: None)
        model.save_pretrained(small)
    return small


def loss_of(folder: Path, held_out: torch.Tensor, corpus: torch.Tensor | None = None, new_only: bool = False) -> float:
    """The held-out loss of a checkpoint, after further training if there is a corpus."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if new_only:
        growkernels.freeze_old(model)
    if corpus is not None:
        data = text.batches(corpus, training.LENGTH, MORE_BATCH, seed=1)
        training.train(model, data, MORE_STEPS, MORE_PEAK, 8, lambda step, loss: None)
    return training.held_out_loss(model, held_out)


def main(folder: Path) -> None:
    """Train, grow, train on; figures go to losses.json as they are found: first those at once."""
    transformers.logging.set_verbosity_error()
    training_text, held_text = text.standard_library()
    corpus = text.as_tensor(training_text)
    held_out = text.windows(text.as_tensor(held_text), training.LENGTH, WINDOWS)
    small, record = trained(folder, corpus), folder / "losses.json"
    found: dict[str, list[float]] = json.loads(record.read_text()) if record.exists() else {}
    for trains in (False, True):
        for name in ("source", *GROWTHS, *(["llama_pro, new layers alone"] if trains else [])):
            if len(found.get(name, ())) > trains:
                continue
            target, new_only = small, name.endswith("alone")
            if name != "source":
                target, options = folder / "grown", GROWTHS[name.removesuffix(", new layers alone")]
                growkernels.grow_checkpoint(small, target, overwrite=True, no_verify=True, **options)
            if new_only:
                found[name] = found["llama_pro"][:1]
            value = loss_of(target, held_out, corpus if trains else None, new_only)
            found[name] = [*found.get(name, ()), value]
            record.write_text(json.dumps(found, indent=1) + "\n")
            print(name, *(f"{loss:.4f}" for loss in found[name]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

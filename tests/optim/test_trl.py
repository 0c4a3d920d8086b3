"""Growth inside TRL's trainer for supervised fine-tuning, which takes the callback as the Trainer does."""

from __future__ import annotations

from pathlib import Path

import pytest

import growkernels
from growkernels.optim.schedule import Hop

pytest.importorskip("trl", reason="TRL is not installed")
import pyarrow
from datasets import Dataset
from datasets.table import InMemoryTable
from transformers import GPT2Config, GPT2LMHeadModel
from trl import SFTConfig, SFTTrainer

from demo.text import byte_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_the_trainer_grows_and_goes_on(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, pad_token_id=258)
    model = GPT2LMHeadModel(config)
    rows = pyarrow.table({"input_ids": [list(range(start, start + 24)) for start in range(64)]})
    arguments = SFTConfig(
        str(tmp_path),
        max_steps=6,
        learning_rate=1e-3,
        max_grad_norm=0,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        bf16=False,
        max_length=32,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    hops: list[Hop] = []
    callback = growkernels.GrowthCallback({3: {"width": 2}}, max_grad_norm=1.0, on_hop=hops.append)
    trainer = SFTTrainer(
        model,
        args=arguments,
        train_dataset=Dataset(InMemoryTable(rows), fingerprint="fixed"),  # a hash of it is not needed
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.train()
    [hop] = hops
    assert hop.loss[1] == pytest.approx(hop.loss[0], rel=1e-5)
    assert trainer.model.config.n_embd == 64
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]

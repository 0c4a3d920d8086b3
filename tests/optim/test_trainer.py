"""Growth inside the Trainer of transformers: exact, and the same run when it is resumed before, at and after a growth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import growkernels
from growkernels.errors import GrowthError
from growkernels.optim.schedule import Hop
from tests.families import make_model
from tests.optim.support import batch, gap

pytest.importorskip("accelerate", reason="the Trainer needs accelerate")
from transformers import LlamaForCausalLM, PreTrainedModel, Trainer, TrainingArguments

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
STEPS, AT = 10, 5
DATA = [{"input_ids": row, "labels": row} for step in range(20) for row in batch(step)]


def trainer(folder: Path, hops: Any, model: PreTrainedModel | None = None, **options: Any) -> tuple[Trainer, list[Hop]]:
    found: list[Hop] = []
    arguments = TrainingArguments(
        str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        logging_steps=1,
        save_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **{"max_grad_norm": 0.0, **options},
    )
    callback = growkernels.GrowthCallback(hops, max_grad_norm=0.5, on_hop=found.append)
    model = make_model("llama")[1] if model is None else model
    return Trainer(model, arguments, train_dataset=DATA, callbacks=[callback]), found


def losses(one: Trainer) -> list[float]:
    return [entry["loss"] for entry in one.state.log_history if "loss" in entry]


def test_the_trainer_goes_on_as_with_the_source(tmp_path: Path) -> None:
    source, _ = trainer(tmp_path / "source", {1000: {"width": 2}})
    source.train()
    grown, hops = trainer(tmp_path / "grown", {AT: {"width": 2, "noise_snr_db": None}})
    grown.train()
    # float32, sums in another order over 5 steps: the reference measures 1e-7 per step.
    assert gap(losses(grown), losses(source)) < 1e-5
    assert grown.model.config.hidden_size == 64
    [hop] = hops
    assert hop.step == AT and hop.loss[1] == pytest.approx(hop.loss[0], rel=1e-5)
    [entry] = [entry for entry in grown.state.log_history if "growth_parameters" in entry]
    assert entry["growth_parameters"] == sum(p.numel() for p in grown.model.parameters())
    # The scheduler's lr is what is logged.
    assert [e["learning_rate"] for e in grown.state.log_history if "learning_rate" in e] == [
        e["learning_rate"] for e in source.state.log_history if "learning_rate" in e
    ]


def test_a_run_resumed_before_at_and_after_the_growth_is_the_same(tmp_path: Path) -> None:
    hops = {AT: {"width": 2}, AT + 2: {"width": 2, "depth": 2}}
    whole, _ = trainer(tmp_path, hops)
    whole.train()
    wanted = [p.detach().clone() for p in whole.model.parameters()]
    for step in (AT - 1, AT, AT + 1, AT + 2):
        checkpoint = tmp_path / f"checkpoint-{step}"
        resumed, _ = trainer(tmp_path, hops, LlamaForCausalLM.from_pretrained(checkpoint))
        resumed.train(resume_from_checkpoint=str(checkpoint))
        found = list(resumed.model.parameters())
        assert all(torch.equal(p, q) for p, q in zip(found, wanted, strict=True)), step


def test_resuming_without_the_callback_is_loud(tmp_path: Path) -> None:
    grown, _ = trainer(tmp_path, {AT: {"width": 2}})
    grown.train()
    checkpoint = tmp_path / f"checkpoint-{AT}"
    plain = Trainer(LlamaForCausalLM.from_pretrained(checkpoint), grown.args, train_dataset=DATA)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        plain.train(resume_from_checkpoint=str(checkpoint))


def test_a_callback_that_is_added_later_attaches_on_request(tmp_path: Path) -> None:
    grown, _ = trainer(tmp_path, {AT: {"width": 2}})
    grown.train()
    checkpoint = tmp_path / f"checkpoint-{AT + 1}"
    later = Trainer(LlamaForCausalLM.from_pretrained(checkpoint), grown.args, train_dataset=DATA)
    callback = growkernels.GrowthCallback({AT: {"width": 2}}, max_grad_norm=0.5)
    later.add_callback(callback)
    callback.attach(later)
    later.train(resume_from_checkpoint=str(checkpoint))
    assert all(torch.equal(p, q) for p, q in zip(later.model.parameters(), grown.model.parameters(), strict=True))


def test_two_clippings_are_refused(tmp_path: Path) -> None:
    both, _ = trainer(tmp_path, {AT: {"width": 2}}, max_grad_norm=1.0)
    with pytest.raises(GrowthError, match=r"the Trainer clips at max_grad_norm 1\.0 and the callback at 0\.5"):
        both.train()


def test_wrappers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(GrowthError, match="wraps its model in DistributedDataParallel"):
        trainer(tmp_path, {AT: {"width": 2}})


def test_accelerate_keeps_its_wrappers(tmp_path: Path) -> None:
    from accelerate import Accelerator

    def run(grow_at: int | None) -> list[float]:
        accelerator = Accelerator(cpu=True)
        _, model = make_model("llama")
        plain = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(plain, STEPS)
        model, optimizer, scheduler = accelerator.prepare(model, plain, schedule)
        found = []
        for step in range(STEPS):
            if step == grow_at:
                growkernels.grow_model(accelerator.unwrap_model(model), optimizer, width=2, noise_snr_db=None)
                accelerator.save_state(str(tmp_path / "saved"), safe_serialization=False)
            loss = model(input_ids=batch(step), labels=batch(step)).loss
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            found.append(loss.item())
        return found

    assert gap(run(AT), run(None)) < 1e-5
    assert (tmp_path / "saved" / "optimizer.bin").is_file()

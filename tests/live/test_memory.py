"""What is alive at once while a model grows: both models where they fit, else the grown model and one bucket."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import growkernels
from growkernels import live as live_module
from growkernels.executors import run as run_module
from growkernels.executors.sinks.module import ModuleSink
from tests.families import make_model

#: What plans warn of is tested with the plans.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZES = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 6, "vocab_size": 211, "head_dim": 16}
BUCKET = 100_000


@pytest.fixture(autouse=True)
def from_here() -> Iterator[None]:
    """Objects from before the test are not looked at: there are a million."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def alive() -> int:
    """Bytes of all memory that the tensors made since then hold."""
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    # A gradient may have no object of its own.
    tensors += [tensor.grad for tensor in tensors if tensor.is_leaf and tensor.grad is not None]
    storages = {tensor.untyped_storage() for tensor in tensors if not tensor.is_meta}
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize(
    "options",
    [
        {"width": 2},
        {"depth": 3},
        {"width": 2, "depth": 2, "noise_snr_db": None},
        {"depth": 2, "dtype": "bfloat16"},
        {"layers": "0-5,2-4"},
    ],
    ids=str,
)
def test_the_peak_is_the_grown_model_and_one_bucket(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModuleSink, "bucket", BUCKET)
    _, model = make_model("llama", **SIZES)
    ids = torch.arange(9)[None]
    model(ids, labels=ids).loss.backward()
    small = sum(parameter.nbytes for parameter in model.parameters())
    before = alive()
    assert before >= 2 * small  # parameters and gradients
    optimizer = torch.optim.SGD(model.parameters())  # holds on to the old parameters, as training code does
    tile, live = run_module.ops.tile_rules_, []

    def watched(*arguments: Any) -> None:
        # The peak of every bucket: its targets are there, and its sources are still.
        tile(*arguments)
        live.append(alive() - before)

    asked: list[int] = []
    monkeypatch.setattr(live_module, "check_memory", lambda device, needed: asked.append(needed))
    monkeypatch.setattr(live_module, "free_memory", lambda device: 0)
    monkeypatch.setattr(run_module.ops, "tile_rules_", watched)
    with pytest.warns(UserWarning, match="does not fit into memory beside the old one.*Save the model first"):
        growkernels.grow_model(model, **options)
    grown = sum(parameter.nbytes for parameter in model.parameters())
    bucket = max(BUCKET, *(parameter.nbytes for parameter in model.parameters()))
    assert len(live) > 2
    assert max(live) <= max(0, grown - small) + bucket < grown
    # Gradients go with their parameters, which the estimate does not count on; buffers are not in it.
    assert max(live) - 2000 <= asked[0] <= max(live) + small
    del optimizer
    assert alive() - before <= grown - 2 * small + 2000

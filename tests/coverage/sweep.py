"""Growing every twin in every way and comparing it with its source, as stock code reloads both."""

from __future__ import annotations

import copy
import json
import shutil
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import PreTrainedConfig, PreTrainedModel

import growkernels
from growkernels.errors import GrowthError
from growkernels.executors.sources.checkpoint import open_source
from growkernels.layouts import discover, register_family
from growkernels.layouts.checks import architectures
from growkernels.layouts.discover import find_row
from tests.coverage import twins
from tests.coverage.exact import casts_left_out
from tests.coverage.sizes import COUNTS, LAYERS, SINGLE
from tests.coverage.spoiled import spoiled

#: One step's outcome: `exact` with its error, `differs` with it, `refused` or `failed` with the reason.
Step = dict[str, Any]

#: What is done with every twin.
STEPS = (
    *("width 2", "width 3", "width 2, ffn 3", "noise", "tie"),
    *("stack", "odd list", "identity", "depth and width", "live", "loaded", "other classes", "bad configs"),
)

#: Largest error over the largest output: float64 sums over at most a few hundred terms, 2^-53 each.
BOUND = 1e-11
#: The same for classes that run in float32.
SINGLE_BOUND = 2e-6

#: Orders of layers that are tried until the config can say one.
_ODD = ("0,1,1,2,3,2,3", "0,1,2,3,1,2,3", "0,1,2,2,3", "0,1,0,1,2,3", "0,1,2,2,1,3")
#: What classes set by a layer's place in the config, and not by what it is.
_NUMBERS = ("layer_idx", "layer_id", "layer_number", "kv_shared_layer_index")
_ODD_OTHER = {6: ("0,1,1,2,3,2,3,4,5", "0,1,2,3,2,3,4,5"), 2: ("0,1,1",)}


class Twin:
    """A twin on disk, and what the stock class makes of it."""

    def __init__(self, name: str, folder: Path, architecture: str = "", **changes: Any) -> None:
        self.name, self.folder = name, folder
        self.architecture = architecture or twins.architecture(name)
        self.source = folder / "source"
        config = twins.make_config(name, **changes)
        config.architectures = [self.architecture]
        twins.make_model(name, config).save_pretrained(self.source)
        self.model = self.load(self.source)
        self.inputs = twins.make_inputs(name, self.model.config, self.architecture)
        self.outputs = self.run(self.model)
        self.layers = COUNTS.get(name.partition("@")[0], LAYERS)

    @property
    def bound(self) -> float:
        """The largest error of a growth that keeps the function."""
        return SINGLE_BOUND if self.single else BOUND

    @property
    def single(self) -> bool:
        """Whether its class runs in float32 only."""
        return self.name.partition("@")[0] in SINGLE

    def load(self, folder: Path) -> PreTrainedModel:
        """A checkpoint as stock code reads it. Raises AssertionError for parameters that it lacks or has over."""
        kind = getattr(transformers, self.architecture)
        # Some classes keep single parameters in float32 when they are loaded: these too stay what they are.
        with casts_left_out():
            model, found = kind.from_pretrained(
                folder,
                config=kind.config_class.from_pretrained(folder),
                dtype=torch.float32 if self.single else torch.float64,
                attn_implementation="eager",
                output_loading_info=True,
            )
        strays = [*found["missing_keys"], *found["unexpected_keys"], *map(str, found["mismatched_keys"])]
        assert not strays, f"stock code did not find or did not use {', '.join(sorted(strays)[:3])}"
        twins.run_plainly(model.config)
        return model.eval()

    def run(self, model: PreTrainedModel) -> torch.Tensor:
        """The outputs of a model on the twin's inputs, float64 throughout where its class can."""
        with casts_left_out():
            return twins.run(model, self.inputs)

    def grow(self, name: str, **options: Any) -> PreTrainedModel:
        """Grow the twin's checkpoint into a folder of its own and load it."""
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        growkernels.grow_checkpoint(self.source, target, no_verify=True, **options)
        return self.load(target)

    def error(self, outputs: torch.Tensor, wanted: torch.Tensor) -> float:
        """The largest difference over the largest output; hidden states of a wider model are copies side by side."""
        copies = outputs.unflatten(-1, (-1, wanted.shape[-1]))
        return float((copies - wanted.unsqueeze(-2)).abs().max() / wanted.abs().max())

    def wider(self, name: str, **options: Any) -> float:
        """The error of a growth that keeps the function."""
        return self.error(self.run(self.grow(name, **options)), self.outputs)

    def deeper(self, name: str, orders: Sequence[str]) -> float:
        """The error of a growth in depth against the source with its own layers in that order."""
        for place, order in enumerate(orders):
            try:
                model = self.grow(name, layers=order)
                break
            except GrowthError:
                if place + 1 == len(orders):
                    raise
        layout = discover(*_read(self.source))
        # Before either runs: some classes rescale their weights when they run for the first time.
        wanted = self.rewired(model, layout.stacks, order)
        return self.error(self.run(model), self.run(wanted))

    def rewired(self, target: PreTrainedModel, stacks: Sequence[str], order: str) -> PreTrainedModel:
        """The target with the source's own layers in its places: they keep what they are, but for their number."""
        model, own = copy.deepcopy(target), self.load(self.source)
        for path in stacks:
            places, layers = model.get_submodule(path), own.get_submodule(path)
            for place, source in enumerate(map(int, order.split(","))):
                layer = copy.deepcopy(layers[source])
                for moved, there in zip(layer.modules(), places[place].modules(), strict=True):
                    for key in _NUMBERS:
                        if hasattr(there, key):
                            setattr(moved, key, getattr(there, key))
                    if isinstance(getattr(there, "config", None), PreTrainedConfig):
                        moved.config = there.config
                places[place] = layer
        return model

    def identity(self) -> float:
        """The error of a growth by layers that change nothing, in the first order that the config can say."""
        orders: tuple[dict[str, int], ...] = ({"depth": 2}, {"depth": 2, "block": 2}, {"num_layers": self.layers + 1})
        for place, options in enumerate(orders):
            try:
                return self.wider("identity", depth_operator="llama_pro", **options)
            except GrowthError as refusal:
                if place + 1 == len(orders) or "change nothing" in str(refusal):
                    raise
        raise AssertionError("no order was tried")

    def both(self) -> float:
        """The error of depth and width at once against depth alone."""
        deep = self.run(self.grow("deep", depth=2))
        return self.error(self.run(self.grow("both", depth=2, width=2, noise_snr_db=None)), deep)

    def others(self) -> float:
        """The largest error of width 2 of the other classes that the type can be grown in: of other tasks."""
        family = find_row(_read(self.source)[0])
        worst = 0.0
        for number, kind in enumerate(architectures(family)):
            if kind != self.architecture:
                other = Twin(self.name, self.folder / str(number), kind)
                error = other.wider("width", width=2, noise_snr_db=None)
                assert error <= self.bound, f"{kind}: {error:.0e}"
                worst = max(worst, error)
        return worst

    def misled(self) -> float:
        """The largest error of growths from configs that are not those of the weights: all that are not refused are models.

        Such a config is either meaningless, or one by which stock code runs the weights, and the growth keeps what they do.
        """
        path, worst = self.source / "config.json", 0.0
        text = path.read_text()
        try:
            for what, config in spoiled(json.loads(text)):
                path.write_text(json.dumps(config))
                try:
                    worst = max(worst, self._taken_at_its_word())
                except GrowthError:
                    continue
                except Exception as error:
                    raise AssertionError(f"{what}: {error}") from error
        finally:
            path.write_text(text)
        return worst

    def _taken_at_its_word(self) -> float:
        """The error of a growth of the checkpoint as its config describes it now."""
        options: dict[str, Any] = {"width": 2, "noise_snr_db": None}
        layout = discover(*_read(self.source))
        if layout.width_refusal:
            options = {"layers": ",".join(map(str, range(layout.num_layers - 1)))}
        growkernels.plan(self.source, **options)
        outputs = self.run(self.load(self.source))
        if layout.width_refusal or torch.equal(outputs, self.outputs):
            return 0.0
        return self.error(self.run(self.grow("misled", **options)), outputs)

    def live(self) -> float:
        """0.0 where the live model grows into the bits of its checkpoint's growth; else the largest difference.

        Without noise: a stack of experts in memory takes noise of its own, not that of the tensors that a file has of it.
        """
        self.grow("file", width=2, noise_snr_db=None)
        model = growkernels.grow_model(self.load(self.source), width=2, noise_snr_db=None)
        shutil.rmtree(self.folder / "live", ignore_errors=True)
        model.save_pretrained(self.folder / "live")
        first, second = (load_file(self.folder / name / "model.safetensors") for name in ("file", "live"))
        return _largest_gap(first, second)

    def loaded(self) -> float:
        """0.0 where `load_grown` gives the bits that stock code reads from the grown checkpoint, noise and all."""
        self.grow("file", width=2)
        # Casts as they are: some classes keep single parameters in float32.
        kind = getattr(transformers, self.architecture)
        wanted = kind.from_pretrained(self.folder / "file", dtype="auto").state_dict()
        return _largest_gap(wanted, growkernels.load_grown(self.source, width=2).state_dict())


def _largest_gap(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    assert first.keys() == second.keys(), f"other tensors: {sorted(first.keys() ^ second.keys())[:3]}"
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def _steps(twin: Twin) -> dict[str, Callable[[], float]]:
    """The steps of a twin but for that which needs another one."""
    odd = _ODD if twin.layers == LAYERS else _ODD_OTHER[twin.layers]
    stack = ",".join(map(str, list(range(twin.layers)) * 2))
    return {
        "width 2": partial(twin.wider, "width", width=2, noise_snr_db=None),
        "width 3": partial(twin.wider, "width", width=3, noise_snr_db=None),
        "width 2, ffn 3": partial(twin.wider, "width", width=2, ffn=3, noise_snr_db=None),
        "noise": partial(twin.wider, "width", width=2),
        "stack": partial(twin.deeper, "depth", [stack]),
        "odd list": partial(twin.deeper, "depth", odd),
        "identity": twin.identity,
        "depth and width": twin.both,
        "live": twin.live,
        "loaded": twin.loaded,
        "other classes": twin.others,
        "bad configs": twin.misled,
    }


def sweep(name: str, steps: Sequence[str] = STEPS) -> dict[str, Step]:
    """Steps of a twin, each with its outcome."""
    # Some classes compile functions when they are imported: before any cast is left out.
    getattr(transformers, twins.architecture(name))
    with TemporaryDirectory() as folder:
        try:
            twin = Twin(name, Path(folder))
        except Exception as error:
            return {"build": _failed(error)}
        # As a user does who has compared a checkpoint of a type that the table does not know. Each step says what is refused.
        with suppress(GrowthError):
            register_family(replace(find_row(_read(twin.source)[0]), derived_row=False))
        bound = twin.bound
        works = _steps(twin)
        return {step: _flipped(twin, bound) if step == "tie" else _outcome(works[step], bound) for step in steps}


def _flipped(twin: Twin, bound: float) -> Step:
    """Width 2 of the twin whose head is tied if it was not, and the other way round."""
    tied = getattr(twin.model.config, "tie_word_embeddings", None)
    if tied is None:
        return {"outcome": "not run", "reason": "its config has no tie_word_embeddings"}
    try:
        other = Twin(twin.name, twin.folder / "flipped", tie_word_embeddings=not tied)
    except Exception as error:
        return {"outcome": "not run", "reason": f"the class refuses it: {_first_line(error)}"}
    return _outcome(partial(other.wider, "width", width=2, noise_snr_db=None), bound)


def _outcome(work: Callable[[], float], bound: float) -> Step:
    try:
        error = work()
    except GrowthError as refusal:
        return {"outcome": "refused", "reason": str(refusal)}
    except Exception as error:
        return _failed(error)
    return {"outcome": "exact" if error <= bound else "differs", "error": error}


def _failed(error: Exception) -> Step:
    places = [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:]]
    return {"outcome": "failed", "reason": f"{type(error).__name__}: {_first_line(error)}", "at": " ".join(places)}


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")[:300]


def _read(folder: Path) -> tuple[dict[str, Any], Any]:
    source = open_source(folder)
    return source.config, source.tensors


def write(path: Path, results: dict[str, Any]) -> None:
    """Results as JSON, sorted so that a diff shows what changed."""
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")

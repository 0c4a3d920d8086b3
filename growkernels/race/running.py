"""The race: every candidate grown and trained alike, with several seeds, resumable."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import xxhash

import growkernels
from growkernels.advise.counts import parse_count
from growkernels.advise.shapes import target_of_config
from growkernels.analyze.stream import quiet
from growkernels.errors import GrowthError
from growkernels.executors import check_destination, open_source
from growkernels.executors.memory import free_memory
from growkernels.learning import Fit, TextBatches
from growkernels.race.candidates import Candidate, read_candidates
from growkernels.race.picture import draw_race
from growkernels.race.ranking import Curve, Ranking, rank_at_flops, rank_at_steps, warnings_of
from growkernels.race.training import Schedule, train, write_json

#: Share of the text that nothing is trained on.
_HELD_OUT = 0.1
#: Tokens of a text of which a tenth is still enough to take a loss on.
_FEWEST_TOKENS = 100
#: Weights, gradients and two moments in float32.
_BYTES = 16
_REQUEST, _PICTURE, _RESULT = "request.json", "race.png", "race.json"

#: Called with candidate, seed, and the steps so far.
OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class RaceResult:
    """A race that was run.

    Attributes:
        source: The checkpoint that was grown.
        folder: Where its curves and picture are.
        schedule: How every candidate was trained.
        seeds: Of noise, batches and dropout.
        source_flops: Spent on the source; 0 if unknown.
        curves: Runs of each candidate, one for each seed.
        at_flops: The ranking at equal FLOPs; None if there is no common range.
        at_steps: The ranking after the last step.
        warnings: What makes it misleading.
    """

    source: str
    folder: Path
    schedule: Schedule
    seeds: tuple[int, ...]
    source_flops: float
    curves: Mapping[str, tuple[Curve, ...]]
    at_flops: Ranking | None
    at_steps: Ranking
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; the same for the same request on the same machine."""
        data = {name: getattr(self, name) for name in ("source", "seeds", "source_flops", "warnings")}
        return {
            **data,
            "schedule": asdict(self.schedule),
            "curves": {name: [asdict(run) for run in runs] for name, runs in self.curves.items()},
            "at_flops": None if self.at_flops is None else asdict(self.at_flops),
            "at_steps": asdict(self.at_steps),
        }


def race(
    src: str | Path,
    candidates: str | Path,
    text: str | Path,
    folder: str | Path,
    *,
    steps: int,
    seeds: int = 2,
    seed: int = 0,
    warmup: int | None = None,
    lr: float = 1e-3,
    batch: int = 8,
    length: int = 256,
    source_tokens: str | float | None = None,
    on_step: OnStep | None = None,
) -> RaceResult:
    """Grow a checkpoint by several operators, train each result alike, and compare held-out losses.

    Args:
        src: The checkpoint, a folder or a hub id, with its tokenizer.
        candidates: YAML file, see `read_candidates`.
        text: Plain text, UTF-8; its last tenth is held out.
        folder: Where the race is kept. A race that was interrupted goes on from there, to the bits of one without a pause on
            the same machine with as many threads.
        steps: Training steps of each run.
        seeds: Runs of each candidate.
        seed: The first seed.
        warmup: Steps of linear warm-up; a tenth of the steps if None. After them the learning rate stays.
        lr: Peak learning rate.
        batch: Windows of a step.
        length: Tokens of a window.
        source_tokens: Tokens that the source was trained on, for its FLOPs.
        on_step: Called with candidate, seed and steps taken.

    Returns:
        The curves, the rankings and what to mind.

    Raises:
        GrowthError: The request means nothing, or the folder holds another race.
    """
    schedule = _schedule(steps, warmup, lr, batch, length)
    numbers = tuple(range(_whole(seed, "seed", 0), seed + _whole(seeds, "seeds", 1)))
    seen = None if source_tokens is None else parse_count(source_tokens, "source tokens")
    chosen = read_candidates(candidates)
    source = open_source(src)
    configs = _configs(src, chosen)
    costs = {name: _per_token(config) for name, config in configs.items()}
    _check_memory(costs)
    tokens = TextBatches(text, source.path, source.config, schedule.batch, schedule.length).tokens
    if tokens < _FEWEST_TOKENS:
        raise GrowthError(f"{text} holds {tokens} tokens; a race needs {_FEWEST_TOKENS}, and better a million.")
    request = {
        "source": source.digest(),
        "candidates": {candidate.name: candidate.to_json() for candidate in chosen},
        "text": xxhash.xxh3_128_hexdigest(Path(text).read_bytes()),
        **asdict(schedule),
        "seeds": list(numbers),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    root = _open_folder(Path(folder), source.path, request)
    parts = _split(Path(text), root)
    source_flops = 0.0 if seen is None else _per_token(source.config)[0] * seen
    curves: dict[str, tuple[Curve, ...]] = {}
    advance = on_step or (lambda name, number, step: None)
    with torch.random.fork_rng(devices=[]):
        for candidate in chosen:
            runs = []
            for number in numbers:
                run = _Run(src, source, candidate, configs[candidate.name], number, schedule, root, parts)
                points = run.points(partial(advance, candidate.name, number))
                runs.append(_curve(points, run, costs[candidate.name][0], source_flops))
            curves[candidate.name] = tuple(runs)
    result = RaceResult(
        source.name,
        root,
        schedule,
        numbers,
        source_flops,
        curves,
        rank_at_flops(curves),
        rank_at_steps(curves),
        tuple(warnings_of(curves, schedule.warmup, seen is not None)),
    )
    if find_spec("matplotlib") is None:
        warnings.warn("no picture of the race: it needs matplotlib (`pip install matplotlib`).", stacklevel=2)
    else:
        draw_race(result.curves, result.at_flops or result.at_steps, source_flops, root / _PICTURE)
    write_json(root / _RESULT, result.to_json())
    return result


def _whole(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**31:
        raise GrowthError(f"{name} is {value!r}; expected a whole number from {least} to {2**31 - 1}.")
    return value


def _schedule(steps: Any, warmup: Any, lr: Any, batch: Any, length: Any) -> Schedule:
    steps = _whole(steps, "steps", 1)
    warmup = max(1, steps // 10) if warmup is None else _whole(warmup, "warmup", 0)
    if isinstance(lr, bool) or not isinstance(lr, int | float) or not 0 < lr < float("inf"):
        raise GrowthError(f"lr is {lr!r}; expected a positive number, such as 0.001.")
    return Schedule(steps, warmup, float(lr), _whole(batch, "batch", 1), _whole(length, "length", 2))


def _configs(src: str | Path, candidates: tuple[Candidate, ...]) -> dict[str, dict[str, Any]]:
    """The config of each candidate, by its plan, which names what cannot be grown."""
    configs = {}
    for candidate in candidates:
        if candidate.scratch is None:
            try:
                configs[candidate.name] = growkernels.plan(src, **candidate.options).config
            except GrowthError as error:
                raise GrowthError(f"candidate {candidate.name}: {error}") from error
    return configs | {c.name: configs[c.scratch] for c in candidates if c.scratch is not None}


def _per_token(config: Mapping[str, Any]) -> tuple[float, float]:
    """Training FLOPs per token, and all parameters."""
    target = target_of_config(config)
    return 6 * (target.active + target.head), target.stored


def _check_memory(costs: Mapping[str, tuple[float, float]]) -> None:
    name = max(costs, key=lambda candidate: costs[candidate][1])
    needed, free = _BYTES * costs[name][1], free_memory()
    if needed > free:
        raise GrowthError(
            f"candidate {name} takes {needed / 1e9:.1f} GB to train, {free / 1e9:.1f} GB can be had; race a smaller model."
        )


def _open_folder(folder: Path, source: Path, request: dict[str, Any]) -> Path:
    kept = folder / _REQUEST
    if kept.is_file():
        try:
            before = json.loads(kept.read_text())
        except ValueError:
            before = {}
        different = [key for key in request if not isinstance(before, dict) or before.get(key) != request[key]]
        if different:
            raise GrowthError(
                f"{folder} holds a race with another {', '.join(different)}; name another folder, or ask for the same race to "
                f"go on with it."
            )
        return folder
    if not (folder.is_dir() and not any(folder.iterdir())):
        check_destination(folder, source)
    folder.mkdir(exist_ok=True)
    write_json(kept, request)
    return folder


def _split(text: Path, folder: Path) -> tuple[Path, Path]:
    """The text in two files: what is trained on, and its last tenth."""
    train_file, held_out = folder / "train.txt", folder / "held-out.txt"
    whole = text.read_text(encoding="utf-8")
    cut = round(len(whole) * (1 - _HELD_OUT))
    train_file.write_text(whole[:cut], encoding="utf-8")
    held_out.write_text(whole[cut:], encoding="utf-8")
    return train_file, held_out


@dataclass(frozen=True)
class _Run:
    """One candidate with one seed."""

    src: str | Path
    source: Any
    candidate: Candidate
    config: dict[str, Any]
    seed: int
    schedule: Schedule
    folder: Path
    texts: tuple[Path, Path]

    def points(self, on_step: Callable[[int], None]) -> list[tuple[int, float]]:
        """Steps and losses, from the file of a finished run or by running it."""
        done = self.folder / f"{self._name}.json"
        if done.is_file():
            return [(step, loss) for step, loss in json.loads(done.read_text())["points"]]
        # The loss is taken on the same windows for every seed: the spread is that of the training alone.
        batches, held_out = self._batches(self.texts[0], self.seed), self._batches(self.texts[1], 0)
        state = self.folder / f"{self._name}.state"
        points = train(self._build, batches, held_out, self.schedule, self.seed, state, on_step)
        write_json(done, {"points": points})
        state.unlink(missing_ok=True)
        shutil.rmtree(self._grown, ignore_errors=True)
        return points

    @property
    def _name(self) -> str:
        return f"{self.candidate.name}-seed{self.seed}"

    @property
    def _grown(self) -> Path:
        return self.folder / f"{self._name}.grown"

    @property
    def window_tokens(self) -> int:
        """Tokens of a window of the text that is trained on."""
        return self._batches(self.texts[0], self.seed).length

    def _batches(self, file: Path, seed: int) -> TextBatches:
        schedule = self.schedule
        return TextBatches(file, self.source.path, self.config, schedule.batch, schedule.length, seed)

    def _build(self) -> torch.nn.Module:
        import transformers

        architecture = getattr(transformers, (self.config.get("architectures") or ["AutoModelForCausalLM"])[0])
        with quiet():
            return self._model(architecture)

    def _model(self, architecture: Any) -> torch.nn.Module:
        import transformers

        torch.manual_seed(self.seed)
        if self.candidate.scratch is not None:
            config = transformers.AutoConfig.for_model(**self.config)
            return architecture._from_config(config, dtype=torch.float32)
        if not self._grown.is_dir():
            steps, schedule = self.candidate.fit_steps, self.schedule
            fit = Fit(self.texts[0], steps=steps, batch=schedule.batch, length=schedule.length) if steps else None
            with warnings.catch_warnings():
                # The plan has told of them.
                warnings.simplefilter("ignore")
                growkernels.grow_checkpoint(
                    self.src, self._grown, no_verify=True, fit=fit, seed=self.seed, **self.candidate.options
                )
        return architecture.from_pretrained(self._grown, dtype=torch.float32, local_files_only=True)


def _curve(points: list[tuple[int, float]], run: _Run, per_token: float, source_flops: float) -> Curve:
    schedule = run.schedule
    tokens = schedule.batch * run.window_tokens
    start = 0.0 if run.candidate.scratch is not None else source_flops
    # A step of a fit runs the grown model forwards and backwards, on windows like those of the training.
    start += run.candidate.fit_steps * tokens * per_token
    steps, losses = zip(*points, strict=True)
    return Curve(tuple(steps), tuple(start + step * tokens * per_token for step in steps), tuple(losses))

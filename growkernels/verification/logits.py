"""The two models side by side: the same tokens, stock transformers code, outputs compared."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from growkernels.errors import GrowthError, shorten
from growkernels.executors.sources.wrappers import pattern
from growkernels.layouts.knobs import RUNTIME_KEYS
from growkernels.plans import Plan, Tile
from growkernels.verification.rounding import Outputs, Spread, spreads, tail, unit_roundoff

#: Largest error of float32 arithmetic, as a fraction of the largest output: over a thousand roundings of 2^-24 in a row.
FLOAT32_BOUND = 1e-4
_LENGTH, _SEQUENCES, _MOST_OUTPUTS = 64, 4, 1 << 24


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output of both models: the largest difference over the largest value of the source, and what it may be."""

    output: str
    dtype: str
    error: float
    bound: float | None
    #: Why there is no bound.
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is inside the bound; true where there is none. NaN is not inside."""
        return self.bound is None or self.error <= self.bound


@dataclass(frozen=True, slots=True)
class LogitsCheck:
    """Outputs of source and target on the same tokens; bounds are missing where the growth changes the function."""

    comparisons: tuple[Comparison, ...]
    sequences: int
    length: int
    #: Parameters that only one of the two models found in its files.
    unmatched: tuple[str, ...] = ()
    #: Why the target did not run, where the source did.
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether every comparison holds, and stock transformers ran the target and found every parameter."""
        return self.problem is None and not self.unmatched and all(comparison.passed for comparison in self.comparisons)

    def lines(self) -> list[str]:
        """The findings in plain language."""
        lines = [self.problem] if self.problem else []
        for c in self.comparisons:
            verdict = f"reported, not judged: {c.reason}"
            if c.bound is not None:
                verdict = f"{'within' if c.passed else 'OUTSIDE'} the bound {c.bound:.1e}"
            name = c.output.replace("_", " ")
            lines.append(f"{name} in {c.dtype}: largest difference {c.error:.1e} of the largest value, {verdict}")
        if self.unmatched:
            lines.append(f"stock transformers did not find or did not use: {', '.join(self.unmatched[:5])}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the manifest."""
        comparisons = [{**asdict(c), "passed": c.passed} for c in self.comparisons]
        return {"passed": self.passed, **asdict(self), "comparisons": comparisons}


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no notices of transformers inside; as before afterwards."""
    level, bars = (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


class NotCompared(Exception):
    """Outputs could not be compared; the message says why."""


def load_model(folder: Path, dtype: torch.dtype, strip_prefix: str = "") -> tuple[PreTrainedModel, set[str]]:
    """The model of a checkpoint folder by its own architecture, and the parameters (numbers as `{}`) it lacks or has over.

    strip_prefix: what is left out of the stored names. Raises GrowthError for an unknown architecture, and whatever
    transformers does for what it cannot load.
    """
    stored = json.loads((folder / "config.json").read_bytes())
    architecture = (stored.get("architectures") or [""])[0]
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise GrowthError(f"{folder}: architecture {architecture!r} is not in transformers {transformers.__version__}")
    with _quiet():
        # How attention is computed asks for packages that need not be here.
        config = kind.config_class.from_dict({key: value for key, value in stored.items() if key not in RUNTIME_KEYS})
        model, info = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            key_mapping={pattern(strip_prefix): r"\1"} if strip_prefix else None,
        )
    keys = [*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])]
    return model.eval(), {re.sub(r"\d+", "{}", key) for key in keys}


def make_tokens(config: PreTrainedConfig, seed: int) -> torch.Tensor:
    """Random token ids, int64 [sequences, length]; fewer sequences where the vocabulary is large."""
    text = config.get_text_config()
    length = min(_LENGTH, getattr(text, "max_position_embeddings", None) or _LENGTH)
    count = max(1, min(_SEQUENCES, _MOST_OUTPUTS // (length * text.vocab_size)))
    return torch.randint(text.vocab_size, (count, length), generator=torch.Generator().manual_seed(seed))


def outputs(model: nn.Module, tokens: torch.Tensor) -> Outputs:
    """Every float tensor that the model returns, by name: logits, or hidden states of models without a head."""
    with torch.inference_mode():
        result = model(input_ids=tokens)
    return {k: v for k, v in result.items() if isinstance(v, torch.Tensor) and v.is_floating_point()}


def gaps(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Largest |target - source| of each token, float64; a target n times as wide is n copies of the source.

    Where the source itself is not finite there is nothing to compare.
    """
    copies, wanted = target.unflatten(-1, (-1, source.shape[-1])).double(), source.double().unsqueeze(-2)
    return torch.where(wanted.isfinite(), (copies - wanted).abs(), 0.0).amax((-1, -2))


def _old_features(
    plan: Plan, name: str, source: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The entries of an output that draw on the source's, and those of the source that each draws on.

    Where each comes from is what the plan says of the tensor that puts them out; whole copies need no telling.
    """
    sizes = source.shape[-1], target.shape[-1]
    copied = plan.options.get("width_operator", "hypercloning") in ("hypercloning", "ligo")
    if sizes[1] == sizes[0] or (copied and plan.options.get("vocab_size") is None):
        return source, target
    ends = [rule for rule in plan.rules if isinstance(rule.how, Tile) and rule.layer is None]
    ends.sort(key=lambda rule: (rule.kind == "norm") == (name == "logits"))
    for axis in (axis for rule in ends if isinstance(rule.how, Tile) for axis in rule.how.axes):
        index = torch.from_numpy(axis.indices()) if axis.size == sizes[1] else torch.empty(0, dtype=torch.int64)
        drawn = index >= 0
        if len(index) and len(index[drawn].unique()) == sizes[0]:
            return source[..., index[drawn]], target[..., drawn]
    return source, target[..., : sizes[0]]


def compare(
    name: str,
    dtype: torch.dtype,
    source: torch.Tensor,
    target: torch.Tensor,
    limit: torch.Tensor | float | None,
    reason: str = "",
) -> Comparison:
    """One output against its limit (in its units, for each token or for all), at the token that comes nearest to it."""
    finite = source[source.isfinite()].double().abs()
    if finite.numel() < source.numel():
        limit, reason = None, "the source's own outputs are not all finite"
    gap, largest = gaps(source, target), finite.max() if finite.numel() else torch.tensor(torch.nan)
    if limit is None:
        return Comparison(name, _name(dtype), float(gap.max() / largest), None, reason)
    limits = torch.as_tensor(limit, dtype=torch.float64).expand(gap.shape)
    # NaN compares as larger than anything in argmax: a broken model is found here too.
    worst = (gap / limits).argmax()
    return Comparison(
        name, _name(dtype), float(gap.flatten()[worst] / largest), float(limits.flatten()[worst] / largest)
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _storage(plan: Plan) -> torch.dtype:
    """The dtype that most of the target's elements are stored in."""
    sizes = Counter[str]()
    for rule in plan.rules:
        sizes[rule.spec.dtype] += rule.spec.numel
    return getattr(torch, sizes.most_common(1)[0][0])


def _is_memory(error: Exception) -> bool:
    # The CPU's allocator has no exception of its own.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


def verify_logits(src: Path, dst: Path, plan: Plan, *, seed: int = 0, strip_prefix: str = "") -> LogitsCheck:
    """Run both checkpoints with stock transformers on the same random tokens, in float32 and in the stored dtype.

    strip_prefix: what is left out of the names of the source's tensors.

    Growths that claim to preserve the function are held to `FLOAT32_BOUND` (stored in float32 or wider) or to the
    rounding bound of `verification.rounding`; others are reported. Holds one model at a time. A target that fails where
    the source does not has failed the check. Raises NotCompared where the source fails, or memory runs out.
    """
    storage = _storage(plan)
    half = storage in (torch.bfloat16, torch.float16)
    judged = plan.preserves_function
    parts = [claim.part for claim in plan.claims if claim.holds == "no"]
    changed = "" if judged else f"{' and '.join(parts)} {'changes' if len(parts) == 1 else 'change'} the function"
    results: list[dict[torch.dtype, Outputs]] = []
    spread: list[dict[str, Spread]] = []
    unmatched: list[set[str]] = []
    tokens: torch.Tensor | None = None
    model: PreTrainedModel | None = None
    for folder, what in ((src, "source"), (dst, "grown model")):
        results.append({})
        try:
            for dtype in dict.fromkeys((storage, torch.float32)):
                model = None  # the last one is freed before the next one is loaded
                model, keys = load_model(folder, dtype, strip_prefix if folder == src else "")
                tokens = make_tokens(model.config, seed) if tokens is None else tokens
                results[-1][dtype] = outputs(model, tokens)
            assert model is not None and tokens is not None
            if half and judged:
                # The float32 model is the last one loaded, and not needed any more.
                spread.append(spreads(model, partial(outputs, tokens=tokens), unit_roundoff(storage)))
        except Exception as error:  # transformers and model classes raise many kinds
            text = (
                f"stock transformers cannot load or run the {what}: {type(error).__name__}: {shorten(str(error), 500)}"
            )
            if folder == src or _is_memory(error):
                raise NotCompared(text) from error
            return LogitsCheck((), 0, 0, problem=text)
        unmatched.append(keys)
    assert tokens is not None
    source, target = results
    comparisons = []
    for dtype, values in source.items():
        for name, value in values.items():
            limit: torch.Tensor | float | None = None
            if judged:
                limit = FLOAT32_BOUND * float(value.double().abs().max())
            if half and judged:
                first, second = (part[name] for part in spread)
                variance = first.weights + second.weights
                if dtype == storage:
                    variance = variance + first.weights + 2 * first.activations + second.activations
                limit = tail(value.numel()) * variance.sqrt() + (limit or 0.0)
            wanted, grown = _old_features(plan, name, value, target[dtype][name])
            comparisons.append(compare(name, dtype, wanted, grown, limit, changed))
    sequences, length = tokens.shape
    return LogitsCheck(tuple(comparisons), sequences, length, tuple(sorted(unmatched[1] - unmatched[0])))

"""The advice: when to grow, from which small model, what it costs, what it may save, and on which evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from growkernels.advise.continuation import CONDITION, Multipliers, continuation
from growkernels.advise.costs import Flops, GrowthCost, cost_of_growth, flops_of_road
from growkernels.advise.counts import count_text, parse_count
from growkernels.advise.evidence import RECORD, Evidence, Saving, depth_saving
from growkernels.advise.law import FITTED_FLOPS, FITTED_PARAMETERS, LARGEST_SHARE, Timing, growth_timing
from growkernels.advise.shapes import Target, nearest_models, read_config, target_of_config, target_of_size
from growkernels.advise.situations import Situation, situations
from growkernels.errors import GrowthError

#: The factor that the Gstack paper recommends, and the range in which its optimum was found.
FACTOR, FACTOR_RANGE = 4, (2, 4)
_GROWN_WIDTH = 2
#: How far a ratio of hidden size to layers may lie from those of known models (2510.06548 keeps to it).
_ASPECT_REACH = 2**0.5


@dataclass(frozen=True, slots=True)
class Small:
    """The small model: the target's width with fewer layers.

    Attributes:
        layers: Number of layers.
        hidden: Width of the residual stream, that of the target.
        factor: Target layers / layers.
        parameters: Without embeddings.
        active: As `parameters`, of experts only those that answer a token.
        stored: All parameters.
        config: What changes in the target's config.
    """

    layers: int
    hidden: int
    factor: float
    parameters: float
    active: float
    stored: float
    config: dict[str, int]


@dataclass(frozen=True, slots=True)
class Advice:
    """Everything that is advised for one target.

    Attributes:
        target: The large model.
        tokens: That it would be trained on from scratch.
        source_tokens: That an existing source has seen; None if there is none yet.
        timing: When to grow.
        small: From what.
        flops: What both roads cost.
        saving: What may be saved, by the evidence.
        growth: What the growth itself takes.
        disk_rate: Bytes per second that its time is computed with.
        situations: Which operator when.
        known_models: Name, layers, hidden size of released models of about that size.
        multipliers: For a training that goes on exactly after doubling the width.
        evidence: What is known, and how well.
        warnings: What to mind.
    """

    target: Target
    tokens: float
    source_tokens: float | None
    timing: Timing
    small: Small
    flops: Flops
    saving: Saving
    growth: GrowthCost
    disk_rate: float
    situations: tuple[Situation, ...]
    known_models: tuple[tuple[str, int, int], ...]
    multipliers: tuple[Multipliers, ...]
    evidence: tuple[Evidence, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `growth_tokens` is the advised number of tokens of the small model."""
        data = asdict(self)
        data["target"].pop("in_layers")
        return {
            "growth_tokens": self.timing.tokens,
            "factor": FACTOR,
            "factor_range": list(FACTOR_RANGE),
            "fitted_range": {"parameters": list(FITTED_PARAMETERS), "flops": list(FITTED_FLOPS)},
            "largest_share": LARGEST_SHARE,
            **data,
            "continuation_condition": CONDITION,
        }


def advise(
    target_params: str | float | None = None,
    tokens: str | float | None = None,
    *,
    config: str | Path | None = None,
    source_tokens: str | float | None = None,
    disk_rate: str | float = 1e9,
) -> Advice:
    """Advise on growing into a target, from its size or its config alone: no weights are read, nothing is downloaded.

    Args:
        target_params: Parameters of the target without embeddings, such as `8e9` or `"8B"`. With `config` it may be left out;
            given too, it is the N of the timing law.
        tokens: Tokens that the target would be trained on from scratch, such as `"15T"`.
        config: The target's `config.json`, or its folder.
        source_tokens: Tokens that an existing small model has seen.
        disk_rate: Bytes per second of the disk, for the time of the growth.

    Returns:
        The advice.

    Raises:
        GrowthError: A number or the config cannot be understood.

    Example:
        >>> round(advise("8B", "15T").timing.tokens / 1e9, 2)
        6.58
    """
    if tokens is None:
        raise GrowthError("the tokens of the target are not given; name them, such as 15T.")
    budget = parse_count(tokens, "tokens")
    if config is None and target_params is None:
        raise GrowthError("no target is given: give its parameters without embeddings, such as 8B, or its config.")
    wanted = None if target_params is None else parse_count(target_params, "target parameters")
    target = target_of_size(wanted or 1) if config is None else target_of_config(read_config(config))
    seen = None if source_tokens is None else parse_count(source_tokens, "source tokens")
    rate = parse_count(disk_rate, "disk rate")
    timing = growth_timing(wanted or target.parameters, budget)
    spent = timing.tokens if seen is None else seen
    small = _small(target)
    saving = depth_saving(target.parameters, budget)
    if spent > budget:
        raise GrowthError(
            f"the source has seen {count_text(spent)} tokens, more than the {count_text(budget)} of the whole training."
        )
    return Advice(
        target=target,
        tokens=budget,
        source_tokens=seen,
        timing=timing,
        small=small,
        flops=flops_of_road(target, small.active, budget, spent, saving),
        saving=saving,
        growth=cost_of_growth(target, small.stored, rate),
        disk_rate=rate,
        situations=situations(small.parameters, seen),
        known_models=tuple(nearest_models(target.layers, target.hidden)),
        multipliers=continuation(_GROWN_WIDTH),
        evidence=RECORD,
        warnings=tuple(_warnings(target, small, budget, wanted, timing, saving, seen)),
    )


def _small(target: Target) -> Small:
    """The first layers of the target: stacked, each layer i of the target comes from layer i mod l."""
    factors = [f for f in (4, 3, 2) if target.layers % f == 0]
    layers = target.layers // factors[0] if factors else max(1, round(target.layers / FACTOR))
    removed = sum(target.in_layers[layers:])
    share = target.active / target.parameters
    return Small(
        layers=layers,
        hidden=target.hidden,
        factor=target.layers / layers,
        parameters=target.parameters - removed,
        active=(target.parameters - removed) * share,
        stored=target.stored - removed,
        config={target.layers_key: layers},
    )


def _warnings(
    target: Target,
    small: Small,
    tokens: float,
    wanted: float | None,
    timing: Timing,
    saving: Saving,
    source_tokens: float | None,
) -> list[str]:
    found = []
    if timing.extrapolated:
        found.append(f"the timing law is extrapolated: {'; '.join(timing.extrapolated)}.")
    if timing.capped:
        found.append(
            f"the timing law gives {count_text(timing.law_tokens)} tokens for the small model, which makes no sense beside "
            f"{count_text(tokens)} in all; it is capped at {LARGEST_SHARE:.0%} of them."
        )
    if wanted is not None and not 0.8 <= wanted / target.parameters <= 1.25:
        found.append(
            f"the config has {count_text(target.parameters)} parameters without embeddings, not {count_text(wanted)}: the "
            f"timing follows the given number, costs follow the config."
        )
    if saving.basis == "extrapolated":
        found.append(f"no run near this one has been measured ({saving.reason}): the saving may be nothing.")
    if tokens > 20 * target.parameters:
        found.append(
            f"{tokens / target.parameters:.0f} tokens a parameter: 2605.13405 finds most of the gain below 20; Gstack still "
            f"found its gain at 43."
        )
    if target.active < target.parameters:
        found.append(
            "the target is a mixture of experts: the timing law and the savings were measured on dense models."
        )
    if small.factor not in (2, 3, 4):
        found.append(
            f"{target.layers} layers divide by none of 2, 3 and 4: {small.layers} layers do not stack evenly; choose another "
            f"number of layers, or name them with --layers."
        )
    if target.embeddings > small.parameters:
        found.append("the embeddings are larger than the rest of the small model: they eat much of what growth saves.")
    if target.guessed:
        found.append(
            "the shape is guessed from the size and embeddings are not counted; give --config for the real ones."
        )
    if source_tokens is not None and source_tokens > 3 * timing.tokens:
        found.append(
            "the source has seen more tokens than advised: that cost is spent, but each further token gains less (2510.06548)."
        )
    found += _shape_warnings(target)
    return found


def _shape_warnings(target: Target) -> list[str]:
    aspects = [hidden / layers for _, layers, hidden in nearest_models(target.layers, target.hidden)]
    aspect = target.hidden / target.layers
    if aspect * _ASPECT_REACH >= min(aspects) and aspect <= max(aspects) * _ASPECT_REACH:
        return []
    return [
        f"hidden size / layers is {aspect:.0f}, known models of that size have {min(aspects):.0f} to {max(aspects):.0f}: too "
        f"{'deep' if aspect < min(aspects) else 'wide'} a model loses what growth gains (2601.20994)."
    ]

"""The optimizers that can be grown: how each entry of their state scales, and which options keep their steps exact.

With gradients `s` times and weights `c` times the source's, an optimizer continues exactly if its update is `c` times the
source's: every row below says what that asks of its options. An optimizer that is not listed is refused: what its state means
is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, Literal

from torch.optim import Optimizer

from growkernels.errors import GrowthError
from growkernels.optim.scales import Scales

#: By what an option is multiplied; of an option that is a pair, by two numbers.
Factor = float | tuple[float, float]
Group = Mapping[str, Any]
Shape = tuple[int, ...]
#: Options of one tensor, from its scales, its group, and its shapes before and after.
Factors = Callable[[Scales, Group, Shape, Shape], dict[str, Factor]]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the state of one parameter: proportional to the gradient to the power of `power`.

    `form`: that of the parameter; the means along its last axis (row) or the one before (column), which stay as axes of
    size 1; a single number; or a second set of weights.
    """

    power: int = 0
    form: Literal["full", "row", "column", "number", "weight"] = "full"


@dataclass(frozen=True, slots=True)
class Kind:
    """An optimizer: its state, its options, and what keeps it from being exact (empty if nothing does)."""

    entries: Mapping[str, Entry]
    factors: Factors
    note: str = ""
    #: State that the class makes when it is built and not at its first step: by the name, the option with its first value.
    initial: Mapping[str, str | float] = field(default_factory=dict)


_NUMBER = Entry(form="number")
_FIRST, _SECOND = Entry(1), Entry(2)
_ADAM = {"step": _NUMBER, "exp_avg": _FIRST, "exp_avg_sq": _SECOND, "max_exp_avg_sq": _SECOND}


def _decoupled(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    return {"lr": scales.weight, "weight_decay": scales.divisor, "eps": scales.gradient}


def _coupled(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    """The decay is added to the gradient."""
    return {"lr": scales.weight, "weight_decay": scales.gradient * scales.divisor, "eps": scales.gradient}


def _either(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    decoupled = group.get("decoupled_weight_decay", False)
    return (_decoupled if decoupled else _coupled)(scales, group, old, new)


def _sgd(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    return {"lr": scales.weight / scales.gradient, "weight_decay": scales.gradient * scales.divisor}


def _lion(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    return {"lr": scales.weight, "weight_decay": scales.divisor}


def _adafactor(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    """Its step is a fraction of the weights' root mean square, which grows by c itself."""
    return {"eps": (scales.gradient, scales.weight)}


def _muon(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    """An orthogonal matrix tiled K times is sqrt(K) times one; what its shape gives goes by the option `adjust_lr_fn`."""
    adjusted = {None: _original, "original": _original, "match_rms_adamw": _matched}[group.get("adjust_lr_fn")]
    factor = scales.norm * adjusted(old) / adjusted(new)
    return {"lr": factor, "weight_decay": 1 / factor}


def _original(shape: Shape) -> float:
    return sqrt(max(1.0, shape[0] / shape[1]))


def _matched(shape: Shape) -> float:
    return 0.2 * sqrt(max(shape))


def _schedule_free_adamw(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    """The decay is taken from y in units of lr; the average's weights are powers of the largest lr so far."""
    return {
        "lr": scales.weight,
        "weight_decay": scales.divisor,
        "eps": scales.gradient,
        **_averaging(scales.weight, group),
    }


def _schedule_free_sgd(scales: Scales, group: Group, old: Shape, new: Shape) -> dict[str, Factor]:
    found = _sgd(scales, group, old, new)
    return {**found, **_averaging(scales.weight / scales.gradient, group)}


def _averaging(lr: float, group: Group) -> dict[str, Factor]:
    return {"lr_max": lr, "scheduled_lr": lr, "weight_sum": lr ** group.get("weight_lr_power", 2.0)}


_BF16 = "its Newton-Schulz steps run in bfloat16: the law is exact, the numbers to about 1e-3"
_WARM = "its first steps (5 with beta2 0.999) are not divided by the second moment: exact from then on"

#: By the first part of the class's module, and its name.
KINDS: dict[tuple[str, str], Kind] = {
    ("torch", "AdamW"): Kind(_ADAM, _decoupled),
    ("torch", "Adam"): Kind(_ADAM, _either),
    ("torch", "NAdam"): Kind({**_ADAM, "mu_product": _NUMBER}, _either),
    ("torch", "RAdam"): Kind(_ADAM, _either, _WARM),
    ("torch", "Adamax"): Kind({"step": _NUMBER, "exp_avg": _FIRST, "exp_inf": _FIRST}, _coupled),
    ("torch", "SGD"): Kind({"momentum_buffer": _FIRST}, _sgd),
    ("torch", "RMSprop"): Kind(
        {"step": _NUMBER, "square_avg": _SECOND, "grad_avg": _FIRST, "momentum_buffer": Entry(0)}, _coupled
    ),
    ("torch", "Adagrad"): Kind(
        {"step": _NUMBER, "sum": _SECOND}, _coupled, initial={"step": 0.0, "sum": "initial_accumulator_value"}
    ),
    ("torch", "Adafactor"): Kind(
        {"step": _NUMBER, "row_var": Entry(2, "row"), "col_var": Entry(2, "column"), "variance": _SECOND}, _adafactor
    ),
    ("torch", "Muon"): Kind({"momentum_buffer": _FIRST}, _muon, _BF16),
    ("schedulefree", "AdamWScheduleFree"): Kind(
        {"z": Entry(form="weight"), "exp_avg_sq": _SECOND}, _schedule_free_adamw
    ),
    ("schedulefree", "SGDScheduleFree"): Kind({"z": Entry(form="weight")}, _schedule_free_sgd),
}
#: Lion has no home in torch: packages have it under this name, with this state and these options.
LION = Kind({"exp_avg": _FIRST}, _lion)
_EIGHT_BIT = ("bitsandbytes", "torchao")


def divides_decay(kind: Kind, group: Group) -> bool:
    """Whether weight decay goes through the division by second moments, with the gradient."""
    coupled = kind.factors is _coupled or (kind.factors is _either and not group.get("decoupled_weight_decay", False))
    return coupled and bool(group.get("weight_decay"))


def kind_of(optimizer: Optimizer) -> Kind:
    """The kind of an optimizer. Raises GrowthError for one that is not known."""
    cls = type(optimizer)
    root, name = cls.__module__.partition(".")[0], cls.__name__
    if root in _EIGHT_BIT:
        raise GrowthError(
            f"{root}'s {name} keeps its state in quantized blocks, which do not follow a growth: grow with "
            f'state="fresh" and a new optimizer of that class, or train with an unquantized one up to the growth.'
        )
    if (root, name) in KINDS:
        return KINDS[root, name]
    if name == "Lion" and all({"lr", "weight_decay"} <= group.keys() for group in optimizer.param_groups):
        return LION
    known = ", ".join(dict.fromkeys(name for _, name in KINDS))
    raise GrowthError(
        f"{cls.__module__}.{name} cannot be grown: what its state means is not known. Known are {known} and Lion. Grow "
        f"the model without optimizer=, and make a new optimizer."
    )

"""A backend of another package: a device that the CPU plays, with a `mix_` of its own and the reference for the rest.

A package that is installed registers it by an entry point in its pyproject.toml:

    [project.entry-points."growkernels.backends"]
    played = "my_package.backend:PLAYED"

and a script by `register_backend(PLAYED)`. Then `ops.tile(weight, 2, 2, backend="played")` or GROWKERNELS_BACKEND=played asks
for it. A real device names its type in `devices`, and in `default_for` where it is to run unasked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from growkernels.ops.backends import EAGER, Backend, Rates


def mix_(outs: Sequence[Tensor], sources: Sequence[Tensor], coefficients: Tensor) -> None:
    """`outs[l] = sum_k coefficients[l, k] sources[k]`, every product and sum rounded to float32 in that order."""
    for out, factors in zip(outs, coefficients.float().unbind(), strict=True):
        total = factors[0] * sources[0].float()
        for factor, source in zip(factors[1:], sources[1:], strict=True):
            total += factor * source.float()
        out.copy_(total)


def implementations() -> dict[str, Callable[..., Any]]:
    """Every op but `expand`, which growkernels makes of mixes and products, in the order that `rates` make the cheapest."""
    functions = dict(EAGER.implementations())
    for name in ("expand", "expand_", "expand_backward"):
        del functions[name]
    return functions | {"mix_": mix_}


PLAYED = Backend(
    "played",
    devices=("cpu",),
    why_not=lambda: "",
    implementations=implementations,
    rates=Rates(float32=10),
)

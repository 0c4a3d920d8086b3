"""What a call costs before any work: tiny tensors, many calls timed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks import checks, rivals
from benchmarks.case import EAGER, OURS, Case, Provider, Setting, Work, data, in_place
from benchmarks.case import untouched_never as touched
from benchmarks.cases.models import ONE_BY_ONE
from growkernels import ops
from growkernels.ops import Tile
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.tile.reference import tile_numbers

SIDE, CALLS, STD = 8, 1000, 0.003
#: How the names of these cases begin.
PREFIX = "call: "
#: One call for many small tensors, or one call for each.
LIST, SMALL = "list of 300", 300


def cases(setting: Setting) -> Iterator[Case]:
    """One call of each op on 8 x 8 float32."""
    size = SIDE * SIDE * 4
    for name, build, moved in (
        ("tile_", _tile_in_place, 5),
        ("tile_ noise", _tile_noise, 5),
        ("tile", _tile, 5),
        ("replicate_ x2", _replicate, 3),
        ("mean_square", _mean_square, 1),
    ):
        yield Case(PREFIX + name, Work(bytes=moved * size, operations=0), partial(build, setting), calls=CALLS)
    yield Case(PREFIX + LIST, Work(bytes=SMALL * 5 * size, operations=0), partial(_list, setting), calls=10)


def _weight(setting: Setting) -> Tensor:
    return data((SIDE, SIDE), torch.float32, setting.device)


def _tile_in_place(setting: Setting) -> list[Provider]:
    weight, out = _weight(setting), touched((2 * SIDE, 2 * SIDE), torch.float32, setting.device)
    half = weight / 2
    return [
        Provider(OURS, lambda: ops.tile_(out, weight, 2, 2), lambda _: checks.blocks_are(out, half, None, 2, 2)),
        Provider(EAGER, lambda: rivals.tile(weight, 2, 2), lambda grown: checks.blocks_are(grown, half, None, 2, 2)),
    ]


def _tile(setting: Setting) -> list[Provider]:
    weight = _weight(setting)

    def check(grown: Tensor) -> None:
        checks.blocks_are(grown, weight / 2, None, 2, 2)

    return [
        Provider(OURS, lambda: ops.tile(weight, 2, 2), check),
        Provider(EAGER, lambda: rivals.tile(weight, 2, 2), check),
    ]


def _tile_noise(setting: Setting) -> list[Provider]:
    weight, out = _weight(setting), touched((2 * SIDE, 2 * SIDE), torch.float32, setting.device)
    spec = tile_numbers(weight, 2, 2, False, STD, None, 1).tile()
    return [
        Provider(
            OURS,
            lambda: ops.tile_(out, weight, 2, 2, noise_std=STD, key=1),
            lambda _: checks.follows_reference(out, weight, spec),
        ),
        Provider(
            EAGER,
            lambda: rivals.tile_noisy(weight, 2, 2, STD),
            lambda grown: checks.noise_cancels(grown, weight, 2, 2, STD),
        ),
    ]


def _replicate(setting: Setting) -> list[Provider]:
    weight = _weight(setting)
    copies = [touched((SIDE, SIDE), torch.float32, setting.device) for _ in range(2)]

    def check(outputs: Sequence[Tensor] | None) -> None:
        checks.copies_are(outputs or copies, [weight], [0, 0])

    return [
        Provider(OURS, lambda: ops.replicate_(copies, [weight], [0, 0]), check),
        Provider(EAGER, lambda: rivals.replicate([weight], [0, 0]), check),
    ]


def _list(setting: Setting) -> list[Provider]:
    weights = [_weight(setting) for _ in range(SMALL)]
    outs = [touched((2 * SIDE, 2 * SIDE), torch.float32, setting.device) for _ in weights]
    specs = [Tile.copies((SIDE, SIDE), (2, 2), sum_axis=1) for _ in weights]

    def one_call(backend: str | None) -> list[Tensor]:
        ops.tile_rules_(outs, weights, specs, backend=backend)
        return outs

    def one_by_one() -> list[Tensor]:
        for out, weight, spec in zip(outs, weights, specs, strict=True):
            ops.tile_rules_([out], [weight], [spec])
        return outs

    def check(outputs: list[Tensor]) -> None:
        for grown, weight in zip(outputs, weights, strict=True):
            checks.blocks_are(grown, weight / 2, None, 2, 2)

    return [
        *in_place(setting, one_call, check),
        Provider(ONE_BY_ONE, one_by_one, check, fresh=False),
        Provider(EAGER, lambda: [rivals.tile(weight, 2, 2) for weight in weights], check),
    ]


def _mean_square(setting: Setting) -> list[Provider]:
    weight = _weight(setting)
    expected = noise_reference.mean_square([weight], [1.0])

    def ours(outputs: Tensor) -> None:
        assert torch.equal(outputs.cpu(), expected)

    def theirs(outputs: list[Tensor]) -> None:
        assert (outputs[0].cpu() / expected - 1).abs() <= torch.finfo(torch.float32).eps

    return [
        Provider(OURS, lambda: ops.mean_square([weight]), ours),
        Provider(EAGER, lambda: rivals.mean_square([weight]), theirs),
    ]

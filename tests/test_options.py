"""The options of a growth in their three places: the dataclass, the keywords of public functions, the command line."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
import typer

import growkernels
from growkernels import GrowthError
from growkernels.cli import app
from growkernels.cli.options import GROWTH
from growkernels.options import GrowthKeywords, GrowthOptions


def test_keywords_and_help_are_those_of_the_dataclass() -> None:
    wanted = get_type_hints(GrowthOptions)
    assert get_type_hints(GrowthKeywords) == {field.name: wanted[field.name] for field in fields(GrowthOptions)}
    assert GROWTH.keys() == get_type_hints(GrowthKeywords).keys()


@pytest.mark.parametrize(
    ("function", "own"),
    [
        (growkernels.plan, {}),
        (growkernels.grow_checkpoint, {}),
        (growkernels.grow_model, {}),
        (growkernels.load_grown, {"dtype": None}),
        (growkernels.LearnedGrowth, {"depth_operator": "ligo", "width_operator": "ligo"}),
    ],
)
def test_signatures_name_every_option(function: Any, own: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values())
    for field in fields(GrowthOptions):
        assert parameters[field.name].default == own.get(field.name, field.default), field.name


@pytest.mark.parametrize("command", ["grow", "plan"])
def test_commands_take_every_option_with_the_defaults_of_the_dataclass(command: str) -> None:
    group = typer.main.get_command(app)
    found = {parameter.name: parameter for parameter in group.commands[command].params}
    for field in fields(GrowthOptions):
        option = found[field.name]
        assert option.opts == [f"--{field.name.replace('_', '-')}"]
        assert option.default == field.default, field.name


@pytest.mark.parametrize("name", ["depth", "width", "ffn", "expert_copies", "num_experts", "expert_split", "moe"])
@pytest.mark.parametrize("value", [10_001, 10**30])
def test_more_copies_than_anybody_means(name: str, value: int) -> None:
    with pytest.raises(GrowthError, match=f"{name} is .*; more than 10,000 are taken for a mistake"):
        GrowthOptions(**{name: value})
    assert getattr(GrowthOptions(**{name: 10_000}), name) == 10_000

"""Every operator from the command line on families of every kind: grown and verified, or refused with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import json_of, run
from tests.coverage.sweep import Twin
from tests.end_to_end.test_depth_operators import FAMILIES

DEPTH = ("gstack", "interpolate", "llama_pro", "zero", "midas", "lidas", "random", "average")
OPERATORS = {f"{name} layers": ["--depth-operator", name, "--depth", "2"] for name in DEPTH} | {
    "solar layers": ["--depth-operator", "solar", "--num-layers", "6"],
    # Feed-forward networks half as large again, and whole models twice as wide.
    "net2net units": ["--width-operator", "net2net", "--intermediate-size", "+1/2"],
    "zero units": ["--width-operator", "zero", "--intermediate-size", "+1/2"],
    "random units": ["--width-operator", "random", "--intermediate-size", "+1/2"],
    "hypercloning": ["--width", "2"],
    "lemon": ["--width-operator", "lemon", "--width", "2"],
}
KEEPS = {"llama_pro layers", "zero layers", "net2net units", "zero units", "hypercloning", "lemon"}
#: Norms behind the sum leave no layer that changes nothing, and no feature that nothing writes.
REFUSED = {
    ("bert@mlm", "llama_pro layers"): "a norm follows every sum of its residual stream",
    ("bert@mlm", "zero layers"): "a norm follows every sum of its residual stream",
    ("bert@mlm", "lemon"): "norm",
}


#: Families that are tried in every run; the others in the long one.
QUICK = ("llama", "bert@mlm")


@pytest.fixture(scope="module")
def source_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a twin, made once."""
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("twin")
            made[name] = Twin(name.partition(" ")[0], folder, **FAMILIES[name]).source
        return made[name]

    return find


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES],
)
def test_an_operator_grows_a_family_or_says_why_not(
    family: str, operator: str, source_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = source_of(family)
    config = json.loads((source / "config.json").read_text())
    size = next(config[key] for key in ("intermediate_size", "n_inner") if config.get(key))
    options = [str(size + size // 2) if option == "+1/2" else option for option in OPERATORS[operator]]
    result = run("grow", source, tmp_path / "grown", *options, "--json")
    if (family, operator) in REFUSED:
        assert result.exit_code == 2
        assert REFUSED[family, operator] in json_of(result)["error"]["message"]
        assert not (tmp_path / "grown").exists()
        return
    assert result.exit_code == 0, result.stderr
    report = json_of(result)
    assert report["verification"]["passed"]
    claims = {claim["holds"] for claim in report["summary"]["claims"]}
    assert ("no" not in claims) == (operator in KEEPS), claims
    # A claim is held to its bound, and what changes the function shows by how much.
    assert report["verification"]["logits"] is not None

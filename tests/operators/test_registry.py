"""Operators of other packages: the example under examples/plugins, entry points, and what is refused."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import growkernels
from growkernels import operators
from growkernels.errors import GrowthError
from growkernels.operators import Claim, DepthOperator, Layer, register_operator, registry
from tests.families import make_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugins" / "overlap.py"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that a test may add to."""
    for name in ("DEPTH_OPERATORS", "WIDTH_OPERATORS"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    make_model("llama", num_hidden_layers=8)[1].save_pretrained(folder)
    return folder


def load_example() -> DepthOperator:
    spec = spec_from_file_location("overlap", EXAMPLE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.OVERLAP


def test_the_example_is_short_and_imports_public_names_only() -> None:
    text = EXAMPLE.read_text()
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    (ours,) = (node for node in imports if node.module.startswith("growkernels"))
    assert ours.module == "growkernels.operators"
    assert {alias.name for alias in ours.names} <= {*operators.__all__}
    assert len(text.splitlines()) < 40


@pytest.mark.usefixtures("tables")
def test_a_registered_operator_grows(source: Path, tmp_path: Path) -> None:
    register_operator(load_example())
    report = growkernels.grow_checkpoint(source, tmp_path / "grown", depth=2, depth_operator="overlap")
    assert report.plan.layer_index == (0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7)
    assert report.verification.passed
    assert growkernels.verify(source, tmp_path / "grown").passed


def test_an_installed_operator_is_found_by_its_entry_point(source: Path, tmp_path: Path) -> None:
    (tmp_path / "overlap.py").write_text(EXAMPLE.read_text())
    metadata = tmp_path / "overlap-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: overlap\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[growkernels.operators]\noverlap = overlap:OVERLAP\nabsent = absent:NONE\n"
    )
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport growkernels\n"
        f"print(growkernels.plan({str(source)!r}, depth=2, depth_operator='overlap').layer_index)"
    )
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7)\n", done.stderr
    assert "growkernels goes without operator 'absent'" in done.stderr


@pytest.mark.usefixtures("tables")
def test_what_is_no_operator_or_has_a_taken_name_is_refused() -> None:
    with pytest.raises(GrowthError, match="'gstack' is registered already"):
        register_operator(operators.DEPTH_OPERATORS["gstack"])
    with pytest.raises(GrowthError, match="expected a DepthOperator or a WidthOperator"):
        register_operator("overlap")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("layers", [(), (0, 8), (-1,)])
def test_layers_that_the_source_does_not_have_are_refused(source: Path, layers: tuple[int, ...]) -> None:
    claim = Claim("depth", "no", "it is a test")
    register_operator(DepthOperator("odd", lambda count, options: tuple(map(Layer, layers)), claim))
    with pytest.raises(GrowthError, match=r"depth_operator odd gives layers .* 0 to 7"):
        growkernels.plan(source, depth=2, depth_operator="odd")

"""Backends of other packages: the example under examples/plugins, entry points, and records that are refused."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import growkernels.ops.backends
from growkernels.errors import GrowthError
from growkernels.ops.backends import EAGER, Backend, register_backend, registry

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugins" / "backend.py"


def test_the_example_imports_public_names_only() -> None:
    imports = [node for node in ast.walk(ast.parse(EXAMPLE.read_text())) if isinstance(node, ast.ImportFrom)]
    (ours,) = (node for node in imports if node.module.startswith("growkernels"))
    assert ours.module == "growkernels.ops.backends"
    assert {alias.name for alias in ours.names} <= {*growkernels.ops.backends.__all__}


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code where the packages of a folder are installed."""
    command = [sys.executable, "-W", "always", "-c", f"import sys\nsys.path.insert(0, {str(folder)!r})\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder like site-packages with the example and its metadata."""
    (tmp_path / "played_backend.py").write_text(EXAMPLE.read_text())
    metadata = tmp_path / "played_backend-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: played_backend\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[growkernels.backends]\nplayed = played_backend:PLAYED\n")
    return tmp_path


PLAYED = """
import torch
from growkernels import ops
from growkernels.doctor import examine

def number(*shape):
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(len(shape))).float()

def outputs(backend):
    weight, block, out, normals = number(6, 10), number(7), torch.full((12, 20), torch.nan), torch.full((5,), torch.nan)
    ops.tile_(out, weight, 2, 2, noise_std=0.1, key=3, backend=backend)
    ops.normal_(normals, 1, 2, 3, backend=backend)
    b, a, depth = (number(*shape).requires_grad_() for shape in ((9, 6), (11, 10), (3, 2)))
    grown = ops.expand([weight, weight + 1], b, a, depth, backend=backend)
    grown.sum().backward()
    return [
        out, normals, grown, b.grad, a.grad, depth.grad,
        ops.tile(weight, 2, 3, snr_db=10.0, key=1, backend=backend),
        ops.mean_square([weight, block], backend=backend),
        *ops.replicate([weight, block], [1, 0, 1], 0.5, 0.1, 0.1, 3, backend=backend),
    ]

for mine, reference in zip(outputs("played"), outputs("eager"), strict=True):
    assert mine.equal(reference)
mixed = [[torch.full((4, 5), torch.nan) for _ in range(2)] for _ in range(2)]
arguments = [torch.randn(4, 5) for _ in range(3)], torch.randn(2, 3)
torch.ops.growkernels_played.mix_(mixed[0], *arguments)
torch.ops.growkernels_eager.mix_(mixed[1], *arguments)
assert all(mine.equal(reference) for mine, reference in zip(*mixed))
tile = torch.ops.growkernels_played.tile.default
print(*torch.library.opcheck(tile, (number(3, 4), 2, 2, False, 0.1, None, 3, torch.float32)).values())
print(examine().backend["backends"]["played"])
"""


def test_the_example_runs_by_its_entry_point(installed: Path) -> None:
    done = python(installed, PLAYED)
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout and "SUCCESS" in done.stdout
    assert done.stdout.endswith("available\n")


def test_an_entry_point_that_fails_is_warned_of_and_named_when_asked_for(installed: Path) -> None:
    (installed / "played_backend.py").write_text("import no_such_driver")
    code = "import torch\nfrom growkernels import ops\nweight = torch.ones(2, 2)\nprint(ops.tile(weight, 1, 1).sum())\n"
    done = python(installed, f"{code}ops.tile(weight, 1, 1, backend='played')")
    why = "its entry point 'played_backend:PLAYED' failed (ModuleNotFoundError: No module named 'no_such_driver')"
    assert f"UserWarning: growkernels goes without backend 'played': {why}" in done.stderr
    assert done.stdout == "tensor(4.)\n"
    assert f"GrowthError: backend 'played' was asked for, but {why}; repair its package" in done.stderr


def test_the_first_backend_of_a_device_is_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that can run; `implementations` of others is not called."""
    for table in ("BACKENDS", "DEFAULTS"):
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    serves = Backend("first", ("xpu",), lambda: "", EAGER.implementations, default_for=("xpu",))

    def fails() -> dict[str, object]:
        raise AssertionError("a backend that cannot run was asked for its implementations")

    register_backend(replace(serves, name="missing", why_not=lambda: "it is not there; get it", implementations=fails))
    assert "xpu" not in registry.DEFAULTS
    register_backend(serves)
    register_backend(replace(serves, name="second"))
    assert registry.DEFAULTS["xpu"] == "first"
    assert registry.refusal(None, "xpu") == registry.refusal("second", "xpu") == ""
    assert registry.refusal("missing", "xpu") == (
        "backend 'missing' was asked for, but it is not there; get it, or choose backend 'eager'"
    )
    assert "tensors are on cpu; move them to xpu" in registry.refusal("first", "cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "cpu"}, "a backend 'cpu' is registered already; choose another name"),
        ({"name": "my-chip"}, "the name of a backend is 'my-chip'; expected letters, digits and underscores"),
        ({"name": ""}, "the name of a backend is ''; expected"),
        ({"implementations": dict}, "backend 'chip' has no rates; give them, or implement expand"),
    ],
)
def test_records_that_are_refused_change_nothing(changes: dict[str, object], message: str) -> None:
    chip = Backend("chip", ("cpu",), lambda: "", EAGER.implementations)
    before = dict(registry.BACKENDS)
    with pytest.raises(GrowthError, match=message):
        register_backend(replace(chip, **changes))
    assert before == registry.BACKENDS and not hasattr(torch.ops.growkernels_chip, "tile")

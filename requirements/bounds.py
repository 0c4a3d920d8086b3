"""Print the versions that pip is to take, for `make oldest` and `make newest`: `python requirements/bounds.py oldest`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any


def lowest(project: dict[str, Any]) -> list[str]:
    """`name==version` for every `name>=version` that the package needs to be built, to run and to be tested."""
    extras = project["project"]["optional-dependencies"]
    needs = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *extras["plot"],
        *extras["test"],
    ]
    return [f"{found[1]}=={found[2]}" for need in needs if (found := re.fullmatch(r"([\w-]+)>=([\d.]+)", need))]


if __name__ == "__main__":
    if sys.argv[1] == "oldest":
        pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
        print("\n".join(lowest(tomllib.loads(pyproject.read_text()))))

"""The names of HyperCloning's two forms, for ops and options; apart from the rules, so that options import without NumPy."""

from __future__ import annotations

from typing import Literal

#: Input copies that are all divided, or all of the weight in one of them.
Variant = Literal["symmetric", "diagonal"]

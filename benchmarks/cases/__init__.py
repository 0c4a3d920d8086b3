"""All cases, one file per op and per whole job."""

from __future__ import annotations

from benchmarks.case import Case, Setting
from benchmarks.cases import calls, expand, mean_square, models, replicate, tile, tile_noise, tile_shapes


def all_cases(setting: Setting) -> list[Case]:
    """Every case of a setting, in the order of the report. Nothing is allocated before a case is built."""
    families = (tile, tile_noise, tile_shapes, replicate, models, mean_square, calls, expand)
    return [case for family in families for case in family.cases(setting)]

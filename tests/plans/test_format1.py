"""Plans that older versions stored, each rule with its own numbers, are read as what they mean."""

from __future__ import annotations

import json
from pathlib import Path

from growkernels.plans import Plan
from growkernels.plans.format1 import upgraded
from growkernels.plans.plan import json_digest
from tests.plans.test_learned import plan as learned_plan
from tests.plans.test_plan import small_plan

STORED = json.loads((Path(__file__).parent / "plans-format-1.json").read_text())


def test_plans_of_format_1_are_what_they_were() -> None:
    copied, learned = (Plan.from_json(upgraded(data)) for data in STORED)
    assert copied == small_plan()
    assert learned == learned_plan(None)


def test_the_digest_of_a_stored_plan_is_that_of_its_text() -> None:
    assert json_digest(STORED[0]) == "9fb6609a41581c3a1b0882c918bed21a6d9b4c41f1226264d9bb2cb2a292dd49"

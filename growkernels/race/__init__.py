"""Races of growth operators: several candidates grown from one checkpoint and trained alike."""

from growkernels.race.candidates import Candidate, read_candidates
from growkernels.race.running import RaceResult, race

__all__ = ["Candidate", "RaceResult", "race", "read_candidates"]

"""The candidates of a race, read from a YAML file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from growkernels.errors import GrowthError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_EXAMPLE = "such as {stack: {depth: 2}, wide: {width: 2, noise_snr_db: 40}, fresh: {scratch: stack}}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to grow.

    Attributes:
        name: As the file names it.
        options: Of `growkernels.grow_checkpoint`, such as depth, width, noise_snr_db.
        scratch: Another candidate whose shape is trained from random weights instead; None for a growth.
        fit_steps: Steps that learned growth (ligo) is fitted for.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    scratch: str | None = None
    fit_steps: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"options": self.options, "scratch": self.scratch, "fit_steps": self.fit_steps}


def read_candidates(path: str | Path) -> tuple[Candidate, ...]:
    """Read the candidates of a race.

    Args:
        path: A YAML file: a mapping of names to the options of a growth, by the names of the Python interface. Besides,
            `scratch: NAME` trains the shape of candidate NAME from random weights, and `fit_steps` fits learned growth.

    Returns:
        The candidates in the order of the file.

    Raises:
        GrowthError: The file cannot be read or means nothing. Options are checked by the growth's own plan, later.

    Example:
        stack: {depth: 2}
        interpolate: {depth: 2, depth_operator: interpolate}
        fresh: {scratch: stack}
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise GrowthError(f"the candidates {path} cannot be read: {error.strerror}; name a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise GrowthError(f"{path} is no valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(data, dict) or len(data) < 2:
        raise GrowthError(
            f"{path} names fewer than two candidates; expected a mapping of names to options, {_EXAMPLE}."
        )
    candidates = tuple(_candidate(path, name, options) for name, options in data.items())
    grown = {candidate.name for candidate in candidates if candidate.scratch is None}
    for candidate in candidates:
        if candidate.scratch is not None and candidate.scratch not in grown:
            raise GrowthError(
                f"{path}: {candidate.name} is to have the shape of {candidate.scratch!r}, which is no growth in the file; name "
                f"one of {', '.join(sorted(grown)) or 'them, once there is one'}."
            )
    return candidates


def _candidate(path: str | Path, name: Any, options: Any) -> Candidate:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise GrowthError(f"{path}: {name!r} is no name of a candidate; expected letters, digits, dots, dashes.")
    if not isinstance(options, dict) or not all(isinstance(key, str) for key in options):
        raise GrowthError(f"{path}: {name} is {options!r}; expected options of a growth, {_EXAMPLE}.")
    rest = dict(options)
    scratch, fit_steps = rest.pop("scratch", None), rest.pop("fit_steps", 0)
    if scratch is not None and (rest or fit_steps or not isinstance(scratch, str)):
        raise GrowthError(
            f"{path}: {name} starts from scratch; expected the name of another candidate and nothing beside it."
        )
    if isinstance(fit_steps, bool) or not isinstance(fit_steps, int) or fit_steps < 0:
        raise GrowthError(f"{path}: fit_steps of {name} is {fit_steps!r}; expected a whole number of at least 0.")
    if "seed" in rest:
        raise GrowthError(f"{path}: {name} sets a seed, and a race sets the seeds itself; leave it out.")
    return Candidate(name, rest, scratch, fit_steps)

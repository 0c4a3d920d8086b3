"""A half-trained operator on the disk: `operator.safetensors` for the tensors, `operator.json` for the rest."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.operators import GrowthOptions

_TENSORS, _REST = "operator.safetensors", "operator.json"
_FORMAT = 1
_GROUPS = ("matrices", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class State:
    """Matrices and Adam's moments by name, the losses so far, and the digest of the plan without matrices."""

    plan_digest: str
    losses: list[float]
    matrices: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]


def write_state(folder: Path, state: State, options: GrowthOptions) -> None:
    """Write or replace both files. Each says how many steps it is from: an interruption in between is found out."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{group}/{name}": value.contiguous() for group in _GROUPS for name, value in getattr(state, group).items()
    }
    steps = str(len(state.losses))
    rest = {"format": _FORMAT, "plan_digest": state.plan_digest, "options": asdict(options), "losses": state.losses}
    save_file(tensors, folder / f"{_TENSORS}.partial", metadata={"steps": steps})
    (folder / f"{_REST}.partial").write_text(json.dumps(rest) + "\n")
    for name in (_TENSORS, _REST):
        os.replace(folder / f"{name}.partial", folder / name)


def read_state(folder: Path) -> tuple[dict[str, Any], State]:
    """The growth's options, and its state. Raises GrowthError for what is missing or damaged."""
    try:
        rest = json.loads((folder / _REST).read_bytes())
        if rest["format"] != _FORMAT:
            raise GrowthError(f"{folder / _REST} has format {rest['format']}; this version reads {_FORMAT}.")
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
        with safe_open(folder / _TENSORS, "pt") as file:
            if (file.metadata() or {}).get("steps") != str(len(rest["losses"])):
                raise GrowthError(
                    f"{folder} holds tensors and losses of different steps: saving was interrupted. Fit it again."
                )
            for key in file.keys():  # noqa: SIM118 (the file is no mapping)
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key)
        return rest["options"], State(rest["plan_digest"], rest["losses"], **groups)
    except GrowthError:
        raise
    except OSError as error:
        raise GrowthError(
            f"{folder} holds no operator that can be read: {error}. Name a folder that `save` wrote."
        ) from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise GrowthError(
            f"{folder} holds a damaged operator: {type(error).__name__} {error}. Fit it again."
        ) from error

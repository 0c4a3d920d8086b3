"""What a growth does with the files beside the weights: copies, sizes that follow the model's, and the report of both."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from growkernels.errors import GrowthError, printable
from growkernels.executors.files.mapped import Identity, changed
from growkernels.executors.files.side_files import SideFiles, is_weights
from growkernels.plans import Plan, TensorSpec

#: How the modules of sentence-transformers call the model's hidden size.
_HIDDEN = ("word_embedding_dimension", "in_features", "dimension")


@dataclass(frozen=True, slots=True)
class SideReport:
    """What becomes of the files beside the weights: copied, changed (path -> what), and left behind (path -> why)."""

    copied: tuple[str, ...]
    changed: dict[str, str]
    left: dict[str, str]

    def with_training(self, names: Sequence[str]) -> SideReport:
        """The same report where the state of a training, in these files, went along."""
        if not names:
            return self
        left = {name: why for name, why in self.left.items() if name not in names}
        return SideReport((*self.copied, *names), self.changed, left)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the manifest and the command line."""
        return {"copied": list(self.copied), "changed": self.changed, "left_behind": self.left}


def report_side_files(side: SideFiles, plan: Plan, tensors: Mapping[str, TensorSpec]) -> SideReport:
    """What a growth does with the side files. `tensors` are those of the source."""
    changes = {str(name): text for name, (text, _) in _module_changes(side, plan, tensors).items()}
    copied = [name for name, identity in side.carried.items() if identity is not None]
    return SideReport(tuple(printable(str(name)) for name in copied), changes, dict(side.left))


def copy_side_files(side: SideFiles, plan: Plan, tensors: Mapping[str, TensorSpec], folder: Path) -> None:
    """Copy what goes along into the folder of the grown checkpoint, with the permissions that it has.

    Raises GrowthError for a file that cannot be copied, or that is not any more what was found.
    """
    changes = _module_changes(side, plan, tensors)
    for name, identity in side.carried.items():
        source, target = side.root / name, folder / name
        try:
            if identity is None:
                target.mkdir()
            else:
                _copy(source.resolve(), target, identity, changes.get(name, ("", None))[1])
        except OSError as error:
            raise GrowthError(
                f"{source} cannot be copied to the grown checkpoint: {error.strerror or error}."
            ) from error


def _copy(source: Path, target: Path, identity: Identity, config: dict[str, Any] | None) -> None:
    # The links have been followed: one that stands there now was put there since.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file, target.open("xb") as copy:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file any more")
        os.fchmod(copy.fileno(), status.st_mode & 0o777)
        if config is None:
            shutil.copyfileobj(file, copy)
        else:
            copy.write(json.dumps(config, indent=2).encode() + b"\n")
        # After the copy: a file that somebody is writing would be torn.
        if (now := Identity.of(os.fstat(descriptor))) != identity:
            raise changed(source, identity, now)


def _module_changes(
    side: SideFiles, plan: Plan, tensors: Mapping[str, TensorSpec]
) -> dict[PurePosixPath, tuple[str, dict[str, Any] | None]]:
    """Configs of modules that state the model's hidden size, where it grows: what is done, and the config that states the
    grown one; None where the module's own weights have the size, so that it has to be trained again."""
    embedding = next((rule for rule in plan.rules if rule.kind == "embedding" and len(rule.spec.shape) == 2), None)
    if embedding is None or not embedding.drawn:
        return {}
    before, after = tensors[embedding.source].shape[1], embedding.spec.shape[1]
    changes: dict[PurePosixPath, tuple[str, dict[str, Any] | None]] = {}
    for name, config in side.configs.items():
        keys = [key for key in _HIDDEN if config.get(key) == before != after]
        if not keys:
            continue
        text = ", ".join(f"{key} {before} -> {after}" for key in keys)
        if any(is_weights(other.name) for other in side.carried if other.parent == name.parent):
            text = f"left as it is: its weights are of the source's size ({text}); train this module again"
            changes[name] = text, None
        else:
            changes[name] = text, {**config, **dict.fromkeys(keys, after)}
    return changes

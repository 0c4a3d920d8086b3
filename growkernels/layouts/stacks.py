"""Which modules of a class are its layers, and which layers are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from growkernels.layouts.family import Family
from growkernels.layouts.keys import STACKS

#: Stacks of other models beside the text model.
_OTHERS = re.compile(r"(^|\.)(vision|visual|audio|image|speech|patch|img|git\.image_encoder|mtp)")


@dataclass(frozen=True, slots=True)
class Stacks:
    """The repeated modules that are layers: their paths, such as `model.layers`."""

    paths: tuple[str, ...]

    def split(self, name: str) -> tuple[str, int | None]:
        """A parameter's name with its layer number as `{}`, and that number; None where there is none."""
        for path in self.paths:
            start = len(path) + 1
            if name.startswith(path) and name[len(path) : start] == ".":
                number, dot, rest = name[start:].partition(".")
                if dot and number.isdigit():
                    return f"{path}.{{}}.{rest}", int(number)
        return name, None


def find_stacks(names: Iterable[str], count: int, family: Family) -> Stacks:
    """The stacks of a class with `count` layers, from its parameters' names."""
    if family.layers_shared:
        return Stacks(())
    numbers: dict[str, set[int]] = {}
    for name in names:
        for match in re.finditer(r"\.(\d+)\.", f".{name}"):
            path = f".{name}"[: match.start()].removeprefix(".")
            numbers.setdefault(path, set()).add(int(match.group(1)))
            break
    if family.stacks:
        paths = [
            path
            for path, held in numbers.items()
            if len(held) == count and any(f".{path}".endswith(f".{ending}") for ending in family.stacks)
        ]
    else:
        paths = [
            path
            for path, held in numbers.items()
            if path.rpartition(".")[2] in STACKS and len(held) == count and not _OTHERS.search(path)
        ]
    return Stacks(tuple(sorted(paths, key=len, reverse=True)))


def layer_kinds(shapes: Mapping[str, tuple[int, ...]], stacks: Stacks, count: int) -> tuple[int, ...]:
    """A number for each layer: the same for layers that have the same tensors in the same shapes."""
    layers: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in range(count)]
    for name, shape in shapes.items():
        group, layer = stacks.split(name)
        if layer is not None and layer < count:
            layers[layer].append((group, shape))
    seen: dict[tuple[tuple[str, tuple[int, ...]], ...], int] = {}
    return tuple(seen.setdefault(tuple(sorted(held)), len(seen)) for held in layers)

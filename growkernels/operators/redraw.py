"""Drop-upcycling: a share of an expert's features drawn anew, in all of its projections alike (arXiv 2502.19261).

The order of a trained network's features says nothing, so that some ranges of them are as good as single ones; each is drawn
normal, with the mean and the standard deviation of what it replaces.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from growkernels.plans import NEW, Fill, IndexVector, Tile, noise_key

#: Into how many ranges the features are cut at most: plans and manifests hold each.
_RANGES = 64


def redrawn(tile: Tile, axis: int, share: float, seed: int, name: str) -> Tile:
    """The rule with `share` of the features of an axis drawn anew: the same ones for every tensor of `name`, an expert."""
    size = tile.axes[axis].size
    chosen = _features(size, int(share * size), noise_key(seed, name))
    indices = np.arange(size)
    axes = list(tile.axes)
    axes[axis] = IndexVector.gather(np.where(chosen, NEW, indices).tolist())
    measured, none = Fill.measured(), Fill()
    return replace(
        tile, axes=tuple(axes), fill=(measured, none, none) if axis == tile.sum_axis else (none, measured, none)
    )


def _features(size: int, count: int, key: int) -> np.ndarray:
    """`count` of `size` features, bool [size]: whole ranges in random order, and a part of the last one."""
    ranges = np.array_split(np.arange(size), min(_RANGES, size))
    order = sorted(range(len(ranges)), key=lambda number: noise_key(key, str(number)))
    chosen = np.concatenate([ranges[number] for number in order])[:count]
    return np.isin(np.arange(size), chosen)

"""A depth operator of another package: the layer list of OVERLAP (arXiv 2312.15166), two copies without the seam's layers.

A package that is installed registers it by an entry point in its pyproject.toml:

    [project.entry-points."growkernels.operators"]
    overlap = "my_package.overlap:OVERLAP"

and a script by `register_operator(OVERLAP)`. Then `growkernels grow SRC DST --depth 2 --depth-operator overlap` asks for it.
"""

from __future__ import annotations

from growkernels.operators import Claim, DepthOperator, GrowthOptions, Layer


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """The first three quarters of the source's layers, then the last three quarters: 32 layers become 48."""
    cut = num_layers // 4
    return tuple(map(Layer, [*range(num_layers - cut), *range(cut, num_layers)]))


OVERLAP = DepthOperator(
    name="overlap",
    layers=layers,
    claim=Claim("depth", "no", "the middle layers are applied twice; further training recovers what that costs"),
)

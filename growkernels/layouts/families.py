"""The families that can be grown, and what stops growth in every one of them."""

from __future__ import annotations

from importlib.metadata import entry_points

from torch import nn

from growkernels.errors import GrowthError
from growkernels.layouts.family import HEADS, Family, Refusal
from growkernels.layouts.rows import PLAIN, ROWS

__all__ = [
    "BUFFERS",
    "ENCODER_DECODER",
    "ENTRY_POINTS",
    "FAMILIES",
    "HEADS",
    "REFUSALS",
    "REMEDIES",
    "Family",
    "family_of",
    "find",
    "register_family",
]

#: Entry points by which other packages add families: each names a `Family`.
ENTRY_POINTS = "growkernels.layouts"

FAMILIES: dict[str, Family] = {row.model_type: row for row in (*ROWS, *map(Family, PLAIN))}


def register_family(family: Family) -> None:
    """Add a family, or replace what is known of its `model_type`, for this process.

    Packages that name a `Family` by an entry point of the group `growkernels.layouts` need not call this: it is found when
    a checkpoint of its type is opened.

    Args:
        family: Its row; the model type may be one of transformers or, with `build`, one of your own.

    Raises:
        GrowthError: For anything but a `Family`.

    Example:
        >>> from growkernels.layouts import Family, register_family
        >>> register_family(Family("my_decoder", outputs={"attn.qkv": 3}))
    """
    if not isinstance(family, Family):
        raise GrowthError(f"{family!r} is no family; expected a growkernels.layouts.Family.")
    FAMILIES[family.model_type] = family


def family_of(model: nn.Module) -> Family | None:
    """The declared family of a model that is not of transformers; None where its class was not declared."""
    return next((family for family in FAMILIES.values() if family.module is type(model)), None)


def find(model_type: object) -> Family | None:
    """The family of a type: of the table, registered, or of an installed package's entry point; None if there is none."""
    if not isinstance(model_type, str):
        return None
    if model_type not in FAMILIES:
        for point in entry_points(group=ENTRY_POINTS):
            family = point.load()
            if not isinstance(family, Family):
                raise GrowthError(
                    f"the entry point {point.name!r} of {ENTRY_POINTS} gives {family!r}; expected a Family. Fix or remove "
                    f"the package {point.dist.name if point.dist else point.value}."
                )
            FAMILIES.setdefault(family.model_type, family)
    return FAMILIES.get(model_type)


#: What stops growth in every family.
REFUSALS: tuple[Refusal, ...] = (
    Refusal("pruned_heads", ({}, None), "heads were pruned, so that layers differ in width"),
    Refusal("peft_type", (None,), "this is an adapter, not a model"),
)

#: What stops growth in families of decoders alone.
ENCODER_DECODER = Refusal("is_encoder_decoder", (False, None), "the encoder of this model is not supported")

#: What to do about each, by key; the rest is a matter of another checkpoint.
REMEDIES: dict[str, str] = {
    "auto_map": (
        "convert the checkpoint to the class of the same model in transformers, or import the class and declare it with "
        "growkernels.declare_layout"
    ),
    "peft_type": "merge the adapter into its base model (merge_and_unload in peft) and grow the merged model",
}

#: Endings of file names of buffers that any family may hold.
BUFFERS: tuple[str, ...] = ("rotary_emb.inv_freq", "rotary_emb.original_inv_freq", "position_ids", "token_type_ids")

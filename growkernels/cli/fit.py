"""The options of `grow` that train learned growth, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from growkernels.cli.options import LEARNED
from growkernels.errors import GrowthError

if TYPE_CHECKING:
    from growkernels.learning import Fit

FitText = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=LEARNED,
        help="Plain text to learn the growth from, like what the model will be trained on; up to 64 MiB are used. Only the "
        "operator is trained, by the loss of the grown model.",
        show_default=False,
    ),
]
FitSteps = Annotated[
    int,
    typer.Option(
        metavar="N",
        rich_help_panel=LEARNED,
        help="Training steps of the operator; 100 are enough in the paper. 0 grows by the start, and needs no text.",
    ),
]
FitLr = Annotated[
    float,
    typer.Option(metavar="RATE", rich_help_panel=LEARNED, help="Peak learning rate of AdamW; then a cosine down."),
]
FitWarmup = Annotated[
    int | None,
    typer.Option(
        metavar="N", rich_help_panel=LEARNED, help="Steps up to that peak.", show_default="a tenth of the steps"
    ),
]
FitBatch = Annotated[int, typer.Option(metavar="N", rich_help_panel=LEARNED, help="Windows of text in a step.")]
FitLength = Annotated[
    int,
    typer.Option(
        metavar="N", rich_help_panel=LEARNED, help="Tokens in a window; fewer where the model or the text has fewer."
    ),
]
FitCheckpoint = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        rich_help_panel=LEARNED,
        help="Keep the state of the fit in FILE: every half minute at most, at its end, and when it is interrupted. A fit "
        "whose FILE exists goes on from it, to the same bits; source, text and options must be the same, also "
        "--fit-steps. FILE stays.",
        show_default=False,
    ),
]


def given(ctx: typer.Context) -> list[str]:
    """The options of a fit that stand in the command."""
    names = [name for name in ctx.params if name.startswith("fit_")]
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name != "DEFAULT"]


def make_fit(given: list[str], growth: dict[str, Any], text: Path | None, steps: int, **settings: Any) -> Fit | None:
    """The fit that the options ask for; None if nothing is learned, or by no steps.

    given: names of the options that were given. Raises GrowthError for them where nothing is learned, and without a text.
    """
    learned = "ligo" in (growth["depth_operator"], growth["width_operator"])
    if given and not learned:
        raise GrowthError(
            f"{', '.join(given)}: there is a fit for learned growth only; add --depth-operator ligo, --width-operator ligo, or "
            f"both."
        )
    if not learned:
        return None
    if steps == 0:
        # Commands that differ in the number of steps alone are alike in what they refuse.
        _checked(text or Path(), steps=1, **{**settings, "warmup": None})
        return None
    if text is None:
        raise GrowthError(
            "ligo learns its growth from text: give --fit-text FILE, a file of plain text like what the model will be trained "
            "on; or --fit-steps 0 to grow by the start alone."
        )
    return _checked(text, steps=steps, **settings)


def _checked(text: Path, **settings: Any) -> Fit:
    """The fit; what is refused is named as in the command."""
    from growkernels.learning import Fit

    try:
        return Fit(text, **settings)
    except GrowthError as error:
        name = str(error).partition(" is ")[0]
        raise GrowthError(f"--fit-{error}" if name in settings else str(error)) from error

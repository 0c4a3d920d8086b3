"""The options that `grow` and `plan` share, each declared once. Their meaning is checked by `GrowthOptions`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

DEPTH, WIDTH, LEARNED, TARGET, CHECKS = "Deeper", "Wider", "Learned growth (ligo)", "Target", "Verification"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="Checkpoint to grow: a folder, or a Hugging Face hub id. It is only read.",
        show_default=False,
    ),
]
StripPrefix = Annotated[
    str,
    typer.Option(
        "--strip-prefix",
        metavar="TEXT",
        help="Leave TEXT out of the names of SRC's tensors: what a wrapper put there, such as module. or _orig_mod.",
        show_default=False,
    ),
]
Depth = Annotated[
    str | None,
    typer.Option(
        metavar="G",
        rich_help_panel=DEPTH,
        help="G times as many layers. The paper recommends 4; 2 to 4 is the best range.",
        show_default=False,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        rich_help_panel=DEPTH,
        help="Instead of --depth: the source layer of every target layer, from 0, with ranges and groups: "
        "'0-5,(6-11)*2' runs layers 6 to 11 twice. 'paper:12-345*7-6' reads the Gstack paper's notation (digits from 1).",
        show_default=False,
    ),
]
DepthOperator = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=DEPTH,
        help="[bold]gstack[/]: the whole stack again and again (0 1 2 0 1 2), the best in the paper. "
        "[bold]interpolate[/]: each layer several times in a row (0 0 1 1 2 2). "
        "[bold]ligo[/]: each a learned mix of all layers (arXiv 2303.00980).",
    ),
]
Width = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        rich_help_panel=WIDTH,
        help="N times the hidden size, heads, kv heads (but multi-query attention keeps its one) and ffn size.",
        show_default=False,
    ),
]
Ffn = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        rich_help_panel=WIDTH,
        help="M times the ffn size, whatever --width is.",
        show_default="that of --width",
    ),
]
WidthOperator = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=WIDTH,
        help="[bold]hypercloning[/]: copies of every feature, so that the model computes what it did (arXiv 2409.12903). "
        "[bold]ligo[/]: learned mixes of features; both operators may be ligo.",
    ),
]
Variant = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=WIDTH,
        help="[bold]symmetric[/]: every copy reads all copies, W/N each. [bold]diagonal[/]: every copy reads itself only.",
    ),
]
NoiseSnrDb = Annotated[
    str,
    typer.Option(
        "--noise-snr-db",
        metavar="DB",
        rich_help_panel=WIDTH,
        help="Noise that tells the copies apart, DB decibels below the weights; it cancels over the copies, so that the "
        "function stays. With [bold]none[/], copies stay equal for ever unless the training uses dropout.",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        metavar="S",
        rich_help_panel=WIDTH,
        help="Seed of the noise, and of the start and the batches of learned growth. Same seed, same bits, on any machine; "
        "of a fit, on the same machine with as many threads.",
    ),
]
DepthInit = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=LEARNED,
        help="Order of the layers that the mixes start from: [bold]stack[/] or [bold]interpolate[/].",
    ),
]
WidthInit = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=LEARNED,
        help="New features start as copies in order ([bold]tile[/]) or of random features ([bold]onehot[/]), as random sums "
        "([bold]normal[/]) or random averages ([bold]convex[/]).",
    ),
]
InitNoise = Annotated[
    float,
    typer.Option(
        metavar="X",
        rich_help_panel=LEARNED,
        help="Noise on that start, as a share: copies that start equal would stay equal.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        rich_help_panel=TARGET,
        help="Stored type of the target: [bold]keep[/], float32, bfloat16 or float16. Each weight is rounded once.",
    ),
]
MaxShardSize = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        rich_help_panel=TARGET,
        help="Largest weights file, such as 5GB or 512MiB.",
    ),
]
Untie = Annotated[
    bool,
    typer.Option(
        "--untie",
        metavar="",
        rich_help_panel=TARGET,
        help="Give the target an LM head of its own where the source shares it with the embedding.",
    ),
]
VerifyLogits = Annotated[
    bool | None,
    typer.Option(
        "--verify-logits/--no-verify-logits",
        metavar="",
        rich_help_panel=CHECKS,
        help="Run both models on the same tokens and compare their outputs, or not.",
        show_default="if both fit, in float32, in a quarter of the free memory",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="Print one JSON object on stdout, also when the request is refused."),
]


def growth_options(**given: Any) -> dict[str, Any]:
    """The keyword arguments of `api.plan`: 'none' decibels become None, all else goes on as it is."""
    snr = given["noise_snr_db"]
    return {**given, "noise_snr_db": None if snr.strip().lower() == "none" else snr}

"""The options that `grow` and `plan` share. Those of a growth are the fields of `GrowthOptions` and the help in `GROWTH`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Annotated, Any, NamedTuple, TypeVar, get_type_hints

import typer

from growkernels.options import GrowthOptions

#: Panels of `--help`, in their order. What most users need stands in the first one, which has no name of its own.
BASIC = None
DEPTH, WIDTH, EXPERTS, NOISE = "Depth", "Width", "Experts", "Noise"
LEARNED, TARGET, CHECKS = "Learned growth (ligo)", "Source and target", "Verification"


class Help(NamedTuple):
    """What `--help` says of an option: its panel, its value's name, its meaning, and its default in words."""

    panel: str | None
    metavar: str
    text: str
    default: str = ""


#: Help of every field of `GrowthOptions`, in the order of the command line.
GROWTH: dict[str, Help] = {
    "depth": Help(
        BASIC, "G", "Deeper: G times as many layers. The Gstack paper recommends 4; 2 to 4 is the best range."
    ),
    "width": Help(
        BASIC,
        "N",
        "Wider: N times the hidden size, heads, kv heads (but multi-query attention keeps its one) and ffn size.",
    ),
    "dtype": Help(
        BASIC,
        "NAME",
        "Stored type of the target: [bold]keep[/], float32, bfloat16 or float16. Each weight is rounded once.",
    ),
    "num_layers": Help(DEPTH, "L", "Instead of --depth: the target's layers in all, any number that is not less."),
    "layers": Help(
        DEPTH,
        "SPEC",
        "Instead of --depth: the source layer of every target layer, from 0, with ranges and groups: "
        "'0-5,(6-11)*2' runs layers 6 to 11 twice. 'paper:12-345*7-6' reads the Gstack paper's notation (digits from 1). "
        "Second and later copies are the new ones, which llama_pro, zero, random and average make of their kind.",
    ),
    "depth_operator": Help(
        DEPTH,
        "NAME",
        "Of layers 0 1 2, new ones with a dash. [bold]gstack[/]: 0 1 2 0' 1' 2'. [bold]interpolate[/]: 0 0' 1 1' 2 2'. "
        "[bold]llama_pro[/]: as interpolate, but new layers add zero at first, so that the model computes what it did. "
        "[bold]zero[/]: likewise in the order of gstack. [bold]solar[/]: two copies, without the end of the first and the "
        "start of the second. [bold]midas[/], [bold]lidas[/]: a block in the middle several times. [bold]random[/]: new "
        "layers drawn. [bold]average[/]: means of neighbors. [bold]ligo[/]: each a learned mix of all layers.",
    ),
    "block": Help(
        DEPTH,
        "B",
        "llama_pro, average: new layers behind every B layers. interpolate: blocks of B layers are repeated. midas, lidas: the "
        "size of the middle block.",
        default="1; of midas and lidas the largest that fits, up to half of the layers",
    ),
    "fade": Help(DEPTH, "", "Each of k copies of a layer adds 1/k of what the layer added."),
    "ffn": Help(WIDTH, "M", "M times the ffn size, whatever --width is.", default="that of --width"),
    "hidden_size": Help(WIDTH, "D", "Hidden size of the target. Alone, it keeps heads and head_dim.", "as it is"),
    "num_heads": Help(WIDTH, "H", "Attention heads of the target; their size stays.", "as it is"),
    "num_kv_heads": Help(WIDTH, "K", "Key and value heads of the target: more for GQA and MQA.", "as it is"),
    "head_dim": Help(WIDTH, "d", "Features of each head, their number kept: a multiple of the source's.", "as it is"),
    "intermediate_size": Help(WIDTH, "F", "Size of the feed-forward network.", "as it is"),
    "vocab_size": Help(WIDTH, "V", "Rows of the embedding and of the head; new ones are means.", "as it is"),
    "width_operator": Help(
        WIDTH,
        "NAME",
        "[bold]hypercloning[/]: whole copies of every feature, so that the model computes what it did (arXiv 2409.12903). "
        "[bold]net2net[/]: copies to any size, some features once more than others. [bold]lemon[/]: any hidden size, whole "
        "copies and new features that start silent. [bold]zero[/]: all that is new starts silent. These keep the function. "
        "[bold]random[/]: all that is new is drawn. [bold]ligo[/]: learned mixes of features; both operators may be ligo.",
    ),
    "variant": Help(
        WIDTH,
        "NAME",
        "[bold]symmetric[/]: every copy reads all copies, W/N each. [bold]diagonal[/]: every copy reads itself only.",
    ),
    "noise_snr_db": Help(
        NOISE,
        "DB",
        "Noise that separates the copies, DB decibels below the weights; it cancels over the copies, so that the "
        "function stays. With [bold]none[/], copies stay equal for ever unless the training uses dropout. "
        "[bold]auto[/]: 10 for hypercloning and net2net, none for the others.",
    ),
    "noise_after": Help(
        NOISE,
        "ALPHA",
        "Blend every matrix with ALPHA of fresh noise at the end, as Gstack does after stacking: 0.2 helped a little there, "
        "more hurt. It changes the function.",
    ),
    "seed": Help(
        NOISE,
        "S",
        "Seed of the noise, and of the start and the batches of learned growth. Same seed, same bits, on any machine; "
        "of a fit, on the same machine with as many threads. By default 0; where the source was grown itself, the seed after "
        "its own.",
    ),
    "expert_copies": Help(
        EXPERTS, "M", "M times as many experts, M times as many for each token: the model computes what it did."
    ),
    "num_experts": Help(EXPERTS, "E", "Instead of --expert-copies: the number of experts, a multiple of the source's."),
    "expert_split": Help(
        EXPERTS,
        "G",
        "Split each expert into G of 1/G the size, G times as many for each token: the same function and size.",
    ),
    "moe": Help(
        EXPERTS,
        "E",
        "Turn a dense model into one of E experts, copies of its feed-forward networks: Llama and Mistral into Mixtral, Qwen3 "
        "into Qwen3-MoE, Qwen2 into Qwen2-MoE, OLMo-2 into FlexOlmo.",
    ),
    "granularity": Help(EXPERTS, "G", "Of --moe: each expert has 1/G of the ffn size; E and K are multiples of G."),
    "top_k": Help(EXPERTS, "K", "Of --moe: how many experts a token is sent to.", default="2, or G"),
    "shared": Help(
        EXPERTS, "", "Of --moe: the dense network stays, as a shared expert; the others start at zero (Qwen2 only)."
    ),
    "reinit": Help(
        EXPERTS,
        "R",
        "Of --moe: draw a share R of the features of each expert anew (arXiv 2502.19261); changes the function.",
    ),
    "expert_noise_db": Help(
        EXPERTS,
        "DB",
        "Noise on copies of experts and router rows, DB decibels below them (40 in arXiv 2510.08008), instead of the noise on "
        "their last projections that cancels: changes the function.",
    ),
    "depth_init": Help(
        LEARNED, "NAME", "Order of the layers that the mixes start from: [bold]stack[/] or [bold]interpolate[/]."
    ),
    "width_init": Help(
        LEARNED,
        "NAME",
        "New features start as copies in order ([bold]tile[/]) or of random features ([bold]onehot[/]), as random sums "
        "([bold]normal[/]) or random averages ([bold]convex[/]).",
    ),
    "init_noise": Help(LEARNED, "X", "Noise on that start, as a share: copies that start equal would stay equal."),
    "untie": Help(TARGET, "", "Give the target an LM head of its own where the source shares it with the embedding."),
}

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
        rich_help_panel=TARGET,
        help="Leave TEXT out of the names of SRC's tensors: what a wrapper put there, such as module. or _orig_mod.",
        show_default=False,
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


_Command = TypeVar("_Command", bound=Callable[..., None])


def takes_growth_options(command: _Command) -> _Command:
    """Give a command that has `**growth` an option for every field of `GrowthOptions`, between its arguments and options."""
    signature, hints = inspect.signature(command), get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values() if p.name != "growth"]
    arguments = [p for p in own if p.default is p.empty]
    options = [p.replace(kind=p.KEYWORD_ONLY) for p in own if p.default is not p.empty]
    known = {field.name: field for field in fields(GrowthOptions)}
    parameters = [*arguments, *(_parameter(known[name], shown) for name, shown in GROWTH.items()), *options]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def growth_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a growth from a command's: the word none becomes None."""
    worded = {field.name for field in fields(GrowthOptions) if _none_is_a_word(field)}
    return {
        name: None if name in worded and value.strip().lower() == "none" else value for name, value in given.items()
    }


def _parameter(field: Field[Any], shown: Help) -> inspect.Parameter:
    """An option of typer. What a whole number or None may be is for `GrowthOptions` to say: they are taken as text."""
    default, kind = field.default, {"bool": bool, "int": int, "float": float}.get(str(field.type), str)
    declared = () if kind is not bool else (f"--{field.name.replace('_', '-')}",)
    option = typer.Option(
        *declared,
        metavar=shown.metavar,
        rich_help_panel=shown.panel,
        help=shown.text,
        show_default=shown.default or default is not None,
    )
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if default is None else kind, option],
    )


def _none_is_a_word(field: Field[Any]) -> bool:
    return "None" in str(field.type) and field.default is not None

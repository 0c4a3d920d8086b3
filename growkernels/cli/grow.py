"""`growkernels grow`: the whole road."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from growkernels.cli import fit, options
from growkernels.cli.console import print_json, results
from growkernels.cli.progress import ProgressDisplay


@options.takes_growth_options
def grow(
    ctx: typer.Context,
    src: options.Source,
    dst: Annotated[
        Path,
        typer.Argument(
            metavar="DST",
            help="Folder to make. Written beside it first, renamed at the end.",
            show_default=False,
        ),
    ],
    fit_text: fit.FitText = None,
    fit_steps: fit.FitSteps = 100,
    fit_lr: fit.FitLr = 1e-3,
    fit_warmup: fit.FitWarmup = None,
    fit_batch: fit.FitBatch = 8,
    fit_length: fit.FitLength = 256,
    fit_checkpoint: fit.FitCheckpoint = None,
    max_shard_size: options.MaxShardSize = "5GB",
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            rich_help_panel=options.TARGET,
            help="Where weights are computed: [bold]cpu[/], [bold]cuda[/] or cuda:1. The bits are the same, "
            "but for what a fit learns, which holds both models there.",
        ),
    ] = "cpu",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            metavar="",
            help="Replace the checkpoint at DST, once the new one is complete.",
        ),
    ] = False,
    allow_nonfinite: Annotated[
        bool,
        typer.Option(
            "--allow-nonfinite",
            metavar="",
            rich_help_panel=options.TARGET,
            help="Let NaN and Inf in the weights pass.",
        ),
    ] = False,
    optimizer: Annotated[
        bool,
        typer.Option(
            "--optimizer",
            metavar="",
            rich_help_panel=options.TARGET,
            help="Grow the Trainer's optimizer.pt in SRC too, and carry scheduler, scaler, random states and the Trainer's "
            "state: resume_from_checkpoint goes on from DST.",
        ),
    ] = False,
    no_verify: Annotated[
        bool,
        typer.Option(
            "--no-verify",
            metavar="",
            rich_help_panel=options.CHECKS,
            help="Skip every check of what was written.",
        ),
    ] = False,
    verify_logits: options.VerifyLogits = None,
    strip_prefix: options.StripPrefix = "",
    json: options.Json = False,
    **growth: Any,
) -> None:
    """Grow the checkpoint SRC into the new checkpoint DST, and verify it.

    Width and depth may be combined. The target is a standard Hugging Face checkpoint: config, safetensors, the source's
    tokenizer and generation config, and growkernels.json, which says how it was made. Weights are streamed from file to
    file: memory does not depend on the model's size, but fitting learned growth holds both models in memory. A run that
    fails or is interrupted leaves DST as it was; with --fit-checkpoint, the same command takes up an interrupted fit.

    Always verified: random slices of every tensor against an independent reference, bit for bit, learned ones within the
    rounding of float32 sums. Where both models fit in a quarter of the free memory, also their outputs on the same tokens.

    [bold]Examples[/]

        growkernels grow ./small ./wide --width 2       # same function
        growkernels grow ./small ./deep --depth 4       # Gstack
        growkernels grow ./small ./big --width 2 --depth 2 --dtype bfloat16
        growkernels grow ./small ./deep --layers "0-1,(2-9)*2,10-11"
        growkernels grow owner/model ./wide --width 2 --noise-snr-db 20 --seed 7
        growkernels grow ./small ./deep --depth 2 --depth-operator ligo --fit-text a.txt
        torchrun --nproc-per-node 8 -m growkernels grow ./small ./wide --width 2

    Next: load DST as any checkpoint and train it on with a fresh optimizer and a new warm-up to the same peak learning rate.
    """
    growth = options.growth_options(growth)
    with ProgressDisplay() as advance:
        import growkernels
        from growkernels.executors.ranks import Ranks
        from growkernels.report.tables import growth_report, load_lines

        with Ranks.of_torchrun() as ranks:
            if not ranks.is_first:
                advance.hide()
            report = growkernels.grow_checkpoint(
                src,
                dst,
                max_shard_size=max_shard_size,
                overwrite=overwrite,
                no_verify=no_verify,
                verify_logits=verify_logits,
                allow_nonfinite=allow_nonfinite,
                optimizer=optimizer,
                device=device,
                on_progress=advance,
                strip_prefix=strip_prefix,
                ranks=ranks,
                fit=fit.make_fit(
                    fit.given(ctx),
                    growth,
                    fit_text,
                    fit_steps,
                    lr=fit_lr,
                    warmup=fit_warmup,
                    batch=fit_batch,
                    length=fit_length,
                    checkpoint=fit_checkpoint,
                ),
                **growth,
            )
    if not ranks.is_first:
        return
    if json:
        print_json(report.to_json())
    else:
        results.print(growth_report(report))
        results.print(load_lines(report.plan, report.target), soft_wrap=True)

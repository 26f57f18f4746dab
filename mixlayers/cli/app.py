"""The commands and their options. What they do is imported when they run, so that --help is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixlayers import __version__
from mixlayers.cli.stop import one_line

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Mixup, CutMix, Manifold Mixup and PatchUp at any layer of a model you already have.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mixlayers {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The options of the command itself."""


@app.command()
def demo(
    data: Annotated[str, typer.Option(help="mnist5k, digits, fashion or cifar10:PATH.")] = "mnist5k",
    labels_per_class: Annotated[int, typer.Option(min=1, help="Training images of each class.")] = 10,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training images. By default as many as make 200 steps."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs of each method, each with its own split and initial weights. Default: 3."
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names separated by commas, or all. By default plain, mixup, cutmix, manifold, patchup-hard, "
            "patchup-soft; there are also fmix, hmix, gmix, resizemix, specmix, remix, noisy, align, moex, mixstyle, "
            "dsu, padain and dropblock.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json and the pictures.")] = Path(
        "mixlayers-demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed and 80 steps: a fraction of the time.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Runs at a time. By default one per processor core, at most 8.", show_default=False
        ),
    ] = None,
    framework: Annotated[
        str, typer.Option(help="torch, paddle, chainer, jax or keras (on JAX, or on KERAS_BACKEND).")
    ] = "torch",
) -> None:
    """Train a small network on few labels with each method, and compare.

    The data come with installed packages, but for CIFAR-10, which you have: its python batches, an image folder or one
    packed file. Nothing is downloaded.
    Ends with a table; results.json and pictures stay in the output folder.
    """
    from mixlayers.cli.demo import Choices, run_demo

    with one_line():
        run_demo(
            Choices.checked(
                data=data,
                labels_per_class=labels_per_class,
                epochs=epochs,
                seeds=seeds,
                methods=methods,
                out=out,
                quick=quick,
                framework=framework,
                workers=workers,
            )
        )


@app.command()
def audit(
    model: Annotated[
        str,
        typer.Argument(
            help="package.module:callable that returns a torch module, or a model's name in torchvision, timm or "
            "pytorchcv (resnet20_cifar10).",
            show_default=False,
        ),
    ],
    shape: Annotated[
        str | None,
        typer.Option(
            help="Of one input, without the batch. By default what the model declares, or 3,224,224.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show each layer of repeated blocks in a row of its own.")
    ] = False,
) -> None:
    """Show at which layers of a model all of it can be mixed."""
    from mixlayers.cli.audit import run_audit

    with one_line():
        run_audit(model, shape, folded=not every)

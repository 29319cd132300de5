"""`jaxcam train`: a network from scratch, or the first layers of one."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, note
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    cls=Command,
    short_help="Train a network on images; or its first layers only.",
    epilog="\b\nExamples:\n"
    "  jaxcam train --out runs/train\n"
    "  jaxcam train --data cifar10 --data-dir data --model vgg11 --out runs/vgg11\n"
    "  jaxcam train --data cifar10 --data-dir data --model vgg11 --convolutions 4 --out runs/cut",
)
@options.data("digits")
@click.option(
    "--model",
    metavar="MODEL",
    default="alexnet",
    show_default=True,
    help="alexnet, vgg11, squeezenet1_1 or resnet50; package.module:factory, called without arguments, for a Flax NNX "
    "module of yours; or a training run or checkpoint, whose weights are trained further.",
)
@click.option(
    "--convolutions",
    metavar="N",
    type=options.Whole(1),
    help="Keep only the first N convolutions of alexnet (of 5) or vgg11 (of 8), with a new head: layer pruning.",
)
@click.option("--epochs", metavar="N", type=options.Whole(1), default=30, show_default=True)
@click.option("--batch", metavar="N", type=options.Whole(1), default=128, show_default=True)
@click.option(
    "--learning-rate", metavar="RATE", type=options.Number(), default=1e-3, show_default=True, help="Of Adam."
)
@click.option(
    "--weight-decay",
    metavar="RATE",
    type=options.Number(),
    default=1e-5,
    show_default=True,
    help="L2, added to the gradient.",
)
@click.option(
    "--seed",
    metavar="N",
    type=options.SEED,
    default=0,
    show_default=True,
    help="Of the weights, the order of images and dropout.",
)
@click.option(
    "--image-size",
    metavar="PIXELS",
    type=options.Whole(1),
    help="Bring images to this height and width; default: 32 for digits, mnist and cifar10, else 224.",
)
@options.normalize
@click.option(
    "--keep-every",
    metavar="N",
    type=options.Whole(1),
    help="Keep the network of every Nth epoch too, to watch its units evolve.",
)
@options.out
@options.quiet
@click.pass_context
def train(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Train a network on images, with the settings of the thesis: Adam, no augmentation, the last epoch kept.

    Writes model.safetensors, history.csv and history.png to --out. Stopped at any moment, the same command goes on and
    ends with the same numbers as without the interruption.
    """
    run = RunDirectory("train", out, ctx.params, overwrite=overwrite)
    from jaxcam import training
    from jaxcam.cli.datasets import splits
    from jaxcam.cli.networks import new_network
    from jaxcam.viewing import figures

    train, test = splits(given, given["data"], progress=bars(quiet))
    network = new_network(
        given["model"],
        train,
        convolutions=given["convolutions"],
        normalize=given["normalize"],
        seed=given["seed"],
    )
    with run:
        if run.goes_on:
            note(f"going on with the unfinished training in {out}", quiet=quiet)
        names = ("epochs", "batch", "learning_rate", "weight_decay", "seed", "keep_every")
        settings: dict[str, Any] = {name: given[name] for name in names}
        history = training.train(network.model, train, test, out=out, progress=bars(quiet), **settings)
        tested = training.evaluate(network.model, test)
        figures.save(figures.history([epoch._asdict() for epoch in history]), out / "history.png")
        classes = train.names
        results = {
            **history[-1]._asdict(),
            "classes": classes,
            "per_class_accuracy": {
                name: float(share) for name, share in zip(classes, tested.per_class, strict=True) if share == share
            },
        }
        run.finish(model=network.describe(), data=train.describe(), seed=given["seed"], results=results)
    click.echo(f"{tested.accuracy:.1%} of {test.count} test images right after {history[-1].epoch} epochs: {out}")
    return results

"""`jaxcam layers`: what can be named inside a network."""

from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import table
from jaxcam.cli.group import Command

NETWORKS = (
    ("alexnet", 5, "11×11, 5×5 and 3×3 convolutions (Krizhevsky 2014)"),
    ("vgg11", 8, "3×3 convolutions (Simonyan and Zisserman 2014)"),
    ("squeezenet1_1", 26, "fire modules, 5 MB of weights (Iandola et al. 2016)"),
    ("resnet50", 53, "residual blocks with batch norm (He et al. 2015)"),
)


@click.command(
    cls=Command,
    short_help="List a network's layers: the names that other commands take.",
    epilog="\b\nExamples:\n"
    "  jaxcam layers\n"
    "  jaxcam layers resnet50\n"
    "  jaxcam layers vgg11 --image-size 32 --classes 10\n"
    "  jaxcam layers runs/train\n"
    "  jaxcam layers mynetworks:make --image-size 64 --channels 1",
)
@click.argument("model", required=False)
@click.option("--image-size", metavar="PIXELS", type=options.Whole(1), help="Default: the network's own, or 224.")
@click.option("--channels", metavar="N", type=options.Whole(1), help="Of the images; default: the network's own, or 3.")
@click.option("--classes", metavar="N", type=options.Whole(1), help="Of a network by name; default: 1000.")
@click.option("--convolutions", metavar="N", type=options.Whole(1), help="Of a network by name: the first N only.")
def layers(model: str | None, **given: Any) -> None:
    """List the layers of MODEL; without MODEL, the networks there are.

    MODEL is a name, the directory of a training run, a checkpoint, or package.module:factory. Parameters are those
    under the layer's own name; the total includes those of batch norm, which stand under others.
    """
    if model is None:
        click.echo(table(["model", "convolutions", ""], NETWORKS))
        click.echo("\nor a training run, a checkpoint, or package.module:factory")
        return
    import jax
    import jax.numpy as jnp

    from jaxcam import models
    from jaxcam.cli.networks import open_network, refuse
    from jaxcam.cli.weighing import of_layers, parameters
    from jaxcam.program import layers as layers_of

    if model in models.names():
        network: Any = models.load(model, **given)
    else:
        refuse(model, classes=given["classes"], convolutions=given["convolutions"])
        network = open_network(model).model
    config = getattr(network, "config", None)
    size = given["image_size"] or getattr(config, "image_size", 224)
    shape = (1, size, size, given["channels"] or getattr(config, "channels", 3))
    found = layers_of(network, jax.ShapeDtypeStruct(shape, jnp.float32))
    counts = of_layers(network, [layer.name for layer in found])
    rows = [
        (
            layer.name,
            layer.kind,
            " × ".join(map(str, layer.shape)),
            layer.units,
            f"{count:,}" if count and layer.kind in ("conv", "dense") else "",
        )
        for layer, count in zip(found, counts, strict=True)
    ]
    click.echo(table(["name", "kind", "shape", "units", "parameters"], rows))
    click.echo(f"\n{len(found)} layers, {parameters(network):,} parameters, images {' × '.join(map(str, shape[1:]))}")

"""`jaxcam layers`: what can be named inside a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import note, table
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
    "  jaxcam layers resnet50 --rules epsilon_plus\n"
    "  jaxcam layers squeezenet1_1 --graph squeezenet.svg\n"
    "  jaxcam layers runs/train --weights weights.png\n"
    "  jaxcam layers mynetworks:make --image-size 64 --channels 1",
)
@click.argument("model", required=False)
@click.option("--model", "same", metavar="MODEL", help="MODEL, as other commands have it.")
@click.option("--image-size", metavar="PIXELS", type=options.Whole(1), help="Default: the network's own, or 224.")
@click.option("--channels", metavar="N", type=options.Whole(1), help="Of the images; default: the network's own, or 3.")
@click.option("--classes", metavar="N", type=options.Whole(1), help="Of a network by name; default: 1000.")
@click.option("--convolutions", metavar="N", type=options.Whole(1), help="Of a network by name: the first N only.")
@click.option("--rules", metavar="COMPOSITE", help="List instead which rule of relevance each equation gets.")
@click.option(
    "--graph",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also draw which layer reads which, as .svg, .pdf or .png.",
)
@click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Also draw the filters of the first convolution and the spread of every layer's weights.",
)
def layers(
    model: str | None, same: str | None, rules: str | None, graph: Path | None, weights: Path | None, **given: Any
) -> list[dict[str, Any]]:
    """List the layers of MODEL; without MODEL, the networks there are.

    MODEL is a name, the directory of a training run, a checkpoint, or package.module:factory. Parameters are those
    under the layer's own name; the total includes those of batch norm, which stand under others. MFLOP is the work of
    its kernel for one image, and it sees so many pixels, padding included. --rules takes a composite of layer-wise
    relevance propagation (epsilon_plus, epsilon_alpha2_beta1_flat, …) and runs nothing.
    """
    if model is not None and same is not None:
        raise click.UsageError(f"MODEL is {model}, and --model is {same}; give one of them")
    model = model if same is None else same
    if model is None:
        for option, value in {"--graph": graph, "--weights": weights, **given_options(given)}.items():
            if value is not None:
                raise click.UsageError(f"{option} is about a network; say which: jaxcam layers MODEL {option} …")
        if rules is not None:
            raise click.UsageError("--rules is about a network's equations; say which: jaxcam layers MODEL --rules …")
        click.echo(table(["model", "convolutions", ""], NETWORKS))
        click.echo("\nor a training run, a checkpoint, or package.module:factory")
        return [dict(zip(("model", "convolutions", "about"), row, strict=True)) for row in NETWORKS]
    import jax
    import jax.numpy as jnp

    from jaxcam import models
    from jaxcam.cli.calling import outputs_of
    from jaxcam.cli.networks import open_network, refuse
    from jaxcam.cli.photographs import USUAL
    from jaxcam.cli.weighing import constants, of_layers, parameters
    from jaxcam.program import layers as layers_of
    from jaxcam.program.costs import costs, edges

    if model in models.names():
        network: Any = models.load(model, **given)
        own = network.config.image_size
    else:
        refuse(model, classes=given["classes"], convolutions=given["convolutions"])
        opened = open_network(model)
        network, own = opened.model, opened.image_size
    config = getattr(network, "config", None)
    size = given["image_size"] or own or USUAL
    shape = (1, size, size, given["channels"] or getattr(config, "channels", 3))
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    outputs_of(network, model, shape)
    if rules is not None:
        return rule_table(network, images, rules)
    found = layers_of(network, images)
    if not (given["image_size"] or own):
        note(f"{model} does not say its size: layers are those for {size}×{size}; --image-size PIXELS sets another")
    work = costs(network, images)
    if graph is not None:
        from jaxcam.viewing import figures

        read = edges(network, images)
        figures.save(figures.network_graph(found, read, title=model), graph)
    if weights is not None:
        from jaxcam.program.kernels import kernels
        from jaxcam.viewing import figures

        figures.save(figures.weights(kernels(network, images), title=model), weights)
    counts = of_layers(network, [layer.name for layer in found])
    rows = [
        (
            layer.name,
            layer.kind,
            " × ".join(map(str, layer.shape)),
            layer.units,
            f"{count:,}" if count and layer.kind in ("conv", "dense") else "",
            f"{cost.operations / 1e6:,.2f}" if cost.operations else "",
            "all" if cost.field is None else " × ".join(map(str, cost.field)),
        )
        for layer, count, cost in zip(found, counts, work, strict=True)
    ]
    click.echo(table(["name", "kind", "shape", "units", "parameters", "MFLOP", "sees"], rows))
    total = sum(cost.operations for cost in work) / 1e9
    learned = parameters(network) or constants(network, images)
    click.echo(
        f"\n{len(found)} layers, {learned:,} parameters, {total:,.2f} GFLOP, images {' × '.join(map(str, shape[1:]))}"
    )
    return [
        {
            "name": layer.name,
            "kind": layer.kind,
            "shape": layer.shape,
            "units": layer.units,
            "parameters": count,
            "operations": cost.operations,
            "sees": cost.field,
        }
        for layer, count, cost in zip(found, counts, work, strict=True)
    ]


def given_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options by the names a user types."""
    return {f"--{name.replace('_', '-')}": value for name, value in given.items()}


def rule_table(network: Any, images: Any, composite: str) -> list[dict[str, Any]]:
    """Says the audit of a network: its equations, grouped as rules see them, with the rule of each group."""
    from jaxcam.attribution import audit

    found = audit(network, images, composite)
    rows = [
        (row.layer or "(images)", row.kind, row.rule, " ".join(row.equations), " × ".join(map(str, row.shape[1:])))
        for row in found
    ]
    without = sum(row.kind == "none" for row in found)
    equations = sum(len(row.equations) for row in found)
    verdict = f"{without} without a rule: relevance is refused" if without else "all have a rule"
    click.echo(table(["layer", "kind", "rule", "equations", "shape"], rows) + f"\n\n{equations} equations; {verdict}")
    return [{name: getattr(row, name) for name in ("layer", "kind", "rule", "equations", "shape")} for row in found]

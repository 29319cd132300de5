"""`jaxcam linear-piece`: the exact linear function that a network is around each picture."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    "linear-piece",
    cls=Command,
    short_help="Give the exact linear function W·x + b that a network is around a picture.",
    epilog="\b\nExamples:\n"
    "  jaxcam linear-piece photos/ --model runs/train --out runs/pieces\n"
    "  jaxcam linear-piece cat.jpg --model squeezenet1_1 --weights squeezenet1_1.safetensors --target 281 --out runs/p",
)
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.network(None)
@click.option("--target", metavar="CLASS", help="The class, by number or name; default: the predicted one of each.")
@options.classes
@options.limit
@click.option(
    "--directions",
    metavar="N",
    type=options.Whole(1),
    default=8,
    show_default=True,
    help="Random directions in which the distance to the first facet is measured; the shortest is reported.",
)
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True, help="Of the directions.")
@click.option("--batch", metavar="N", type=options.Whole(1), default=8, show_default=True, help="Images at once.")
@options.out
@options.quiet
@click.pass_context
def linear_piece(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Give the exact linear function that a network of ReLUs and max pools is around each IMAGE, a file or a folder.

    Writes pieces.npz (W and b of the class explained, the images, their polytopes), images.csv (what W·x + b and the
    network say, the polytope, how far its first facet is), sharing.csv (how many images share a layer's switches) and
    linear_piece.png to --out.
    """
    run = RunDirectory("linear-piece", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli import facets

    asked = facets.asked(given, quiet=quiet)
    with run:
        found = facets.measured(asked, given["directions"], given["seed"], given["batch"])
        facets.write(asked, found, out)
        results = facets.results(found)
        run.finish(
            model=asked.network.describe(), data=asked.photographs.describe(), seed=given["seed"], results=results
        )
    header = ["image", "explained", "output", "W·x + b", "error", "first facet", "in"]
    click.echo(table(header, facets.said(found)))
    click.echo("\n" + table(["layer", "switches", "groups", "not alone", "with all above"], facets.shared(found)))
    click.echo(f"\n{out}")
    return results

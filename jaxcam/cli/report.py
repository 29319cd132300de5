"""`jaxcam report`: an atlas that a stranger can read."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import table
from jaxcam.cli.group import Command


@click.command(
    cls=Command,
    short_help="Turn runs into an atlas that a stranger can read.",
    epilog="\b\nExamples:\n  jaxcam report demo\n  jaxcam report runs --out atlas --units all\n"
    "  jaxcam report runs --out page.html\n  jaxcam report runs --network vgg11",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder; default: report in RUN. A name that ends in .html gets a single page instead, for a mail.",
)
@click.option(
    "--units",
    type=click.Choice(["auto", "all", "extreme"]),
    default="auto",
    show_default=True,
    help="Which units get a picture: all, or those that the sweep keeps, the least and the most similar. auto: all "
    "where images are small.",
)
@click.option(
    "--images",
    metavar="N",
    type=options.Whole(0),
    help="For each unit, the nine of N images of the data that excite it most, evenly from all classes; 0: none. "
    "Default: 500 where images are small and need no download.",
)
@click.option(
    "--network",
    metavar="NAME",
    help="Which one, where RUN holds runs of several networks, as their index calls it. Default: all, with pages of "
    "their own, and an index.",
)
@click.option("--model", metavar="MODEL", help="Where the network is now, if it was moved.")
@click.option("--weights", metavar="FILE", help="Where its weights are now, of a network given by its name.")
@options.quiet
def report(run: Path, out: Path | None, quiet: bool, network: str | None, **given: Any) -> dict[str, Any]:
    """Build a folder of pages about RUN, a run directory, or a directory of several; open its index.html.

    The network, every layer with all its units, every unit, every class, every study, and summary.html, all of it on
    one page. Of several networks each gets a folder of pages, and index.html is their index. It needs no network and no
    server. It is written anew each time; maps that were computed are kept.
    """
    from jaxcam.cli.networks import refuse
    from jaxcam.viewing.networks import pages_of, reported

    networks = reported(run, network)
    single = out is not None and out.suffix == ".html"
    place = {name: given[name] for name in ("model", "weights")}
    if single:
        from jaxcam.viewing.report import report as write_page

        refuse("a single page, for which none is opened", **place)
        path = write_page(run, out, network=network)
    else:
        from jaxcam.cli.atlas import write

        if len(networks) > 1:
            names = ", ".join(entry.name for entry in networks)
            refuse(f"{len(networks)} networks ({names}) at once without --network", **place)
        path = write(run, out, quiet=quiet, network=network, **given)
    written = [
        {"network": entry.name, "runs": [str(own.path) for own in entry.runs], "page": page}
        for entry, page in zip(networks, pages_of(networks, path, single=single), strict=True)
    ]
    if len(networks) > 1:
        rows = [
            (entry.name, ", ".join(entry.commands), row["page"]) for entry, row in zip(networks, written, strict=True)
        ]
        click.echo(f"{table(['network', 'runs', 'page'], rows)}\n")
    click.echo(path)
    return {"report": path, "networks": written}

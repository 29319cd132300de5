"""`jaxcam report`: an atlas that a stranger can read."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.group import Command


@click.command(
    cls=Command,
    short_help="Turn runs into an atlas that a stranger can read.",
    epilog="\b\nExamples:\n  jaxcam report demo\n  jaxcam report runs --out atlas --units all\n"
    "  jaxcam report runs --out page.html",
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
@click.option("--model", metavar="MODEL", help="Where the network is now, if it was moved.")
@click.option("--weights", metavar="FILE", help="Where its weights are now, of a network given by its name.")
@options.quiet
def report(run: Path, out: Path | None, quiet: bool, **given: Any) -> dict[str, Path]:
    """Build a folder of pages about RUN, a run directory, or a directory of several; open its index.html.

    The network, every layer with all its units, every unit, every class, every study, and summary.html, all of it on
    one page. It needs no network and no server. It is written anew each time; maps that were computed are kept.
    """
    if out is not None and out.suffix == ".html":
        from jaxcam.viewing.report import report as write_page

        path = write_page(run, out)
    else:
        from jaxcam.cli.atlas import write

        path = write(run, out, quiet=quiet, **given)
    click.echo(path)
    return {"report": path}

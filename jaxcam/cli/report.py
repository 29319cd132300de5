"""`jaxcam report`: a page that a stranger can read."""

from pathlib import Path

import click

from jaxcam.cli.group import Command


@click.command(
    cls=Command,
    short_help="Turn runs into one page that a stranger can read.",
    epilog="\b\nExamples:\n  jaxcam report demo\n  jaxcam report runs --out page.html",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="The page; default: report.html in RUN.")
def report(run: Path, out: Path | None) -> dict[str, Path]:
    """Write one self-contained page about RUN, a run directory, or a directory of several.

    The page needs no network and no other file: curves to hover over, maps of the units, what was measured and how to
    do it again. It is written anew each time.
    """
    from jaxcam.viewing.report import report as write_report

    path = write_report(run, out)
    click.echo(path)
    return {"report": path}

"""`jaxcam landscape`: what the loss is around a trained network, and on its way there."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, note
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    cls=Command,
    short_help="Draw the loss around a network, to another one, or along its training.",
    epilog="\b\nExamples:\n"
    "  jaxcam landscape --model runs/train --limit 500 --out runs/landscape\n"
    "  jaxcam landscape --model runs/train --dimensions 1 --points 101 --out runs/line\n"
    "  jaxcam landscape --model runs/a --to runs/b --span -0.5 1.5 --out runs/between\n"
    "  jaxcam landscape --model runs/train --trajectory --out runs/path",
)
@options.network(None)
@click.option("--to", metavar="MODEL", help="Another network of the same shape: the straight line between the two.")
@click.option("--trajectory", is_flag=True, help="The plane in which the training went, from the epochs it kept.")
@click.option(
    "--dimensions", type=options.Whole(1, 2), default=2, show_default=True, help="How many random directions."
)
@click.option(
    "--span", nargs=2, type=options.Number(), metavar="FROM TO", help="Steps; default: −1 to 1, and 0 to 1 with --to."
)
@click.option(
    "--points", metavar="N", type=options.Whole(2), default=51, show_default=True, help="Along each direction."
)
@click.option(
    "--normalize-by",
    type=click.Choice(["filter", "layer", "none"]),
    default="filter",
    show_default=True,
    help="What a random direction is as long as: the weights of each filter, of each layer, or nothing.",
)
@click.option(
    "--statistics",
    type=click.Choice(["kept", "batch"]),
    default="kept",
    show_default=True,
    help="Of batch norm at each point: the trained network's, as in the literature, or those of each batch.",
)
@options.data(None)
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
@options.outputs
@options.candidates("the softmax of the loss")
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True, help="Of the directions.")
@click.option("--batch", metavar="N", type=options.Whole(1), default=100, show_default=True, help="Images at once.")
@click.option(
    "--chunk",
    metavar="N",
    type=options.Whole(1),
    help="Points at once; more than one for each device pays on accelerators only.  [default: one for each device]",
)
@options.out
@options.quiet
@click.pass_context
def landscape(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Draw the loss over two random directions around a trained network, as contours and as a surface.

    Writes landscape.npz (axes, loss, checkpoints in the plane), landscape.png and, over two directions, landscape.html
    to turn by hand, to --out. Stopped at any moment, the same command goes on where it was.
    """
    run = RunDirectory("landscape", out, ctx.params, overwrite=overwrite)
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from jaxcam.cli import surfaces
    from jaxcam.cli.class_images import write_npz
    from jaxcam.viewing import figures

    asked = surfaces.asked(given, progress=bars(quiet))
    with run:
        if run.goes_on:
            note(f"going on with the unfinished landscape in {out}", quiet=quiet)
        with Progress(console=Console(stderr=True), disable=not bars(quiet), transient=True) as shown:
            task = shown.add_task("points", total=None)
            found = asked.compute(
                out=out / "points.npz",
                progress=lambda done, total: shown.update(task, completed=done, total=total),
            )
        arrays = {"values": found.values, "center": np.array(found.center)}
        arrays |= {f"axis_{index}": axis for index, axis in enumerate(found.axes)}
        if asked.path is not None:
            arrays |= {"path": asked.path.steps, "shares": asked.path.shares}
        write_npz(out / "landscape.npz", arrays)
        steps = None if asked.path is None else asked.path.steps
        figures.save(figures.landscape(found, path=steps, title=asked.title, names=asked.names), out / "landscape.png")
        if found.values.ndim == 2:
            figures.save_page(figures.turning_landscape(found, steps), out / "landscape.html")
        results = surfaces.results_of(found, asked)
        run.finish(model=asked.network.describe(), data=asked.described, seed=given["seed"], results=results)
    click.echo(f"{surfaces.summary(results)}\n\n{out}")
    return results

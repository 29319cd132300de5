"""`jaxcam neurons`: every unit of every layer, measured on every class."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.averages import KINDS
from jaxcam.cli.console import bars, note
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    cls=Command,
    short_help="Measure what every unit sees in a class, and how similar it is.",
    epilog="\b\nExamples:\n"
    "  jaxcam neurons --averages runs/averages --out runs/neurons\n"
    "  jaxcam neurons --model runs/train --average simple --out runs/neurons\n"
    "  jaxcam neurons --averages runs/averages --layer features.conv3 --layer features.conv4 \\\n"
    "      --rule gradient --against confidence --out runs/neurons",
)
@click.option(
    "--averages",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="A run of jaxcam averages: its averages and its network are taken. Without it, both come from --model and "
    "--data.",
)
@click.option(
    "--average",
    type=click.Choice(KINDS),
    default="most",
    show_default=True,
    help="Which class average the units are shown.",
)
@options.layers
@click.option(
    "--rule",
    type=click.Choice(["guided", "gradient", "deconv", "integrated"]),
    default="guided",
    show_default=True,
    help="How a unit is followed back to the image.",
)
@click.option(
    "--against",
    type=click.Choice(["image", "confidence"]),
    default="image",
    show_default=True,
    help="What a unit's map is compared with: the average itself, or the map of the class's score.",
)
@click.option(
    "--metric",
    type=click.Choice(["cosine", "euclidean", "hamming", "histogram", "perceptual_hash"]),
    default="cosine",
    show_default=True,
)
@click.option(
    "--steps", metavar="N", type=options.Whole(1), default=32, show_default=True, help="Of integrated gradients."
)
@options.network("that of --averages")
@options.data(None)
@options.KEPT
@options.outputs
@options.candidates("the softmax by which images are chosen for most and least (with --averages: as in that run)")
@click.option(
    "--precision",
    type=click.Choice(["float32", "tensorfloat32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the matrix products. With fewer bits the first class is measured in float32 as well, to tell what that "
    "changes.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    type=options.Size(),
    help="That the process may take (of a GPU, where it is one), as 2GB: decides how many units go back at once. "
    "Default: half of what there is, in use or not.",
)
@click.option(
    "--distributed",
    is_flag=True,
    help="This is one of several processes, on one host or on many, that give the same command and share --out. Slurm, "
    "Kubernetes and Open MPI say which is which; elsewhere the next three options do.",
)
@click.option("--coordinator", metavar="HOST:PORT", help="Where process 0 can be reached; any free port.")
@click.option("--processes", metavar="N", type=options.Whole(1), help="How many there are.")
@click.option("--process", metavar="I", type=options.Whole(0), help="Which this one is, from 0.")
@click.option(
    "--patience",
    metavar="SECONDS",
    type=options.Number(1),
    default=60,
    show_default=True,
    help="Without a sign of life of another process until it is taken for lost.",
)
@options.out
@options.quiet
@click.pass_context
def neurons(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Follow every unit back to the image, for every class, and measure how similar its map is to the class average.

    Writes sweep.zarr (for xarray), similarity.csv and pictures (of extreme units for the first class only) to --out.
    Stopped at any moment, even killed, the same command goes on and ends with bitwise the same store. So do several
    processes (--distributed), each with its part of the work, when they are started again, in any number.
    """
    me = meet(given)
    run = RunDirectory("neurons", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli.units import asked, draw, precision_changes, results_of, summary, without_places, write_similarity
    from jaxcam.neurons import sweep
    from jaxcam.program.memory import peak_bytes

    averages = asked(given, progress=bars(quiet))
    network, classes, described = averages.network, averages.classes, averages.data
    measure = functools.partial(
        sweep,
        network.model,
        averages.images,
        out / "sweep.zarr",
        classes=classes,
        outputs=network.outputs,
        layers=list(dict.fromkeys(given["layer"])) or None,
        rule=given["rule"],
        against=given["against"],
        metric=given["metric"],
        steps=given["steps"],
        describe={
            "model": without_places(network.describe()),
            "data": without_places(described),
            "seed": network.trained.get("seed"),
            "average": given["average"],
        },
        precision=given["precision"],
        memory=given["memory"],
        progress=bars(quiet),
        processes=me,
    )
    if me is not None and me.index > 0:  # the first one writes everything but the store
        measure()
        return {}
    with run:
        if run.goes_on:
            note(f"going on with the unfinished sweep in {out}", quiet=quiet)
        found = measure()
        write_similarity(out / "similarity.csv", found)
        draw(found, out)
        results = {
            **results_of(found),
            "memory": {"budget": given["memory"], "peak": peak_bytes()},
            "pictures": averages.pictures,
        }
        if given["precision"] != "float32":
            results["precision"] = precision_changes(network, found)
        run.finish(model=network.describe(), data=described, seed=network.trained.get("seed"), results=results)
    missed = averages.missed()
    click.echo(f"{summary(results)}\n{missed}\n{out}" if missed else f"{summary(results)}\n\n{out}")
    return results


def meet(given: Mapping[str, Any]) -> Any:
    """This process among the others, if there are others."""
    where = {name: given[name] for name in ("coordinator", "processes", "process")}
    if not given["distributed"]:
        if any(value is not None for value in where.values()):
            raise click.UsageError("--coordinator, --processes and --process go with --distributed")
        return None
    from jaxcam.neurons import join

    return join(**where, patience=given["patience"])

"""`jaxcam maximize`: the pictures that classes and units would like best, beside the real images that they do."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, note, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    cls=Command,
    short_help="Draw what excites classes and units most (activation maximization).",
    epilog="\b\nExamples:\n"
    "  jaxcam maximize --model squeezenet1_1 --weights squeezenet1_1.safetensors --target 1 --target 283 --out runs/m\n"
    "  jaxcam maximize --model runs/train --layer features.conv3 --most 32 --out runs/conv3\n"
    "  jaxcam maximize --model runs/train --target 0 --frames --out runs/learning\n"
    "  jaxcam maximize --model runs/train --images photos/ --from-mean --answers 3 --out runs/dream",
)
@options.network(None)
@click.option("--layer", metavar="NAME", help="Units of this layer, as jaxcam layers lists it; default: the outputs.")
@click.option(
    "--target",
    multiple=True,
    metavar="UNIT",
    help="A class or unit, by number or name; may be repeated. Default: all, or --most of them.",
)
@click.option(
    "--most", metavar="N", type=options.Whole(1), default=48, show_default=True, help="At most N units, evenly."
)
@click.option("--together", is_flag=True, help="One picture for the sum of all --target, not one for each.")
@options.classes
@click.option("--steps", metavar="N", type=options.Whole(1), default=128, show_default=True, help="Of Adam.")
@click.option(
    "--learning-rate",
    metavar="RATE",
    type=options.Number(0, above=True),
    default=0.05,
    show_default=True,
    help="Of Adam.",
)
@click.option(
    "--score",
    type=click.Choice(["output", "probability"]),
    default="output",
    show_default=True,
    help="What is raised: the unit, or the logarithm of the class's probability.",
)
@click.option(
    "--space",
    type=click.Choice(["sum", "center"]),
    default="sum",
    show_default=True,
    help="Of a unit with space, all of it or its one value in the middle.",
)
@click.option(
    "--canvas",
    type=click.Choice(["fourier", "pixel"]),
    default="fourier",
    show_default=True,
    help="What the picture is made of: waves, or pixels.",
)
@click.option("--plain-colors", is_flag=True, help="Channels apart, not mixed as photographs mix them.")
@click.option("--jitter", metavar="PIXELS", type=options.Whole(0), help="Default: a fourteenth of the image's side.")
@click.option("--rotation", metavar="DEGREES", type=options.Number(0), default=10.0, show_default=True)
@click.option(
    "--scale",
    metavar="SHARE",
    type=options.Number(0, 1, below=True),
    default=0.2,
    show_default=True,
    help="Larger or smaller at most.",
)
@click.option(
    "--l2", metavar="WEIGHT", type=options.Number(0), default=0.0, help="Of the squared distance from the start."
)
@click.option("--tv", metavar="WEIGHT", type=options.Number(0), default=0.0, help="Of the total variation.")
@click.option(
    "--blur", metavar="PIXELS", type=options.Number(0), default=0.0, help="Blur the picture after every fourth step."
)
@click.option(
    "--center",
    metavar="WIDTH",
    type=options.Number(0, 1, above=True),
    help="Draw in the middle only: this share of half the side, such as 0.5.",
)
@click.option("--answers", metavar="N", type=options.Whole(1), default=1, show_default=True, help="Pictures of each.")
@click.option(
    "--diversity", metavar="WEIGHT", type=options.Number(0), default=0.0, help="Of how alike they are at --differ-in."
)
@click.option("--differ-in", metavar="LAYER", help="Where several answers shall differ.")
@click.option(
    "--images",
    multiple=True,
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="Real pictures, files or folders, of which the nine most exciting are shown; may be repeated.",
)
@click.option("--from-mean", is_flag=True, help="Start from the mean of the real images.")
@click.option("--frames", is_flag=True, help="Draw the same for every epoch that the training in --model kept.")
@options.data(None)
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True)
@click.option("--batch", metavar="N", type=options.Whole(1), default=8, show_default=True, help="Units at once.")
@options.out
@options.quiet
@click.pass_context
def maximize(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Find for each class, or each unit of a layer, the picture that excites it most.

    Beside it stand the nine most exciting of the real images: those of --images, or of --data, or what the network was
    trained on. Writes maximized.npz (pictures, scores), units.csv, maximized.png and, with --frames, frames.npz and
    frames.png to --out.
    """
    run = RunDirectory("maximize", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli import excitement
    from jaxcam.viewing import figures

    asked = excitement.asked(given, progress=bars(quiet))
    with run:
        found = excitement.pictures(asked, asked.model, progress=bars(quiet))
        rows = excitement.rows(asked, found)
        excitement.write(asked, found, rows, out)
        titles = [row["name"] + (f" {row['probability']:.2f}" if "probability" in row else "") for row in rows]
        figures.save(figures.excitements(found.images, titles, real=asked.nine()), out / "maximized.png")
        results = {"layer": given["layer"], "units": rows}
        if given["frames"]:
            results["frames"] = excitement.frames(asked, out, progress=bars(quiet))
        described = None if asked.real is None else asked.described
        run.finish(model=asked.network.describe(), data=described, seed=given["seed"], results=results)
    if asked.left_out:
        note(f"{asked.left_out} more units are left out; --most and --target choose", quiet=quiet)
    shown = [
        [row["name"], f"{row['score']:.4g}", *([f"{row['probability']:.3f}"] if "probability" in row else [])]
        for row in rows
    ]
    header = ["unit", "score", *(["probability"] if "probability" in rows[0] else [])]
    click.echo(f"{table(header, shown)}\n\n{out}")
    return results

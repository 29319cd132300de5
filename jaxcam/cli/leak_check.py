"""`jaxcam leak-check`: does a network look at what gives the class away?"""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import note, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    "leak-check",
    cls=Command,
    short_help="Tell whether a network looks at what gives the class away.",
    epilog="\b\nExamples:\n"
    "  jaxcam leak-check --out runs/leak\n"
    "  jaxcam leak-check --data cifar10 --data-dir data --model vgg11 --epochs 5 --out runs/leak\n"
    "  jaxcam leak-check --model runs/train --region 0,0,6,12 --out runs/suspect",
)
@options.data(None)
@click.option(
    "--model",
    metavar="MODEL",
    default="alexnet",
    show_default=True,
    help="What is trained twice, as in jaxcam train; with --region or --mask a trained network, as in jaxcam explain.",
)
@click.option(
    "--region",
    metavar="TOP,LEFT,HEIGHT,WIDTH",
    help="Plant nothing: ask the trained network of --model about this rectangle, in pixels.",
)
@click.option(
    "--mask",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The same with a picture as large as the images: the region is where it is lighter than half.",
)
@click.option(
    "--rectangle",
    metavar="TOP,LEFT,HEIGHT,WIDTH",
    help="Where colors are planted, in pixels; default: a fifth of the image near its top left corner.",
)
@click.option("--epochs", metavar="N", type=options.Whole(1), default=10, show_default=True, help="Of both trainings.")
@click.option("--train-batch", metavar="N", type=options.Whole(1), default=64, show_default=True, help="Of a step.")
@click.option(
    "--learning-rate", metavar="RATE", type=options.Number(), default=5e-4, show_default=True, help="Of Adam."
)
@click.option(
    "--explained", metavar="N", type=options.Whole(1), default=50, show_default=True, help="Images with maps."
)
@click.option("--samples", metavar="N", type=options.Whole(1), default=1000, show_default=True, help="Of LIME.")
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True)
@click.option("--batch", metavar="N", type=options.Whole(1), default=32, show_default=True, help="Images at once.")
@options.outputs
@options.candidates("the accuracy")
@click.option("--image-size", metavar="PIXELS", type=options.Whole(1), help="As in jaxcam train.")
@options.out
@options.quiet
@click.pass_context
def leak_check(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Plant a rectangle whose color says the class, train with and without it, and see who looks at it.

    Writes both networks (leaking/, clean/), leaks.csv, leaks.png, sheet.png (images under both networks' maps) and
    maps.npz to --out. With --region or --mask nothing is planted or trained: a trained network's attribution and
    accuracy are measured on a region that is suspected.
    """
    run = RunDirectory("leak-check", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli import suspicions
    from jaxcam.cli.class_images import write_npz
    from jaxcam.cli.figures_of_quality import write_csv
    from jaxcam.viewing import figures

    suspected = given["region"] is not None or given["mask"] is not None
    if suspected and given["rectangle"] is not None:
        raise ValueError("--rectangle plants a leak, --region and --mask look for one; give one of them")
    prepare = suspicions.suspect if suspected else suspicions.plant
    measure = prepare(given, quiet)
    with run:
        note("training twice" if not suspected else "measuring", quiet=quiet)
        found = measure(out)
        rows = suspicions.rows(found.checks)
        write_csv(out / "leaks.csv", list(rows[0]), [list(row.values()) for row in rows])
        maps = {f"{name}:{m}": v for name, check in found.checks.items() for m, v in check.maps.items()}
        first = next(iter(found.checks.values()))
        images = found.images[first.explained]
        write_npz(out / "maps.npz", {**maps, "images": images, "explained": first.explained, "region": found.region})
        figures.save(figures.leaks(found.checks, among=found.candidates.words), out / "leaks.png")
        shown = {name: values[:8] for name, values in maps.items()}
        figures.save(figures.contact_sheet(images[:8], shown, channels="absolute"), out / "sheet.png")
        results = {"checks": rows, "candidates": found.candidates.to_dict()}
        run.finish(model=found.model, data=found.data, seed=given["seed"], results=results)
    click.echo(table(*suspicions.said(rows)))
    click.echo(
        f"\nthe region is {first.area:.1%} of the image; × area: how many times that it has of the attribution; "
        f"accuracy on {first.count} images, among {found.candidates.words}\n\n{out}"
    )
    return results

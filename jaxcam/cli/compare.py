"""`jaxcam compare`: which method to believe? Quality figures and times of methods × images."""

import difflib
from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, note, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory

USUAL = ("grad_cam", "integrated_gradients", "saliency", "occlusion")


@click.command(
    cls=Command,
    short_help="Measure which method to believe: quality figures and times.",
    epilog="\b\nExamples:\n"
    "  jaxcam compare photos/ --model squeezenet1_1 --weights squeezenet1_1.safetensors --out runs/compare\n"
    "  jaxcam compare photos/ --limit 20 --model runs/train --method grad_cam --method rise --out runs/two\n"
    "  jaxcam compare cat.jpg dog.jpg --model runs/train --method all --figure insertion --out runs/all",
)
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.network(None)
@options.methods(", ".join(USUAL))
@click.option(
    "--figure",
    multiple=True,
    metavar="NAME",
    show_default="all four",
    help="deletion, insertion (areas under their curves), average_drop or average_increase; may be repeated.",
)
@click.option(
    "--steps", metavar="N", type=options.Whole(1), default=32, show_default=True, help="Of deletion and insertion."
)
@click.option("--target", metavar="CLASS", help="The class to explain; default: the predicted one of each image.")
@options.classes
@options.limit
@options.out
@options.quiet
@click.pass_context
def compare(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Measure how well the maps of several methods say what the network looks at, on each IMAGE, file or folder.

    Beside the methods stands a control, random maps, which a method has to beat. Seconds are those of an image in a
    batch, without compiling (with it where a single batch takes 5 s or more). Writes figures.csv (a row for each image,
    method and figure), summary.csv, summary.md and summary.png to --out; seconds stand in manifest.json.
    """
    run = RunDirectory("compare", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli import explanations, figures_of_quality
    from jaxcam.files import write_atomically
    from jaxcam.viewing import figures
    from jaxcam.viewing.reading import SMALL_IS_GOOD

    names = checked(given["figure"], list(figures_of_quality.FIGURES))
    asked = explanations.asked(given, USUAL, given["limit"], quiet=quiet)
    images = asked.photographs.images
    with run:
        maps, seconds, left_out = explanations.maps_of(asked, given, quiet=quiet, timed=True)
        explanations.check_any(maps, left_out)
        maps[figures_of_quality.CONTROL] = figures_of_quality.control(images, given["seed"])
        found = figures_of_quality.measured(
            asked, maps, names, steps=given["steps"], batch=given["batch"], progress=bars(quiet)
        )
        rows = figures_of_quality.summary(found, seconds)
        figures_of_quality.write_csv(
            out / "figures.csv",
            ["image", "method", "figure", "value"],
            [
                (image, method, name, float(value))
                for method, measured in found.items()
                for name, values in measured.items()
                for image, value in zip(asked.photographs.names, values, strict=True)
            ],
        )
        # Times stand in the manifest only: the same command gives the same tables to the byte.
        columns = [name for name in rows[0] if name != "seconds"]
        figures_of_quality.write_csv(out / "summary.csv", columns, [[row[name] for name in columns] for row in rows])
        text = figures_of_quality.markdown(rows, names, len(images))
        write_atomically(out / "summary.md", lambda file: file.write(text.encode()))
        figure = figures.comparison(found, small_is_good=SMALL_IS_GOOD, control=figures_of_quality.CONTROL)
        figures.save(figure, out / "summary.png")
        results = {
            "images": explanations.rows(asked),
            "figures": names,
            "methods": rows,
            "options": {name: explanations.plain_options(chosen) for name, chosen in asked.options.items()},
            "left_out": left_out,
        }
        run.finish(
            model=asked.network.describe(), data=asked.photographs.describe(), seed=given["seed"], results=results
        )
    for name, reason in left_out.items():
        note(f"{name} is left out: {reason}", quiet=quiet)
    click.echo(table(*figures_of_quality.cells(rows, names)))
    click.echo(f"\nmeans over {len(images)} images; ↓ small is good, ↑ large is good\n\n{out}")
    return results


def checked(given: tuple[str, ...], known: list[str]) -> list[str]:
    """Figures of quality, each once; all where none is named.

    Raises:
        ValueError: there is no such figure, with the closest.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean {near[0]!r}? There" if near else "there"
            raise ValueError(f"no figure {name!r}; {meant} are {', '.join(known)}")
    return list(dict.fromkeys(given)) or known

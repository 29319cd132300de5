"""`jaxcam explain`: why this answer? Several methods beside each other, on pictures of a user's own."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import note, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory

USUAL = ("grad_cam", "integrated_gradients", "guided_backprop")
REDUCTIONS = ("sum", "absolute", "maximum")


@click.command(
    cls=Command,
    short_help="Show where a network looked: several methods on pictures of yours.",
    epilog="\b\nExamples:\n"
    "  jaxcam explain cat.jpg --model squeezenet1_1 --weights squeezenet1_1.safetensors --out runs/cat\n"
    "  jaxcam explain photos/*.jpg --model runs/train --method grad_cam --method lime --target dog --out runs/dogs\n"
    "  jaxcam explain cat.jpg --model resnet50 --weights resnet50.pth --method grad_cam --layer layer3 --out runs/l3\n"
    "  jaxcam explain cat.jpg --model runs/train --method integrated_gradients --option steps=64 --out runs/ig",
)
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.network(None)
@options.methods(", ".join(USUAL))
@click.option(
    "--target", metavar="CLASS", help="The class to explain, by number or name; default: the predicted one of each."
)
@options.classes
@click.option(
    "--channels",
    type=click.Choice(REDUCTIONS),
    default="sum",
    show_default=True,
    help="What pictures make of a map's channels: their sum, with its sign; the sum or the maximum of absolute values.",
)
@options.out
@options.quiet
@click.pass_context
def explain(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Explain what a network says of each IMAGE: a file, or a folder of pictures.

    Writes maps.npz (raw maps by the methods' names, the images, the classes explained), sheet.png (all of it at a
    glance) and pictures/, one for each image, to --out. jaxcam compare measures which method to believe.
    """
    run = RunDirectory("explain", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli import explanations
    from jaxcam.cli.class_images import write_npz

    asked = explanations.asked(given, USUAL, quiet=quiet)
    with run:
        maps, seconds, left_out = explanations.maps_of(asked, given, quiet=quiet)
        explanations.check_any(maps, left_out)
        write_npz(out / "maps.npz", explanations.arrays(asked, maps))
        explanations.draw(asked, maps, out, given["channels"])
        results = {
            "images": explanations.rows(asked),
            "methods": {
                method.name: {"options": explanations.plain_options(asked.options[method.name]), "seconds": spent}
                for method in asked.methods
                if (spent := seconds.get(method.name)) is not None
            },
            "maps": {name: list(values.shape) for name, values in maps.items()},
            "left_out": left_out,
        }
        run.finish(
            model=asked.network.describe(), data=asked.photographs.describe(), seed=given["seed"], results=results
        )
    for name, reason in left_out.items():
        note(f"{name} is left out: {reason}", quiet=quiet)
    if asked.answers.names is None:
        note("nothing names the network's outputs; --classes FILE does, one name a line, in their order", quiet=quiet)
    click.echo(table(["image", "predicted", "", "explained", ""], explanations.said(asked)))
    click.echo(
        "\n" + table(["method", "s/image, with compiling"], [(name, f"{spent:.2f}") for name, spent in seconds.items()])
    )
    click.echo(f"\n{out}")
    return results

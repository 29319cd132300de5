"""`jaxcam averages`: one picture for each class, and what the network takes it for."""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory

KINDS = ("simple", "most", "least", "ascent")


@click.command(
    cls=Command,
    short_help="Average the images of each class; see what the network sees.",
    epilog="\b\nExamples:\n"
    "  jaxcam averages --model runs/train --out runs/averages\n"
    "  jaxcam averages --model runs/train --kind most,least -k 20 --out runs/averages\n"
    "  jaxcam averages --model resnet50 --weights resnet50.pth --data photos/ --out runs/averages",
)
@options.network(None)
@options.data(None)
@click.option(
    "--split", metavar="SPLIT", default="train", show_default=True, help="train or test: the images that are averaged."
)
@click.option(
    "--kind",
    metavar="KINDS",
    default=",".join(KINDS),
    show_default=True,
    help="simple: all images of a class; most, least: those K on which the network is most or least confident; ascent: "
    "the simple one changed until the network is confident.",
)
@click.option(
    "-k", "--images", metavar="K", type=options.Whole(1), default=50, show_default=True, help="Of most and least."
)
@click.option(
    "--threshold",
    metavar="P",
    type=options.Number(0, 1, above=True),
    default=0.99,
    show_default=True,
    help="Confidence at which ascent stops.",
)
@click.option("--steps", metavar="N", type=options.Whole(0), default=200, show_default=True, help="Of ascent, at most.")
@options.outputs
@options.out
@options.quiet
@click.pass_context
def averages(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Average the images of each class, four ways, and ask the network what it sees in the averages.

    Writes averages.npz, confidence.npz and both as pictures to --out. A network is unsure of a plain mean and sure of
    the mean of those images it is sure of: compare the diagonals in confidence.png.
    """
    run = RunDirectory("averages", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli.class_images import checked_kinds, compute, write_npz
    from jaxcam.cli.datasets import open_data
    from jaxcam.cli.networks import open_given
    from jaxcam.cli.outputs import select_outputs
    from jaxcam.viewing import figures

    kinds = checked_kinds(options.listed(given["kind"]))
    network = open_given(given)
    dataset, described = open_data(network, given["split"], given, progress=bars(quiet))
    network = select_outputs(network, dataset, given["outputs"])
    with run:
        images, confidence = compute(
            network.model,
            dataset,
            kinds,
            k=given["images"],
            threshold=given["threshold"],
            steps=given["steps"],
            progress=bars(quiet),
        )
        write_npz(out / "averages.npz", images)
        write_npz(out / "confidence.npz", confidence)
        figures.save(figures.averages(images, dataset.names), out / "averages.png")
        figures.save(figures.confidence(confidence, dataset.names), out / "confidence.png")
        own = {kind: [float(values[i, i]) for i in range(len(values))] for kind, values in confidence.items()}
        results = {"classes": dataset.names, "kinds": kinds, "own_confidence": own}
        run.finish(model=network.describe(), data=described, seed=network.trained.get("seed"), results=results)
    header = ["average", "mean confidence in its own class", "least", "class"]
    lowest = {kind: min(range(len(values)), key=values.__getitem__) for kind, values in own.items()}
    rows = [
        (kind, f"{sum(values) / len(values):.3f}", f"{min(values):.3f}", f"‘{dataset.names[lowest[kind]]}’")
        for kind, values in own.items()
    ]
    click.echo(f"{table(header, rows)}\n\n{out}")
    return results

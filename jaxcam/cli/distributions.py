"""`jaxcam distributions`: which law do the values of each stage follow?"""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory
from jaxcam.cli.significance import announced


@click.command(
    cls=Command,
    short_help="Test which law the values of each stage follow (Kolmogorov–Smirnov).",
    epilog="\b\nExamples:\n"
    "  jaxcam distributions cats/ --model squeezenet1_1 --weights squeezenet1_1.safetensors --out runs/laws\n"
    "  jaxcam distributions cats/ --model resnet50 --weights resnet50.pth --correction holm --out runs/holm\n"
    "  jaxcam distributions cats/ --model runs/train --layer features.conv3 --out runs/conv3",
)
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.network(None)
@click.option(
    "--layer",
    multiple=True,
    metavar="NAME",
    help="As jaxcam layers lists it; may be repeated. Default: the last of each stage. The logits are always tested.",
)
@options.limit
@click.option(
    "--draws",
    metavar="N",
    type=options.Whole(1),
    default=9_999,
    show_default=True,
    help="Number of random samples for the test; p is never below 1 / (N + 1).",
)
@click.option(
    "--correction",
    type=click.Choice(["benjamini-hochberg", "holm", "none"]),
    default="benjamini-hochberg",
    show_default=True,
    help="Correction for multiple tests: over all images, layers and laws.",
)
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True, help="Of the random samples.")
@click.option("--batch", metavar="N", type=options.Whole(1), default=8, show_default=True, help="Images at once.")
@options.out
@options.quiet
@click.pass_context
def distributions(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Test whether the values of a network's stages and its logits, on each IMAGE, are normal, log-normal or logistic.

    Of a stage, the mean over the channels at each place is tested, each image by itself. Writes distributions.csv (a
    row for each image, layer and law: the statistic as it was once published, D, p), summary.csv, values.npz and
    distributions.png to --out.
    """
    run = RunDirectory("distributions", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli import laws, photographs
    from jaxcam.cli.class_images import write_npz
    from jaxcam.cli.figures_of_quality import write_csv
    from jaxcam.cli.networks import open_given
    from jaxcam.viewing import figures

    files = photographs.found(given["images"], given["limit"])
    network = open_given(given)
    pictures = photographs.read(files, network, given["image_size"])
    photographs.say_size(network, given["image_size"], quiet=quiet)
    with run:
        values = laws.values_of(network, pictures, given["layer"], given["batch"], progress=bars(quiet))
        able = laws.able(values, given["draws"], given["correction"])
        with announced(able, "random samples", "--draws"):
            found = laws.measured(values, pictures.names, given["seed"], given["draws"], progress=bars(quiet))
        adjusted = laws.adjusted(found, given["correction"])
        rows = laws.rows(found, adjusted, pictures.names)
        write_csv(out / "distributions.csv", list(rows[0]), [list(row.values()) for row in rows])
        summary = laws.summary(found, adjusted)
        write_csv(out / "summary.csv", list(summary[0]), [list(row.values()) for row in summary])
        write_npz(out / "values.npz", values)
        figures.save(figures.distributions(values, found), out / "distributions.png")
        results = {"images": list(pictures.names), "layers": summary, "resolution": able.to_dict()}
        run.finish(model=network.describe(), data=pictures.describe(), seed=given["seed"], results=results)
    click.echo(table(list(summary[0]), [[laws.said(value) for value in row.values()] for row in summary]))
    last = f"“not rejected”: images of {len(pictures.names)} whose values may be of this law, at 5 %"
    if not able.can_reject:
        last = able.summary("random samples", "--draws ")
    click.echo(f"\n{last}\n\n{out}")
    return results

"""`jaxcam prune`: does the measure mean anything? Silence units and see what is left of the accuracy."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    cls=Command,
    short_help="Silence units by similarity and at random; see what it costs.",
    epilog="\b\nExamples:\n"
    "  jaxcam prune --neurons runs/neurons --out runs/prune\n"
    "  jaxcam prune --neurons runs/neurons --fraction 0.2 --seeds 10 --layer features.conv3 --out runs/prune20",
)
@click.option(
    "--neurons", metavar="RUN", required=True, type=click.Path(path_type=Path), help="A run of jaxcam neurons."
)
@click.option(
    "--fraction",
    metavar="SHARE",
    type=options.Number(0, 1),
    default=0.4,
    show_default=True,
    help="Of a layer's units (or of its live units) to silence.",
)
@click.option(
    "--seeds", metavar="N", type=options.Whole(1), default=5, show_default=True, help="Random choices to compare with."
)
@options.layers
@click.option("--model", metavar="MODEL", help="Where the network is now, if it was moved.")
@click.option("--weights", metavar="FILE", help="Where its weights are now, of a network given by its name.")
@options.data(None)
@click.option(
    "--split", metavar="SPLIT", default="test", show_default=True, help="The images whose accuracy is measured."
)
@options.candidates("the accuracy")
@click.option("--batch", metavar="N", type=options.Whole(1), default=256, show_default=True, help="Images at once.")
@options.out
@options.quiet
@click.pass_context
def prune(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Silence the most similar units of a layer, the least similar, and random ones, and measure the accuracy.

    One layer at a time, without any training. Dead units are the least similar by definition, so everything is done
    among live units as well. Writes pruning.csv and pruning.png to --out.
    """
    run = RunDirectory("prune", out, ctx.params, overwrite=overwrite)
    from jaxcam.cli.class_images import check_result, finished_run
    from jaxcam.cli.datasets import open_data
    from jaxcam.cli.outputs import with_candidates
    from jaxcam.cli.reopened import data_again, open_again, trained_on
    from jaxcam.neurons import open_sweep
    from jaxcam.neurons.pruning import pruning_study
    from jaxcam.neurons.pruning_table import summarize_pruning, write_pruning
    from jaxcam.viewing import figures

    manifest = finished_run(given["neurons"], "neurons")
    check_result(given["neurons"], manifest, "sweep.zarr")
    sweep = open_sweep(given["neurons"] / "sweep.zarr")
    network = open_again(manifest, given["neurons"], given["model"], weights=given["weights"])
    network = trained_on(network, data_again(manifest, given["neurons"]))
    dataset, described = open_data(network, given["split"], given, progress=bars(quiet))
    if list(dataset.names) != sweep.classes:
        raise ValueError(
            f"{dataset.name} has other classes than {given['neurons']}, which has {', '.join(sweep.classes)}"
        )
    network = with_candidates(network, dataset, given["candidates"])
    known = network.candidates
    assert known is not None
    with run:
        rows = pruning_study(
            network.model,
            dataset.images,
            network.labels(dataset.labels),
            {layer: sweep.similarity(layer) for layer in sweep.layers},
            {layer: sweep.dead(layer) for layer in sweep.layers},
            fraction=given["fraction"],
            seeds=given["seeds"],
            layers=list(dict.fromkeys(given["layer"])) or None,
            metric=str(sweep.attrs["metric"]),
            batch=given["batch"],
            progress=bars(quiet),
        )
        write_pruning(out / "pruning.csv", rows)
        figures.save(figures.pruning(rows, among=known.words), out / "pruning.png")
        summaries = summarize_pruning(rows)
        results = {
            "classes": sweep.classes,
            "candidates": known.to_dict(),
            "accuracy": summaries[0].none,
            "layers": [
                {
                    name: None if isinstance(value, float) and math.isnan(value) else value
                    for name, value in dataclasses.asdict(summary).items()
                }
                for summary in summaries
            ],
        }
        run.finish(model=network.describe(), data=described, results=results)
    click.echo(
        f"accuracy {summaries[0].none:.3f} among {known.words}; without {given['fraction']:.0%} of one layer's units, "
        "and without as many of its live units:\n"
    )
    ways = ["most similar", "least similar", "random"]
    header = ["layer", "all units:", *ways, "|", "live units, of them:", *ways]
    click.echo(
        table(
            header,
            [
                (
                    s.layer,
                    s.units,
                    f"{s.most:.3f}",
                    f"{s.least:.3f}",
                    f"{s.random_mean:.3f}" + (f" ± {s.random_sd:.3f}" if given["seeds"] > 1 else ""),
                    "|",
                    s.live,
                    f"{s.most_live:.3f}",
                    f"{s.least_live:.3f}",
                    f"{s.random_live_mean:.3f}" + (f" ± {s.random_live_sd:.3f}" if given["seeds"] > 1 else ""),
                )
                for s in summaries
            ],
        )
    )
    click.echo(f"\n{out}")
    return results

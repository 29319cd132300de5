"""`jaxcam clusters`: by how many ways does a network come to one class? (SpRAy)"""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import bars, table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory


@click.command(
    cls=Command,
    short_help="Put the heat maps of a class into groups: strategies, leaks.",
    epilog="\b\nExamples:\n"
    "  jaxcam clusters --model runs/train --target 3 --out runs/three\n"
    "  jaxcam clusters --model runs/train --data photos/ --target horse --split train --groups 4 --out runs/horse",
)
@options.network(None)
@options.data(None)
@options.outputs
@click.option("--target", metavar="CLASS", required=True, help="The class of the data, by name, or else by number.")
@click.option("--split", metavar="SPLIT", default="test", show_default=True, help="train or test.")
@click.option(
    "--composite",
    metavar="NAME",
    default="epsilon_plus",
    show_default=True,
    help="Of the relevance rules, as in docs/methods/relevance.md.",
)
@click.option("--groups", metavar="N", type=options.Whole(1), help="How many; default: what the eigengap says.")
@click.option("--neighbors", metavar="N", type=options.Whole(1), default=10, show_default=True, help="Of each map.")
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True)
@click.option("--batch", metavar="N", type=options.Whole(1), default=32, show_default=True, help="Images at once.")
@options.out
@options.quiet
@click.pass_context
def clusters(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Compute relevance maps (LRP) of all images of one class and put them into groups by where they look.

    A small group that looks at a corner is what a leak looks like; jaxcam leak-check --region measures it. Writes
    clusters.csv (group and place of each image), clusters.npz (maps, eigenvalues, means) and clusters.png to --out.
    """
    run = RunDirectory("clusters", out, ctx.params, overwrite=overwrite)
    import jax
    import numpy as np

    from jaxcam import studies
    from jaxcam.attribution import lrp
    from jaxcam.cli.class_images import write_npz
    from jaxcam.cli.classes import in_batches
    from jaxcam.cli.datasets import open_data
    from jaxcam.cli.examples import class_of
    from jaxcam.cli.figures_of_quality import write_csv
    from jaxcam.cli.networks import open_given
    from jaxcam.cli.outputs import select_outputs
    from jaxcam.viewing import figures

    network = open_given(given)
    dataset, described = open_data(network, given["split"], given, progress=bars(quiet))
    network = select_outputs(network, dataset, given["outputs"])
    target = class_of(given["target"], dataset)
    own = np.flatnonzero(dataset.labels == target)
    if len(own) < studies.strategies.FEWEST:
        raise ValueError(
            f"{dataset.name} has {len(own)} images of {dataset.names[target]!r} ({given['split']}); groups need at "
            f"least {studies.strategies.FEWEST}"
        )
    with run:
        images = dataset.images[own]
        output = network.outputs[target]
        maps = np.concatenate(
            [
                np.asarray(lrp(network.model, jax.numpy.asarray(part), output, composite=given["composite"]))[:count]
                for _, part, count in in_batches(images, given["batch"])
            ]
        )
        found = studies.heatmap_clusters(
            maps, key=jax.random.key(given["seed"]), clusters=given["groups"], neighbors=given["neighbors"]
        )
        write_csv(
            out / "clusters.csv",
            ["image", "group", "x", "y"],
            [
                (int(index), int(group), *map(float, place))
                for index, group, place in zip(own, found.labels, found.places, strict=True)
            ],
        )
        names = ("labels", "eigenvalues", "places", "means", "central")
        write_npz(out / "clusters.npz", {"maps": maps, "index": own, **{n: getattr(found, n) for n in names}})
        figures.save(figures.heatmap_groups(found, images), out / "clusters.png")
        results = {
            "class": dataset.names[target],
            "images": len(own),
            "groups": found.sizes.tolist(),
            "gaps": found.gaps.tolist(),
            "central": own[found.central].tolist(),
        }
        run.finish(model=network.describe(), data=described, seed=given["seed"], results=results)
    rows = [
        (group, size, int(own[central]))
        for group, (size, central) in enumerate(zip(found.sizes, found.central, strict=True))
    ]
    click.echo(table(["group", "maps", "most typical image"], rows))
    gap = found.gaps[min(found.count, len(found.gaps)) - 1]
    click.echo(f"\n{len(own)} images of ‘{dataset.names[target]}’; the eigengap taken is {gap:.2f}\n\n{out}")
    return results

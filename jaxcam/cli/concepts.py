"""`jaxcam concepts`: does an idea, given by pictures of it, matter to a class? (TCAV)"""

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
    short_help="Test whether stripes, a color or pictures of yours matter to a class.",
    epilog="\b\nExamples:\n"
    "  jaxcam concepts --model runs/train --target 3 --concept stripes --concept dots --out runs/c\n"
    "  jaxcam concepts --model squeezenet1_1 --weights squeezenet1_1.safetensors --data photos/ --target zebra \\\n"
    "    --concept ideas/stripes --others ideas/random --layer classifier.1 --out runs/zebra",
)
@options.network(None)
@options.data(None)
@options.outputs
@click.option("--target", metavar="CLASS", required=True, help="The class of the data, by name, or else by number.")
@click.option(
    "--concept",
    "concept",
    multiple=True,
    required=True,
    metavar="NAME",
    help="A folder of ten pictures or more, or stripes, dots, red, green, blue, yellow, black, white; may be repeated.",
)
@click.option(
    "--others",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Random pictures that concepts are told from; default: the data's images of all other classes.",
)
@options.layers
@click.option("--split", metavar="SPLIT", default="test", show_default=True, help="train or test.")
@click.option("--images", metavar="N", type=options.Whole(1), default=100, show_default=True, help="Of the class.")
@click.option(
    "--counterparts", metavar="N", type=options.Whole(2), default=10, show_default=True, help="Random sets a concept."
)
@click.option(
    "--random-concepts",
    metavar="N",
    type=options.Whole(2),
    default=200,
    show_default=True,
    help="Concepts of random pictures that each concept is compared with. The smallest corrected p is "
    "concepts × layers / (N + 1): with 20 and 4 tests no result can be significant.",
)
@click.option("--seed", metavar="N", type=options.SEED, default=0, show_default=True)
@click.option("--batch", metavar="N", type=options.Whole(1), default=32, show_default=True, help="Images at once.")
@options.out
@options.quiet
@click.pass_context
def concepts(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Test whether a class's score rises towards pictures of a concept, layer by layer.

    Writes concepts.csv (TCAV, rise, p and corrected p for each concept and layer), concepts.npz (the same of random
    concepts) and concepts.png to --out.
    """
    run = RunDirectory("concepts", out, ctx.params, overwrite=overwrite)
    import jax
    import numpy as np

    from jaxcam import studies
    from jaxcam.cli import examples
    from jaxcam.cli.class_images import write_npz
    from jaxcam.cli.datasets import open_data
    from jaxcam.cli.figures_of_quality import write_csv
    from jaxcam.cli.networks import open_given
    from jaxcam.cli.outputs import select_outputs
    from jaxcam.program import layers as layers_of
    from jaxcam.viewing import figures

    network = open_given(given)
    dataset, described = open_data(network, given["split"], given, progress=bars(quiet))
    network = select_outputs(network, dataset, given["outputs"])
    examples.check_square(network, dataset)
    target = examples.class_of(given["target"], dataset)
    shape = dataset.images.shape[1:]
    pictures = examples.pictures(given["concept"], shape, given["seed"])
    own = dataset.images[dataset.labels == target][: given["images"]]
    if not len(own):
        raise ValueError(f"{dataset.name} has no image of {dataset.names[target]!r} ({given['split']})")
    if given["others"] is None:
        others = dataset.images[dataset.labels != target]
    else:
        others = examples.read_folder(given["others"], shape[0], shape[2])
    known = layers_of(network.model, dataset.images[:1])
    chosen = given["layer"] or tuple(layer.name for layer in known if layer.kind == "conv")
    layers = tuple(dict.fromkeys(chosen))
    tests = max(1, len(layers) * len(pictures))
    able = studies.resolution(given["random_concepts"], tests, "holm")
    with run, announced(able, "random concepts", "--random-concepts"):
        found = studies.concepts(
            network.model,
            own,
            network.outputs[target],
            pictures,
            others,
            layers=layers,
            key=jax.random.key(given["seed"]),
            counterparts=given["counterparts"],
            random_concepts=given["random_concepts"],
            batch=given["batch"],
        )
        names = ("layer", "concept", "score", "rise", "accuracy", "pvalue", "corrected", "published")
        rows = [{name: getattr(test, name) for name in names} for test in found]
        write_csv(out / "concepts.csv", list(names), [list(row.values()) for row in rows])
        write_npz(
            out / "concepts.npz",
            {
                f"{test.layer}:{test.concept}:{part}": np.asarray(getattr(test, part))
                for test in found
                for part in ("scores", "null", "null_scores")
            },
        )
        title = f"‘{dataset.names[target]}’, {network.name}"
        figures.save(figures.concepts(found, title=title), out / "concepts.png")
        results = {
            "class": dataset.names[target],
            "images": len(own),
            "others": len(others),
            "concepts": rows,
            "resolution": able.to_dict(),
        }
        run.finish(model=network.describe(), data=described, seed=given["seed"], results=results)
    cells = [
        (
            t.layer,
            t.concept,
            f"{t.score:.2f}",
            f"{t.rise:+.3g}",
            f"{t.accuracy:.0%}",
            f"{t.pvalue:.4f}",
            f"{t.corrected:.4f}",
        )
        for t in found
    ]
    click.echo(table(["layer", "concept", "TCAV", "rise", "probe", "p", "corrected"], cells))
    unable = "" if able.can_reject else f"\n{able.summary('random concepts', '--random-concepts ')}"
    click.echo(f"\n{len(own)} images of ‘{dataset.names[target]}’, {len(others)} others{unable}\n\n{out}")
    return results

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
    help="simple: the mean of all images of a class, stretched to the range of their values; most, least: the plain "
    "mean of those K on which the network is most or least confident; ascent: the simple one changed by gradient "
    "ascent until the network is confident, or for --steps.",
)
@options.KEPT
@click.option(
    "--threshold",
    metavar="P",
    type=options.Number(0, 1, above=True),
    default=0.99,
    show_default=True,
    help="Confidence at which ascent stops.",
)
@click.option(
    "--steps",
    metavar="N",
    type=options.Whole(0),
    default=200,
    show_default=True,
    help="Most steps of ascent; a class that is below --threshold then is named.",
)
@options.outputs
@options.candidates("the softmax")
@options.out
@options.quiet
@click.pass_context
def averages(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Average the images of each class, four ways, and ask the network what it sees in the averages.

    Writes averages.npz, confidence.npz (for each kind a softmax: classes × outputs) and both as pictures to --out.
    The table says what was done to each kind. simple and ascent are stretched, most and least are not, and
    stretching alone changes how sure a network is: compare most with least, and ascent with simple.
    """
    run = RunDirectory("averages", out, ctx.params, overwrite=overwrite)
    import numpy as np

    from jaxcam.cli.class_images import ADVICE, checked_kinds, compute, write_npz
    from jaxcam.cli.datasets import open_data
    from jaxcam.cli.networks import open_given
    from jaxcam.cli.outputs import select_outputs
    from jaxcam.neurons.average_record import confidence_words
    from jaxcam.viewing import figures

    kinds = checked_kinds(options.listed(given["kind"]))
    network = open_given(given)
    dataset, described = open_data(network, given["split"], given, progress=bars(quiet))
    network = select_outputs(network, dataset, given["outputs"], given["candidates"])
    known = network.candidates
    assert known is not None
    with run:
        found = compute(
            network,
            dataset,
            kinds,
            k=given["images"],
            threshold=given["threshold"],
            steps=given["steps"],
            progress=bars(quiet),
        )
        images = {kind: np.asarray(one.images) for kind, one in found.items()}
        confidence = {kind: np.asarray(one.confidences) for kind, one in found.items()}
        write_npz(out / "averages.npz", images)
        write_npz(out / "confidence.npz", confidence)
        figures.save(figures.averages(images, dataset.names), out / "averages.png")
        figures.save(
            figures.confidence(confidence, dataset.names, outputs=known.columns, among=known.words),
            out / "confidence.png",
        )
        own = {
            kind: [float(values[i, column]) for i, column in enumerate(known.columns)]
            for kind, values in confidence.items()
        }
        results = {
            "classes": dataset.names,
            "kinds": kinds,
            "own_confidence": own,
            "candidates": known.to_dict(),
            "output_names": network.output_names() if known.count > len(dataset.names) else None,
            "pictures": {kind: one.to_dict() for kind, one in found.items()},
        }
        run.finish(model=network.describe(), data=described, seed=network.trained.get("seed"), results=results)
    header = ["average", "mean confidence in its own class", "least", "class", "what it is"]
    lowest = {kind: min(range(len(values)), key=values.__getitem__) for kind, values in own.items()}
    rows = [
        (
            kind,
            confidence_words(sum(values) / len(values)),
            confidence_words(min(values)),
            f"‘{dataset.names[lowest[kind]]}’",
            found[kind].summary(),
        )
        for kind, values in own.items()
    ]
    lines = [table(header, rows), "", f"confidence: softmax over {known.words}"]
    lines += [text for one in found.values() if (text := one.missed(dataset.names, ADVICE))]
    click.echo("\n".join([*lines, "", str(out)]))
    return results

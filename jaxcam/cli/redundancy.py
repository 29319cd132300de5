"""`jaxcam redundancy`: how few numbers describe the class activation maps of a class?"""

from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.console import table
from jaxcam.cli.group import Command
from jaxcam.cli.run_directory import RunDirectory
from jaxcam.cli.significance import announced

USUAL = ("cam",)


@click.command(
    cls=Command,
    short_help="Tell how few numbers describe the maps of a class (PCA).",
    epilog="\b\nExamples:\n"
    "  jaxcam redundancy cats/ --model squeezenet1_1 --weights squeezenet1_1.safetensors --target 283 --out runs/r\n"
    "  jaxcam redundancy cats/ --model runs/train --method grad_cam --layer features.conv7 --share 0.95 --out runs/r",
)
@click.argument("images", metavar="IMAGE…", nargs=-1, required=True, type=click.Path(path_type=Path))
@options.network(None)
@options.methods(", ".join(USUAL))
@click.option("--target", metavar="CLASS", help="The class all maps are of; default: the predicted one of each image.")
@options.classes
@options.limit
@click.option("--components", metavar="N", type=options.Whole(1), help="How many to keep; default: all.")
@click.option(
    "--share",
    metavar="SHARE",
    type=options.Number(0, 1, above=True),
    help="Or the share of the variance to keep, such as 0.95.",
)
@click.option("--scaled", is_flag=True, help="Bring each map to [0, 1] first, as maps are drawn.")
@click.option(
    "--permutations",
    metavar="N",
    type=options.Whole(1),
    default=999,
    show_default=True,
    help="How many times the maps are shuffled for the test; with fewer than 19 no component can be more than noise.",
)
@click.option(
    "--null",
    type=click.Choice(["pixels", "shifts"]),
    default="pixels",
    show_default=True,
    help="What the maps are compared with: pixels exchanged among the maps, or maps shifted at random.",
)
@options.out
@options.quiet
@click.pass_context
def redundancy(ctx: click.Context, out: Path, overwrite: bool, quiet: bool, **given: Any) -> dict[str, Any]:
    """Take the class activation maps of each IMAGE, a file or a folder, apart into principal components.

    Writes components.csv (for each its share of the variance, their sum, the share of maps left out, and p against
    noise), redundancy.npz (maps, components, scores, reconstructions, errors) and redundancy.png to --out.
    """
    run = RunDirectory("redundancy", out, ctx.params, overwrite=overwrite)
    import jax

    from jaxcam import studies
    from jaxcam.cli import explanations, photographs
    from jaxcam.cli.class_images import write_npz
    from jaxcam.cli.figures_of_quality import write_csv
    from jaxcam.studies import principal
    from jaxcam.viewing import figures

    if len(given["method"]) > 1 or given["method"] == ("all",) or len(given["layer"]) > 1:
        raise ValueError("redundancy is of the maps of one method at one layer; name one --method and one --layer")
    files = photographs.found(given["images"], given["limit"])
    principal.check_kept(given["components"], given["share"], len(files))
    asked = explanations.asked(given, USUAL, given["limit"], quiet=quiet)
    able = studies.resolution(given["permutations"])
    with run, announced(able, "permutations", "--permutations"):
        maps, _, _ = explanations.maps_of(asked, given, quiet=quiet)
        (values,) = maps.values()
        found = studies.redundancy(
            values.sum(-1) if values.ndim == 4 else values,
            given["components"],
            given["share"],
            scaled=given["scaled"],
            key=jax.random.key(given["seed"]),
            permutations=given["permutations"],
            null=given["null"],
        )
        rows = components(found)
        write_csv(out / "components.csv", list(rows[0]), [list(row.values()) for row in rows])
        names = ("maps", "mean", "axes", "scores", "reconstruction", "errors", "null")
        write_npz(out / "redundancy.npz", {name: getattr(found, name) for name in names})
        figures.save(figures.redundancy(found), out / "redundancy.png")
        results = {
            "images": explanations.rows(asked),
            "method": asked.methods[0].name,
            "maps": list(found.maps.shape),
            "components": found.components,
            "share": found.spectrum.share(found.components),
            "lost": found.lost,
            "significant": found.significant,
            "ratios": found.ratios,
            "resolution": able.to_dict(),
        }
        run.finish(
            model=asked.network.describe(), data=asked.photographs.describe(), seed=given["seed"], results=results
        )
    shown = [row for row in rows if row["component"] <= max(10, found.components)][:40]
    click.echo(table(list(rows[0]), [[said(value) for value in row.values()] for row in shown]))
    n, h, w = found.maps.shape
    noise = f"; {found.significant} are more than noise" if able.can_reject else ""
    unable = "" if able.can_reject else f"\n{able.summary('permutations', '--permutations ')}"
    click.echo(
        f"\n{n} maps of {h}×{w}: {found.components} components keep {results['share']:.2%} of their "
        f"variance{noise}{unable}\n\n{out}"
    )
    return results


def components(found: Any) -> list[dict[str, Any]]:
    """A row for each component; nothing where there is no number."""
    held_out = [*found.held_out, *[None] * (len(found.ratios) - len(found.held_out))]
    return [
        {"component": index, "ratio": float(ratio), "cumulated": float(sum_), "left out": left, "p": float(p)}
        for index, (ratio, sum_, left, p) in enumerate(
            zip(found.ratios, found.cumulated, held_out, found.pvalues, strict=False), start=1
        )
    ]


def said(value: float | int | None) -> str:
    """A number of the table as a reader sees it."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"

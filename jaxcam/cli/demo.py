"""`jaxcam demo`: the whole way, on handwritten digits, in three minutes."""

import contextlib
import io
from pathlib import Path
from typing import Any

import click

from jaxcam.cli import options
from jaxcam.cli.averages import averages
from jaxcam.cli.console import note
from jaxcam.cli.group import Command
from jaxcam.cli.neurons import neurons
from jaxcam.cli.prune import prune
from jaxcam.cli.run_directory import RunDirectory, finished
from jaxcam.cli.train import train

STEPS: dict[str, tuple[click.Command, str]] = {
    "train": (train, "training AlexNet on handwritten digits"),
    "averages": (averages, "averaging the images of each class"),
    "neurons": (neurons, "measuring every unit of every layer"),
    "prune": (prune, "pruning, to see whether the measure means anything"),
}


@click.command(
    cls=Command,
    short_help="Train, measure, prune and report, on handwritten digits.",
    epilog="\b\nExamples:\n  jaxcam demo\n  jaxcam demo --quick --out /tmp/demo",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default="demo",
    show_default=True,
    help="Directory of the run, new or empty; an unfinished demo goes on.",
)
@click.option("--quick", is_flag=True, help="Fewer epochs and fewer seeds: a minute, and a worse network.")
@click.option("--overwrite", is_flag=True, help="Replace the demo that is in --out.")
@options.quiet
@click.pass_context
def demo(ctx: click.Context, out: Path, quick: bool, overwrite: bool, quiet: bool) -> None:
    """Train AlexNet on scikit-learn's handwritten digits, measure what each of its units learned, prune, report.

    Nothing is downloaded. Every step is a run that its own command would have made, in --out; stopped at any moment,
    the same command goes on where it was.
    """
    run = RunDirectory("demo", out, ctx.params, overwrite=overwrite)
    given: dict[str, dict[str, Any]] = {
        "train": {"data": "digits", "model": "alexnet", "epochs": 3 if quick else 20},
        "averages": {"model": str(out / "train")},
        "neurons": {"averages": out / "averages"},
        "prune": {"neurons": out / "neurons", "seeds": 2 if quick else 5},
    }
    with run:
        for number, (name, (command, words)) in enumerate(STEPS.items(), 1):
            done = finished(out / name, name, given[name])
            note(f"{number} of {len(STEPS)}: {words}{' (done before)' if done else ''}", quiet=quiet)
            if not done:
                # An unfinished step of another demo would be refused; this directory is this demo's alone.
                with contextlib.redirect_stdout(io.StringIO()):
                    ctx.invoke(command, out=out / name, quiet=quiet, **given[name])
        from jaxcam.cli.findings import findings, whole
        from jaxcam.viewing.report import report

        found = findings(out)
        run.finish(**whole(out), results={"findings": found})
        page = report(out)
    click.echo("\n".join(["", *(f"• {line}" for line in found), "", f"The report: {page}"]))

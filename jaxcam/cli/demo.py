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

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    # Smaller batches at half the rate: as good after 10 epochs as the defaults after 20.
    "full": {"train": {"epochs": 10, "batch": 64, "learning_rate": 5e-4}, "averages": {}, "neurons": {}, "prune": {}},
    "quick": {"train": {"epochs": 4}, "averages": {}, "neurons": {}, "prune": {"seeds": 2}},
}
"""The options of each step that are not its defaults."""


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
def demo(ctx: click.Context, out: Path, quick: bool, overwrite: bool, quiet: bool) -> dict[str, Any]:
    """Train AlexNet on scikit-learn's handwritten digits, measure what each of its units learned, prune, report.

    Nothing is downloaded. Every step is a run that its own command would have made, in --out; stopped at any moment,
    the same command goes on where it was.
    """
    run = RunDirectory("demo", out, ctx.params, overwrite=overwrite)
    inputs: dict[str, dict[str, Any]] = {
        "train": {},
        "averages": {"model": str(out / "train")},
        "neurons": {"averages": out / "averages"},
        "prune": {"neurons": out / "neurons"},
    }
    with run:
        for number, (name, (command, words)) in enumerate(STEPS.items(), 1):
            given = inputs[name] | SETTINGS["quick" if quick else "full"][name]
            done = finished(out / name, name, given)
            note(f"{number} of {len(STEPS)}: {words}{' (done before)' if done else ''}", quiet=quiet)
            if not done:
                # What it says for itself is said again in the end.
                with contextlib.redirect_stdout(io.StringIO()):
                    ctx.invoke(command, out=out / name, quiet=quiet, **given)
        from jaxcam.cli.atlas import write
        from jaxcam.cli.findings import findings, whole

        found = findings(out)
        run.finish(**whole(out), results={"findings": found})
        page = write(out, None, units="auto", images=None, quiet=quiet)
    click.echo("\n".join(["", *(f"• {line}" for line in found), "", f"The report: {page}"]))
    return {"findings": found, "report": page}

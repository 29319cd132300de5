"""What `jaxcam report` asks of a network that is still there: maps of all units, and which layer reads which."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cli.class_images import finished_run
from jaxcam.cli.console import bars, note
from jaxcam.cli.networks import open_again
from jaxcam.neurons import maps, open_sweep
from jaxcam.program import layers as layers_of
from jaxcam.program.costs import edges
from jaxcam.viewing.atlas.building import Probe, atlas
from jaxcam.viewing.runs import Run

SMALL, FEW = 64 * 64, 100_000
"""So many pixels and maps at most are computed unasked: what takes seconds to a minute."""


def write(run: Path, out: Path | None, *, units: str, quiet: bool) -> Path:
    """Builds the atlas of a run.

    Args:
        run: the run directory.
        out: the folder; None for report in the run directory.
        units: which get a picture: "all", "extreme" (those that the sweep keeps) or "auto", all where it is quick.
        quiet: whether to show no progress.

    Returns:
        Its first page.

    Raises:
        ValueError: as `jaxcam.viewing.atlas.building.atlas`; with "all", the network is not what it was.
        FileNotFoundError: with "all", the network is not where it was.
    """

    def probe(asked: Run) -> Probe:
        try:
            return probed(asked.path, units)
        except (ValueError, FileNotFoundError) as error:
            if units == "all":
                raise
            said = f"the network could not be opened, so only the maps that the sweep keeps are shown: {error}"
            note(said, quiet=quiet)
            return Probe(note=said[0].upper() + said[1:] + ".")

    return atlas(run, out, probe=probe, progress=bars(quiet))


def probed(run: Path, units: str) -> Probe:
    """The network that a sweep was made of, opened again."""
    manifest = finished_run(run, "neurons")
    sweep = open_sweep(run / "sweep.zarr")
    average = sweep.average
    network = open_again(manifest, run)
    images = jax.ShapeDtypeStruct((1, *average.shape[1:]), jnp.float32)
    layers, read = layers_of(network.model, images), edges(network.model, images)
    live = sum(int((~sweep.dead(layer)).sum()) for layer in sweep.layers)
    if units == "extreme" or (units == "auto" and (average.shape[1] * average.shape[2] > SMALL or live > FEW)):
        said = "" if units == "extreme" else f"For all {live:,}, run jaxcam report with --units all; it takes a while."
        return Probe(layers=layers, edges=read, note=said)
    rule, steps = str(sweep.attrs["rule"]), int(sweep.attrs.get("steps", 32))

    def of(layer: str, wanted: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.asarray(maps(network.model, average[classes], layer, wanted, rule, steps=steps))

    return Probe(of, layers, read)

"""What `jaxcam report` asks of a network that is still there: maps of all units, and which layer reads which."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.cli.class_images import check_result, finished_run
from jaxcam.cli.console import bars, note
from jaxcam.cli.datasets import gone, open_data
from jaxcam.cli.networks import Network
from jaxcam.cli.reopened import data_again, open_again, trained_on
from jaxcam.interrupts import on_stop
from jaxcam.neurons import maps, open_sweep
from jaxcam.program import layers as layers_of
from jaxcam.program import tap
from jaxcam.program.costs import edges
from jaxcam.studies import most_exciting
from jaxcam.viewing.atlas.building import Probe, atlas
from jaxcam.viewing.runs import Run

NINE, REAL = 9, 500
SMALL, FEW = 64 * 64, 100_000
"""So many pixels and maps at most are computed unasked: what takes seconds to a minute."""


def write(
    run: Path,
    out: Path | None,
    *,
    units: str,
    images: int | None,
    quiet: bool,
    network: str | None = None,
    model: str | None = None,
    weights: str | None = None,
) -> Path:
    """Builds the atlas of a run.

    Args:
        run: the run directory.
        out: the folder; None for report in the run directory.
        units: which get a picture: "all", "extreme" (those that the sweep keeps) or "auto", all where it is quick.
        images: of how many real ones units show the most exciting; None for `REAL` where images are small and at hand.
        quiet: whether to show no progress.
        network: the only one to show, by the name that the index has for it.
        model: where the network is now, if it was moved.
        weights: where its weights are now.

    Returns:
        Its first page.

    Raises:
        ValueError: as `jaxcam.viewing.atlas`; the network is not what it was, and "all", a number of images or a
            place of the network was asked for.
        FileNotFoundError: the same where the network or the data are not where they were.
    """

    def probe(asked: Run) -> Probe:
        try:
            return probed(asked.path, units, images, quiet=quiet, model=model, weights=weights)
        except (ValueError, FileNotFoundError) as error:
            if units == "all" or images or model or weights:
                raise
            said = f"the network could not be opened, so only the maps that the sweep keeps are shown: {error}"
            note(said, quiet=quiet)
            return Probe(note=said[0].upper() + said[1:] + ".")

    same = f"jaxcam report {run}" + (f" --out {out}" if out else "") + (f" --network {network}" if network else "")
    with on_stop(lambda: f"stopped; the maps that are drawn are kept, and {same} goes on from there"):
        return atlas(run, out, probe=probe, progress=bars(quiet), network=network)


def probed(
    run: Path, units: str, images: int | None, *, quiet: bool, model: str | None = None, weights: str | None = None
) -> Probe:
    """The network that a sweep was made of, opened again."""
    manifest = finished_run(run, "neurons")
    data = data_again(manifest, run)
    check_result(run, manifest, "sweep.zarr")
    sweep = open_sweep(run / "sweep.zarr")
    average = sweep.average
    network = open_again(manifest, run, model, weights=weights)
    one = jax.ShapeDtypeStruct((1, *average.shape[1:]), jnp.float32)
    small = average.shape[1] * average.shape[2] <= SMALL
    probe = Probe(layers=layers_of(network.model, one), edges=edges(network.model, one))
    wanted = (REAL if small and at_hand(data["source"]) else 0) if images is None else images
    if wanted:
        try:
            probe = dataclasses.replace(probe, **exciting(network, data, wanted))
        except (ValueError, FileNotFoundError) as error:
            if images is not None:
                raise
            note(f"real images are left out: {error}", quiet=quiet)
    live = sum(int((~sweep.dead(layer)).sum()) for layer in sweep.layers)
    if units == "extreme" or (units == "auto" and (not small or live > FEW)):
        said = "" if units == "extreme" else f"For all {live:,}, run jaxcam report with --units all; it takes a while."
        return dataclasses.replace(probe, note=said)
    rule = str(sweep.attrs["rule"])
    how = {name: sweep.attrs[name] for name in ("steps", "precision") if name in sweep.attrs}

    def of(layer: str, wanted: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.asarray(maps(network.model, average[classes], layer, wanted, rule, **how))

    return dataclasses.replace(probe, maps=of)


def at_hand(source: Mapping[str, Any]) -> bool:
    """Whether the data of a run can be read again without a download."""
    return source["data"] == "digits" or Path(source["data_dir"] or source["data"]).is_dir()


def exciting(network: Network, data: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Real images, evenly from all classes, and which of them excite the units of a layer."""
    missing = gone(data["source"])
    if missing is not None:
        raise FileNotFoundError(f"no folder {data['source'][missing]}, where they were; --images 0 does without")
    limit = data["source"]["limit"]
    asked = {"limit": min(number, limit or number)}
    dataset, _ = open_data(trained_on(network, data), str(data.get("split", "train")), asked, progress=False)
    images = np.asarray(dataset.images, np.float32)

    def of(layer: str) -> np.ndarray:
        found = most_exciting(tap(network.model, layer), images, count=NINE)
        return np.where(found.scores > 0, found.indices, -1)

    return {"images": images, "exciting": of}

"""The folder of an atlas: built beside its place and moved there when it is whole."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxcam.program import Layer
from jaxcam.version import __version__
from jaxcam.viewing.atlas import sprites
from jaxcam.viewing.atlas.graph import chain
from jaxcam.viewing.atlas.pages import write as write_pages
from jaxcam.viewing.atlas.shown import Real, Shown
from jaxcam.viewing.networks import reported
from jaxcam.viewing.report import contents, index_page
from jaxcam.viewing.runs import MANIFEST, Run, layer_shapes, read_sweep

MARK = "atlas.json"
FOLDER = "report"


@dataclass(frozen=True)
class Probe:
    """A network that can still be asked.

    Attributes:
        maps: (layer, units, classes) ↦ raw maps (u, n, h, w, c) on the averages of a sweep; None shows those that the
            sweep keeps.
        layers: what `jc.layers` lists; empty where the network is not there.
        edges: pairs (read, reader) of their names, "" for the images.
        note: what a reader should know of this, a sentence or "".
        images: real ones (n, h, w, c) in [0, 1], of which units show the most exciting; None where there are none.
        exciting: layer ↦ for each unit which of them excite it, the strongest first (u, count), −1 for none.
    """

    maps: sprites.Maps | None = None
    layers: Sequence[Layer] = ()
    edges: Sequence[tuple[str, str]] = ()
    note: str = ""
    images: Float[np.ndarray, "n h w c"] | None = None
    exciting: Callable[[str], Int[np.ndarray, "u count"]] | None = None


def atlas(
    run_dir: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    probe: Callable[[Run], Probe] | None = None,
    progress: bool = False,
    network: str | None = None,
) -> Path:
    """Builds a folder of pages about a run: network, layers, units, classes, studies.

    Of several networks each gets a folder of pages of its own inside, and the first page is their index.

    It opens from a disk: data are in scripts, maps in contact sheets that are loaded when they are looked at, and the
    browser is forbidden to fetch anything else. Building goes on where it was stopped, and what was computed for an
    earlier atlas of the same sweep is used again.

    Args:
        run_dir: as for `report`.
        out: the folder; by default report in `run_dir`. An atlas that is there is replaced.
        probe: opens the network that a sweep was made of; without it units show the maps that the sweep keeps.
        progress: whether to show a bar on stderr.
        network: the only one to show, by the name that the index has for it.

    Returns:
        The path of its first page, index.html.

    Raises:
        ValueError: as for `report`; or there is something at `out` that is no atlas.

    Example:
        >>> atlas("no/such/run")
        Traceback (most recent call last):
        ...
        ValueError: there is no run directory no/such/run; jaxcam demo --out no/such/run makes one
    """
    networks = reported(run_dir, network)
    target = Path(out) if out is not None else Path(run_dir) / FOLDER
    check_place(target)
    several = len(networks) > 1
    index = "../index.html" if several else None
    pages = [contents(entry.runs, run_dir, name=entry.name, index=index) for entry in networks]
    building = target.with_name(f".{target.name}.building")
    folders = [entry.folder for entry in networks] if several else ["."]
    clear_but(building, folders if several else ["maps"])
    for entry, page, folder in zip(networks, pages, folders, strict=True):
        clear_but(building / folder, ["maps"])
        _build(building / folder, target / folder, entry.runs, page, probe, progress=progress)
    if several:
        files = [f"{folder}/index.html" for folder in folders]
        (building / "index.html").write_text(index_page(networks, pages, files), "utf-8")
    (building / MARK).write_text(json.dumps({"title": "an atlas of jaxcam", "jaxcam": __version__}), "utf-8")
    _replace(target, building)
    return target / "index.html"


def clear_but(folder: Path, names: Sequence[str]) -> None:
    """Makes a folder, or removes what a build that was stopped left in it; its maps may still be of use."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if left.name not in names:
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _build(
    building: Path,
    target: Path,
    runs: Sequence[Run],
    page: dict[str, Any],
    probe: Callable[[Run], Probe] | None,
    *,
    progress: bool,
) -> None:
    """Writes the pages of one network, using the maps of an earlier atlas where they are of the same sweep."""
    shown = []
    for index, run in enumerate(run for run in runs if run.command == "neurons"):
        sweep, asked = read_sweep(run), probe(run) if probe else Probe()
        where = f"maps/{index}"
        sheets = sprites.draw(
            sweep, building / where, where=where, maps=asked.maps, old=target / where, progress=progress
        )
        real = None
        if asked.images is not None and asked.exciting is not None:
            name = f"{where}-real.jpg"
            real = Real(
                {"file": name, "number": len(asked.images), **sprites.photographs(asked.images, building / name)},
                {layer: asked.exciting(layer) for layer in sweep.layers},
            )
        layers, edges = list(asked.layers), list(asked.edges)
        if not layers:
            layers, edges = chain(sweep.layers, layer_shapes(sweep))
        shown.append(Shown(index, run, sweep, page["sweeps"][index], sheets, layers, edges, asked.note, real))
    write_pages(building, page, runs, shown)


def check_place(target: Path) -> None:
    """Raises where something stands that is not ours to replace.

    Raises:
        ValueError: a file, or a folder that is neither empty nor an atlas.
    """
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file; an atlas is a folder (a single page is asked for by --out NAME.html)")
    if target.is_dir() and any(target.iterdir()) and not (target / MARK).is_file():
        what = "a run" if (target / MANIFEST).is_file() else "files that no atlas wrote"
        raise ValueError(f"{target} holds {what}; give another folder for the atlas")


def _replace(target: Path, building: Path) -> None:
    """Moves the new atlas to its place; a reader finds the old one, none for a moment, or the new one."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    building.rename(target)
    shutil.rmtree(old, ignore_errors=True)

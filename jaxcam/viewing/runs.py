"""Run directories as the commands leave them: found by their manifests, read into arrays and rows.

A manifest is written last, so a directory without one was not finished, and its numbers are nobody's business.
"""

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Bool, Float, Int

MANIFEST = "manifest.json"
KNOWN = ("train", "averages", "neurons", "prune")
# What a command has certainly written by the time it is stopped halfway.
TRACES = {
    "history.csv": "train",
    "state.safetensors": "train",
    "averages.npz": "averages",
    "sweep.zarr": "neurons",
    "pruning.csv": "prune",
}


@dataclass(frozen=True)
class Run:
    """One finished command: its directory and what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def command(self) -> str:
        """The command that made it, such as "neurons"."""
        return str(self.manifest["command"])

    def part(self, key: str) -> dict[str, Any]:
        """An entry of the manifest that is a mapping, or an empty one; a bare word becomes its name."""
        value = self.manifest.get(key)
        return dict(value) if isinstance(value, Mapping) else {"name": str(value)} if value is not None else {}

    def file(self, name: str) -> Path:
        """The path of one of the run's files.

        Raises:
            ValueError: it is not there, although the manifest says that the run was finished.
        """
        path = self.path / name
        if not path.exists():
            raise ValueError(f"{self.path} lacks {name}, which jaxcam {self.command} writes; run it again")
        return path


@dataclass(frozen=True)
class Layer:
    """One layer of a sweep: its name, its kind, its shape without the batch, how many units it has."""

    name: str
    kind: str
    shape: tuple[int, ...]
    units: int


@dataclass(frozen=True)
class Sweep:
    """The store of a sweep, opened for reading; arrays are read when asked for."""

    store: zarr.Group
    layers: list[str]
    classes: list[str]
    attrs: Mapping[str, Any]

    @property
    def average(self) -> Float[np.ndarray, "k h w c"]:
        """The class averages that were explained, in [0, 1]."""
        return self._read("average")

    def layer(self, name: str) -> Layer:
        """What the store says about one layer."""
        attrs = self.store[name].attrs
        units = int(self.store[f"{name}/similarity"].shape[1])  # type: ignore[union-attr]
        return Layer(name, str(attrs.get("kind", "")), tuple(attrs.get("shape", ())), units)  # type: ignore[arg-type]

    def similarity(self, layer: str) -> Float[np.ndarray, "k u"]:
        """Similarity of each unit for each class."""
        return self._read(f"{layer}/similarity")

    def dead(self, layer: str) -> Bool[np.ndarray, "k u"]:
        """Which units each class average does not activate."""
        return self._read(f"{layer}/dead")

    def activation(self, layer: str) -> Float[np.ndarray, "k u"]:
        """Spatial mean of each unit's value."""
        return self._read(f"{layer}/activation")

    def extremes(self, layer: str) -> tuple[Int[np.ndarray, "k r"], Float[np.ndarray, "k r y x c"]]:
        """The least and the most similar units of each class, and their raw maps."""
        return self._read(f"{layer}/extreme_unit"), self._read(f"{layer}/extreme_map")

    def _read(self, name: str) -> np.ndarray:
        if name not in self.store:
            raise ValueError(f"the sweep {self.store.store_path} lacks the array {name!r}; run jaxcam neurons again")
        return np.asarray(self.store[name][...])  # type: ignore[index]


def find(run_dir: str | os.PathLike[str]) -> list[Run]:
    """The finished runs in a directory: itself, and those in directories below it, two levels deep.

    Args:
        run_dir: what a command left under `--out`.

    Returns:
        The runs, outermost first, then by name.

    Raises:
        ValueError: there is no such directory, it holds no finished run or an unfinished one, or runs of several
            networks or data sets.

    Example:
        >>> find("no/such/run")
        Traceback (most recent call last):
        ...
        ValueError: there is no run directory no/such/run; jaxcam demo --out no/such/run makes one
    """
    root = Path(run_dir)
    if not root.is_dir():
        raise ValueError(f"there is no run directory {root}; jaxcam demo --out {root} makes one")
    runs = []
    for path in [root, *sorted(p for p in [*root.glob("*/"), *root.glob("*/*/")] if p.suffix != ".zarr")]:
        if (path / MANIFEST).is_file():
            runs.append(Run(path, _manifest(path / MANIFEST)))
            continue
        for trace, command in TRACES.items():
            if (path / trace).exists():
                raise ValueError(
                    f"{path} holds {trace} but no {MANIFEST}: the run was not finished; "
                    f"run jaxcam {command} --out {path} again"
                )
    if not any(run.command in KNOWN for run in runs):
        made = f"only a run of jaxcam {runs[0].command}" if runs else f"no {MANIFEST}"
        raise ValueError(f"{root} holds {made}, nothing to report; jaxcam demo --out {root} makes a whole run")
    _check_one_network(root, runs)
    return runs


def _check_one_network(root: Path, runs: list[Run]) -> None:
    """A page about several networks at once would compare what cannot be compared."""
    for part in ("model", "data"):
        names = sorted({str(run.part(part)["name"]) for run in runs if "name" in run.part(part)})
        if len(names) > 1:
            what = "networks" if part == "model" else "data sets"
            raise ValueError(
                f"{root} holds runs with {len(names)} {what} ({', '.join(names)}); report one run, "
                f"such as jaxcam report {runs[-1].path}"
            )


def open_sweep(run: Run) -> Sweep:
    """Opens the sweep of a neurons run.

    Raises:
        ValueError: it is missing, or its attributes are not those of a finished sweep.
    """
    path = run.file("sweep.zarr")
    store = zarr.open_group(path, mode="r")
    attrs = dict(store.attrs)
    for name in ("layers", "classes"):
        if not attrs.get(name):
            raise ValueError(f"{path} has no attribute {name!r}: not a finished sweep; run jaxcam neurons again")
    return Sweep(store, [str(n) for n in attrs["layers"]], [str(n) for n in attrs["classes"]], attrs)  # type: ignore[union-attr]


def read_csv(run: Run, name: str) -> list[dict[str, str]]:
    """The rows of one of a run's CSV files.

    Raises:
        ValueError: the file is missing.
    """
    with open(run.file(name), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_npz(run: Run, name: str) -> dict[str, np.ndarray]:
    """The arrays of one of a run's .npz files; nothing is unpickled.

    Raises:
        ValueError: the file is missing.
    """
    with np.load(run.file(name), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); run the command that made it again") from None
    if not isinstance(manifest, dict) or "command" not in manifest:
        raise ValueError(f"{path} does not say which command made it; run that command again")
    return manifest

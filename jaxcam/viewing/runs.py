"""Run directories as the commands leave them: found by their manifests, read into arrays and rows.

A manifest is written last, so a directory without one was not finished, and its numbers are nobody's business.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from jaxcam.checksums import CHECKSUMS, check, is_whole
from jaxcam.neurons import Sweep, open_sweep

MANIFEST = "manifest.json"
KNOWN, WHOLE = ("train", "averages", "neurons", "prune"), "demo"
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
            ValueError: it is not there, although the manifest says that the run was finished, or it is not what the
                run wrote.
        """
        path = self.path / name
        if not path.exists():
            raise ValueError(f"{self.path} lacks {name}, which jaxcam {self.command} writes; run it again")
        known = self.part(CHECKSUMS).get(name)
        check(path, known, f"jaxcam {self.command} … --out {self.path} --overwrite")
        return path


def find(run_dir: str | os.PathLike[str]) -> list[Run]:
    """The finished runs in a directory: itself, and those in directories below it, two levels deep.

    Args:
        run_dir: what a command left under `--out`.

    Returns:
        The runs, outermost first, then by name.

    Raises:
        ValueError: there is no such directory, or it holds no finished run, or an unfinished one.

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
    closed: set[Path] = set()  # runs of studies, whose directories are their own
    for path in [root, *sorted(p for p in [*root.glob("*/"), *root.glob("*/*/")] if p.suffix != ".zarr")]:
        if closed & {path.parent, path.parent.parent}:
            continue
        if (path / MANIFEST).is_file():
            runs.append(Run(path, _manifest(path / MANIFEST)))
            if runs[-1].command not in (*KNOWN, WHOLE):
                closed.add(path)
            continue
        for trace, command in TRACES.items():
            if (path / trace).exists():
                raise ValueError(
                    f"{path} holds {trace} but no {MANIFEST}: the run was not finished; "
                    f"run jaxcam {command} --out {path} again"
                )
    if not any(run.command != WHOLE for run in runs):
        made = f"only a run of jaxcam {WHOLE}" if runs else f"no {MANIFEST}"
        raise ValueError(f"{root} holds {made}, nothing to report; jaxcam demo --out {root} makes a whole run")
    return runs


def read_sweep(run: Run) -> Sweep:
    """Opens the sweep of a neurons run.

    Raises:
        ValueError: it is missing, or not finished.
    """
    return open_sweep(run.file("sweep.zarr"))


def layer_shapes(sweep: Sweep) -> list[tuple[int, ...]]:
    """The shapes of a sweep's layers, without the batch."""
    store = zarr.open_group(sweep.path, mode="r")
    return [tuple(store[name].attrs.get("shape", ())) for name in sweep.layers]  # type: ignore[arg-type]


def times(shape: Sequence[int]) -> str:
    """A shape as words.

    Example:
        >>> times((8, 8, 64))
        '8 × 8 × 64'
    """
    return " × ".join(map(str, shape))


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
    raw = path.read_bytes()
    try:
        manifest, whole = json.loads(raw), is_whole(raw)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); run the command that made it again") from None
    if not whole:
        raise ValueError(f"{path} is damaged: it is not what was written; run the command that made it again")
    if not isinstance(manifest, dict) or "command" not in manifest:
        raise ValueError(f"{path} does not say which command made it; run that command again")
    return manifest

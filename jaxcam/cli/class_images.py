"""The class averages of a run: several kinds at once, and to and from a file."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.checksums import CHECKSUMS, check
from jaxcam.cli.networks import Network
from jaxcam.cli.run_directory import describe
from jaxcam.data import Dataset
from jaxcam.files import write_atomically
from jaxcam.neurons import ClassAverages, average_classes, log_odds
from jaxcam.neurons.averages import KINDS

ADVICE = "try more --steps or a lower --threshold"
"""Where ascent did not reach its threshold."""


def checked_kinds(kinds: Sequence[str]) -> list[str]:
    """Kinds of averages, each once.

    Raises:
        ValueError: there is no such kind, or none is given.
    """
    for kind in kinds:
        if kind not in KINDS:
            near = difflib.get_close_matches(kind, KINDS, n=1)
            meant = f"did you mean {near[0]!r}? There" if near else "there"
            raise ValueError(f"no average {kind!r}; {meant} are {', '.join(KINDS)}")
    if not kinds:
        raise ValueError(f"--kind names no average; there are {', '.join(KINDS)}")
    return list(dict.fromkeys(kinds))


def compute(
    network: Network, dataset: Dataset, kinds: Sequence[str], *, k: int, threshold: float, steps: int, progress: bool
) -> dict[str, ClassAverages]:
    """Averages of several kinds, with one pass of the network over the data, and what was done to each.

    Args:
        network: from `select_outputs`.
        dataset: the images.
        kinds: of `KINDS`.
        k: images for "most" and "least".
        threshold: confidence at which ascent stops.
        steps: of ascent, at most.
        progress: show bars.

    Returns:
        For each kind the averages.

    Raises:
        ValueError: as `average_classes`.
    """
    images, classes, _ = dataset
    labels = network.labels(classes)
    ranking = None
    if {"most", "least"} & set(kinds):
        check_counts(dataset, k)
        ranking = log_odds(network.model, images, labels, progress=progress)
    return {
        kind: average_classes(
            images,
            labels,
            kind,
            network.model,
            k=k,
            ranking=ranking if kind in ("most", "least") else None,
            classes=network.outputs,
            names=network.output_names(),
            threshold=threshold,
            steps=steps,
            progress=progress,
        )
        for kind in kinds
    }


def check_counts(dataset: Dataset, k: int) -> None:
    """Raises where a class has fewer than k images, before the network is asked about all of them."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.names))
    few = int(counts.argmin())
    if counts[few] < k:
        raise ValueError(
            f"the class {dataset.names[few]!r} of {dataset.name} ({dataset.split}) has {counts[few]} images, fewer "
            f"than the {k} to average; give -k {counts[few]} or less, or other kinds than most and least"
        )


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under their names, whole or not at all."""
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_average(run: Path, kind: str) -> tuple[np.ndarray, dict[str, Any]]:
    """One kind of average from a finished run of `jaxcam averages`.

    Args:
        run: its directory.
        kind: of `KINDS`.

    Returns:
        The averages (classes, h, w, c), and the run's manifest.

    Raises:
        ValueError: it is no such run, is not finished, or does not have that kind.
    """
    manifest = finished_run(run, "averages")
    check_result(run, manifest, "averages.npz")
    with np.load(run / "averages.npz", allow_pickle=False) as file:
        if kind not in file.files:
            raise ValueError(f"{run} has the averages {', '.join(file.files)}, not {kind!r}; choose with --average")
        return file[kind], manifest


def check_result(run: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Raises where a file of a finished run is not what the run wrote.

    Raises:
        ValueError: it has changed since, or lacks a part.
        FileNotFoundError: it is not there.
    """
    again = f"jaxcam {manifest['command']} … --out {run} --overwrite"
    check(run / name, (manifest.get(CHECKSUMS) or {}).get(name), again)


def finished_run(run: Path, command: str) -> dict[str, Any]:
    """The manifest of a finished run of a command.

    Raises:
        ValueError: there is none.
    """
    inside = run / command
    if not run.is_dir():
        near = difflib.get_close_matches(run.name, [path.name for path in run.parent.glob("*/")], n=1)
        meant = f"; did you mean {run.parent / near[0]}?" if near else ""
        raise ValueError(f"there is no run directory {run}{meant}")
    found = describe(run)
    if (found is None or found["command"] != command) and (inside / "manifest.json").is_file():
        raise ValueError(f"{run} is not a run of jaxcam {command}; did you mean {inside}?")
    if found is None or found["command"] != command:
        made = f"a run of jaxcam {found['command']}" if found else "no run of jaxcam"
        raise ValueError(f"{run} is {made}; jaxcam {command} --out DIR makes what is needed here")
    if "results" not in found:
        raise ValueError(f"{run} is not finished; run the same jaxcam {command} again")
    return found

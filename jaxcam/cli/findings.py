"""What a demo found, in five lines: the sentences of the report, computed from the same files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.cli.run_directory import MANIFEST
from jaxcam.neurons import open_sweep
from jaxcam.neurons.pruning_table import read_pruning
from jaxcam.viewing import reading
from jaxcam.viewing.tables import curve_table, dead_table, pruning_table


def findings(demo: Path) -> list[str]:
    """One line for the network, its averages, its curve, its dead units and the pruning.

    Args:
        demo: the directory of the demo, its four runs finished.

    Returns:
        Five lines.
    """
    results = {name: manifest(demo / name)["results"] for name in ("train", "averages", "neurons", "prune")}
    sweep = open_sweep(demo / "neurons" / "sweep.zarr")
    similarity = {layer: sweep.similarity(layer) for layer in sweep.layers}
    dead = {layer: sweep.dead(layer) for layer in sweep.layers}
    own = {kind: float(np.mean(values)) for kind, values in results["averages"]["own_confidence"].items()}
    network = f"AlexNet names {results['train']['test_accuracy']:.1%} of the digits it was not trained on correctly."
    averages = (
        f"It is {own['simple']:.2f} sure of the mean image of a class, {own['most']:.2f} of the mean of the images it "
        f"is surest of, {own['least']:.2f} of those it is least sure of."
    )
    entries = pruning_table(read_pruning(demo / "prune" / "pruning.csv"))
    return [
        network + " " + reading.per_class(results["train"]["per_class_accuracy"]),
        averages,
        reading.curves(curve_table(similarity).mean, sweep.layers, sweep.classes),
        reading.dead(dead_table(dead), len(sweep.classes)),
        " ".join(reading.pruning(entries)),
    ]


def whole(demo: Path) -> dict[str, Any]:
    """What the manifest of a demo says: the network, the data and the seed of its training."""
    trained = manifest(demo / "train")
    return {name: trained[name] for name in ("model", "data", "seed")}


def manifest(run: Path) -> dict[str, Any]:
    """The manifest of a finished run."""
    found: dict[str, Any] = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    return found

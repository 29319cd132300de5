"""What a demo found, in five lines: the sentences of the report, computed from the same files."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.cli.run_directory import MANIFEST
from jaxcam.neurons import open_sweep
from jaxcam.neurons.candidates import Candidates
from jaxcam.neurons.pruning_table import read_pruning
from jaxcam.viewing import reading
from jaxcam.viewing.figures.style import short_names
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
    own = {kind: np.array(values) for kind, values in results["averages"]["own_confidence"].items()}
    known = Candidates.of_manifest(manifest(demo / "averages"))
    assert known is not None
    unsure = sweep.classes[int(own["least"].argmin())]
    network = f"AlexNet names {results['train']['test_accuracy']:.1%} of the digits it was not trained on correctly."
    averages = (
        f"It is at least {own['simple'].min():.3f} sure of the stretched mean of a class, {own['most'].min():.3f} of "
        f"the plain mean of the images it is surest of, {own['least'].min():.3f} of those it is least sure of "
        f"(“{unsure}”); softmax over {known.words}."
    )
    layers = short_names(sweep.layers)
    pruned = pruning_table(read_pruning(demo / "prune" / "pruning.csv"))
    said = reading.pruning([entry._replace(layer=name) for entry, name in zip(pruned, layers, strict=True)])
    return [
        network + " " + reading.per_class(results["train"]["per_class_accuracy"]),
        averages,
        reading.curves(curve_table(similarity).mean, layers, sweep.classes),
        reading.dead(dead_table(dead)._replace(layers=layers), len(sweep.classes)),
        f"{said[0]} {said[-1]}",
    ]


def whole(demo: Path) -> dict[str, Any]:
    """What the manifest of a demo says: the network, the data and the seed of its training."""
    trained = manifest(demo / "train")
    return {name: trained[name] for name in ("model", "data", "seed")}


def manifest(run: Path) -> dict[str, Any]:
    """The manifest of a finished run."""
    found: dict[str, Any] = json.loads((run / MANIFEST).read_text(encoding="utf-8"))
    return found

"""What `jaxcam neurons` needs beyond the sweep itself: what is asked, and what is kept of the answer."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxcam.cli.class_images import compute, read_average
from jaxcam.cli.console import table
from jaxcam.cli.datasets import open_data
from jaxcam.cli.networks import Network, open_given, refuse
from jaxcam.cli.outputs import select_outputs
from jaxcam.cli.reopened import data_again, open_again
from jaxcam.files import write_atomically
from jaxcam.neurons import MEASURES, Sweep, changes, similarity
from jaxcam.neurons.average_record import missed
from jaxcam.neurons.prune import peak_layer
from jaxcam.viewing import figures


@dataclass(frozen=True)
class Averages:
    """The class averages that a network is asked about.

    Attributes:
        network: which knows its outputs for the classes.
        images: (classes, h, w, c).
        classes: their names.
        data: what a manifest says of it.
        pictures: by the kind of average what was done to each; empty where an old run does not say.
    """

    network: Network
    images: np.ndarray
    classes: tuple[str, ...]
    data: dict[str, Any]
    pictures: dict[str, Any]

    def missed(self) -> str:
        """A sentence where ascent did not reach its threshold, else nothing."""
        return next((text for one in self.pictures.values() if (text := missed(one, self.classes))), "")


def asked(given: Mapping[str, Any], *, progress: bool) -> Averages:
    """The network and the class averages it is asked about.

    Raises:
        ValueError: neither a network nor averages are given, or they do not belong together.
    """
    kind = given["average"]
    if given["averages"] is not None:
        refuse("--averages, which has it", **{name: given[name] for name in ("data", "outputs")})
        refuse("--averages, which has it", candidates=None if given["candidates"] == "all" else given["candidates"])
        average, manifest = read_average(given["averages"], kind)
        network = open_again(manifest, given["averages"], given["model"], weights=given["weights"])
        data = data_again(manifest, given["averages"])
        pictures = {name: one for name, one in manifest["results"].get("pictures", {}).items() if name == kind}
        return Averages(network, average, tuple(manifest["results"]["classes"]), data, pictures)
    if given["model"] is None:
        raise ValueError("give --averages RUN, or --model for a network whose averages are to be computed")
    network = open_given(given)
    dataset, described = open_data(network, "train", given, progress=progress)
    network = select_outputs(network, dataset, given["outputs"], given["candidates"])
    found = compute(network, dataset, [kind], k=given["images"], threshold=0.99, steps=200, progress=progress)
    pictures = {name: one.to_dict() for name, one in found.items()}
    return Averages(network, np.asarray(found[kind].images), dataset.names, described, pictures)


def without_places(described: Mapping[str, Any]) -> dict[str, Any]:
    """What a store says of a network or of data: not where they were, so that the same ones give the same bytes.

    Example:
        >>> without_places({"name": "vgg11", "weights": "/home/me/vgg11.pth", "fingerprint": "1f"})
        {'name': 'vgg11', 'fingerprint': '1f'}
    """
    return {name: value for name, value in described.items() if name not in ("source", "weights")}


def write_similarity(path: Path, sweep: Sweep) -> None:
    """Every number of a sweep as one table: class, layer, unit, similarity, dead (0 or 1), activation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "layer", "unit", "similarity", "dead", "activation"])
    for layer in sweep.layers:
        similarity, dead, activation = sweep.similarity(layer), sweep.dead(layer), sweep.activation(layer)
        for index, name in enumerate(sweep.classes):
            # float32 as text in the digits that tell it apart, which float64 would pad with noise.
            columns = (similarity[index].astype(str), dead[index].astype(int), activation[index].astype(str))
            writer.writerows([name, layer, unit, *values] for unit, values in enumerate(zip(*columns, strict=True)))
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def draw(sweep: Sweep, out: Path) -> None:
    """The curves through the layers, the dead units, and the extreme units of each layer for the first class."""
    similarity = {layer: sweep.similarity(layer) for layer in sweep.layers}
    dead = {layer: sweep.dead(layer) for layer in sweep.layers}
    words = metric_words(sweep)
    figures.save(figures.similarity_curves(similarity, sweep.classes, metric=words), out / "similarity.png")
    figures.save(figures.dead_units(dead), out / "dead_units.png")
    (out / "extremes").mkdir(exist_ok=True)
    average = sweep.average
    for layer in sweep.layers:
        units, maps = sweep.extremes(layer)
        figure = figures.extreme_units(
            average[0],
            units[0],
            maps[0],
            np.where(units[0] < 0, 0, similarity[layer][0][units[0]]),
            layer=layer,
            name=sweep.classes[0],
            metric=words,
        )
        figures.save(figure, out / "extremes" / f"{layer.replace('/', '_')}.png")


def metric_words(sweep: Sweep) -> str:
    """What the numbers are: "cosine similarity", "hamming distance"."""
    metric = str(sweep.attrs["metric"])
    return f"{metric.replace('_', ' ')} {'similarity' if MEASURES[metric].larger_is_similar else 'distance'}"


def results_of(sweep: Sweep) -> dict[str, Any]:
    """The figures of each layer, means over classes, and the peak of the curve."""
    curve = {layer: sweep.similarity(layer).mean(axis=1) for layer in sweep.layers}
    dead = {layer: sweep.dead(layer) for layer in sweep.layers}
    oriented = MEASURES[str(sweep.attrs["metric"])].oriented(np.stack(list(curve.values()), axis=1))
    return {
        "classes": sweep.classes,
        "metric": metric_words(sweep),
        "units": sum(values.shape[1] for values in dead.values()),
        "dead_for_every_class": sum(int(values.all(axis=0).sum()) for values in dead.values()),
        "peak": sweep.layers[peak_layer(oriented) - 1],
        "layers": {
            layer: {
                "units": dead[layer].shape[1],
                "similarity": float(curve[layer].mean()),
                "dead_share": float(dead[layer].mean()),
            }
            for layer in sweep.layers
        },
    }


def precision_changes(network: Network, sweep: Sweep) -> dict[str, Any]:
    """What the sweep's precision changed: its first class, measured in float32 as well, layer by layer."""
    attrs = sweep.attrs
    exact = similarity(
        network.model,
        sweep.average[:1],
        sweep.layers,
        rule=attrs["rule"],
        against=attrs["against"],
        metric=attrs["metric"],
        target=network.outputs[0],
        steps=attrs.get("steps", 32),
    )
    found = {layer: sweep.similarity(layer)[0] for layer in sweep.layers}
    changed = changes(found, {layer: np.asarray(values[0]) for layer, values in exact.items()})
    return {"of": attrs["precision"], "class": sweep.classes[0], "layers": {k: asdict(v) for k, v in changed.items()}}


def summary(results: Mapping[str, Any]) -> str:
    """The same as a table for the terminal."""
    rows = [
        (layer, values["units"], f"{values['similarity']:.3f}", f"{values['dead_share']:.0%}")
        for layer, values in results["layers"].items()
    ]
    lines = [table(["layer", "units", f"mean {results['metric']}", "dead, mean over classes"], rows), ""]
    lines.append(f"the peak is {results['peak']}")
    if "precision" in results:
        layers = results["precision"]["layers"].values()
        lines.append(
            f"{results['precision']['of']} against float32, class {results['precision']['class']}: rank correlation "
            f"from {min(v['rank_correlation'] for v in layers):.4f} up, largest difference "
            f"{max(v['largest_difference'] for v in layers):.2g}"
        )
    if "memory" in results:
        budget = results["memory"]["budget"]
        lines.append(
            f"peak memory {results['memory']['peak'] / 1e9:.1f} GB" + (f" of {budget / 1e9:.1f} GB" if budget else "")
        )
    return "\n".join(lines)

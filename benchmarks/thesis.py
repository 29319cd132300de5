"""The thesis's tables: accuracies, class averages, curves, dead units, unit and layer pruning, on MNIST and CIFAR-10.

    python -m benchmarks.thesis train DATA OUT [--network vgg11-cifar10] [--epochs 30]
    python -m benchmarks.thesis tables DATA OUT

DATA holds what shared/data's unpack.py writes. OUT gets a directory for each network; a training that was stopped goes
on, and one that is finished goes further when more epochs are asked for. The tables are of the epochs reached so far.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

import jaxcam as jc
from benchmarks.measuring import machine
from jaxcam.cli.class_images import compute, write_npz
from jaxcam.data import Dataset
from jaxcam.neurons.averages import KINDS
from jaxcam.viewing import figures, reading
from jaxcam.viewing.tables import curve_table, dead_table, pruning_table

NETWORKS: dict[str, tuple[str, str, int | None]] = {
    "alexnet-mnist": ("alexnet", "mnist", None),
    "vgg11-mnist": ("vgg11", "mnist", None),
    "alexnet-cifar10": ("alexnet", "cifar10", None),
    "vgg11-cifar10": ("vgg11", "cifar10", None),
    "vgg11-cifar10-4": ("vgg11", "cifar10", 4),
    "vgg11-cifar10-5": ("vgg11", "cifar10", 5),
}
"""What is trained: the network, on which data, and how many convolutions are kept."""

THESIS = {
    "alexnet-mnist": 99.1,
    "vgg11-mnist": 99.1,
    "alexnet-cifar10": 67.9,
    "vgg11-cifar10": 73.9,
    "vgg11-cifar10-4": 80.0,
    "vgg11-cifar10-5": 77.8,
}
"""Its accuracies, in percent."""

TABLE_5_1 = (
    (0.615, 0.547),
    (0.407, 0.705),
    (0.141, 0.739),
    (0.198, 0.740),
    (0.100, 0.739),
    (0.146, 0.739),
    (0.618, 0.739),
    (0.653, 0.739),
)
"""Its accuracies without the most and without the least similar 40 % of each layer's units."""

STUDIED = ("alexnet-mnist", "vgg11-mnist", "alexnet-cifar10", "vgg11-cifar10")
BIRD, PRUNED = 2, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "tables"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="default: all")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    names = asked.network or list(NETWORKS)
    if asked.what == "train":
        for name in names:
            train(name, asked.data, asked.out, asked.epochs, asked.seed)
    else:
        print("\n\n".join(tables([name for name in names if (asked.out / name).exists()], asked.data, asked.out)))
        print(f"\n{machine()}")


def load(name: str, folder: Path, split: str) -> Dataset:
    """The images of a network, 32×32."""
    return jc.data.load(NETWORKS[name][1], split, data_dir=folder, image_size=32)


def train(name: str, folder: Path, out: Path, epochs: int, seed: int) -> None:
    """As the thesis did, or on from where it stopped."""
    network, _, convolutions = NETWORKS[name]
    images = {split: load(name, folder, split) for split in ("train", "test")}
    channels = images["train"].images.shape[-1]
    model = jc.models.load(network, classes=10, image_size=32, channels=channels, seed=seed, convolutions=convolutions)
    history = jc.training.train(model, **images, out=out / name, epochs=epochs, seed=seed, keep_every=1)
    print(name, history[-1], file=sys.stderr, flush=True)


def tables(names: list[str], folder: Path, out: Path) -> list[str]:
    """Everything, in markdown."""
    accuracy, rest = [], []
    for name in names:
        model, test = jc.models.load(out / name / "model.safetensors"), load(name, folder, "test")
        epoch = int(jc.models.read_metadata(out / name / "model.safetensors")["epoch"])
        tested = jc.training.evaluate(model, test)
        accuracy.append(accuracy_row(name, epoch, tested, test))
        if name in STUDIED:
            rest.append(study(name, epoch, model, test, tested, folder, out / name))
    header = "| network | epochs | test images | 95 % interval | the thesis |\n|---|---|---|---|---|"
    return ["\n".join([header, *accuracy]), *rest]


def accuracy_row(name: str, epoch: int, tested: jc.training.Evaluation, test: Dataset) -> str:
    """A row of table 4-1, with Wilson's interval."""
    return f"| {name} | {epoch} | {tested.accuracy:.1%} | {interval(tested.accuracy, test.count)} | {THESIS[name]} % |"


def interval(share: float, count: int) -> str:
    """Wilson's interval of a share, 95 %."""
    found = scipy.stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
    return f"{found.low:.1%} – {found.high:.1%}"


def study(
    name: str, epoch: int, model: Any, test: Dataset, tested: jc.training.Evaluation, folder: Path, out: Path
) -> str:
    """Averages, curves, dead units and pruning of one network; pictures go to its directory."""
    place = out / f"after_{epoch:03d}"
    place.mkdir(exist_ok=True)
    averages = class_averages(model, load(name, folder, "train"), place)
    confidence = {kind: np.asarray(jc.neurons.confidences(model, images)) for kind, images in averages.items()}
    figures.save(figures.averages(averages, test.names), place / "averages.png")
    figures.save(figures.confidence(confidence, test.names), place / "confidence.png")
    sweeps = {
        kind: jc.neurons.sweep(model, averages[kind], place / f"{kind}.zarr", classes=list(test.names))
        for kind in ("most", "least")
    }
    return "\n\n".join(
        [
            f"## {name}, {epoch} epochs",
            confidence_table(confidence),
            layer_table(sweeps["most"]),
            *([bird_table(sweeps, tested)] if "cifar10" in name else []),
            pruned_table(name, model, test, sweeps["most"], place),
        ]
    )


def class_averages(model: Any, train: Dataset, place: Path) -> dict[str, np.ndarray]:
    """The four averages of each class, computed once."""
    path = place / "averages.npz"
    if not path.exists():
        found, _ = compute(model, train, KINDS, k=50, threshold=0.99, steps=200, progress=True)
        write_npz(path, found)
    with np.load(path) as kept:
        return dict(kept)


def confidence_table(confidence: dict[str, np.ndarray]) -> str:
    """How sure the network is of each class's average."""
    rows = ["| average | confidence in its own class, mean | least | recognized |", "|---|---|---|---|"]
    for kind, values in confidence.items():
        own, right = np.diag(values), int((values.argmax(1) == np.arange(len(values))).sum())
        rows.append(f"| {kind} | {own.mean():.3f} | {own.min():.3f} | {right} of {len(own)} |")
    return "\n".join(rows)


def layer_table(sweep: Any) -> str:
    """Similarity and dead units of each layer, of the surest averages."""
    similarity = {layer: sweep.similarity(layer) for layer in sweep.layers}
    dead = {layer: sweep.dead(layer) for layer in sweep.layers}
    counts, mean = dead_table(dead), curve_table(similarity).mean.mean(0)
    live = np.nanmean(curve_table(similarity, dead).mean, 0)
    rows = [
        "| layer | units | mean similarity | of live units | dead, mean of classes | dead for every class |",
        "|---|---|---|---|---|---|",
    ]
    for i, layer in enumerate(sweep.layers):
        cells = (layer, counts.units[i], f"{mean[i]:.3f}", f"{live[i]:.3f}", f"{counts.share[i]:.0%}", counts.always[i])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    peak = jc.neurons.peak_layer(curve_table(similarity).mean)
    said = f"The curve peaks in {sweep.layers[peak - 1]}: layer pruning would keep {peak} of {len(sweep.layers)}."
    return "\n".join([*rows, "", f"{reading.dead(counts, len(sweep.classes))} {said}"])


def bird_table(sweeps: dict[str, Any], tested: jc.training.Evaluation) -> str:
    """Each layer's mean similarity of "bird" beside the mean of all classes, and where it stands among them."""
    rows = [
        f"bird: {tested.per_class[BIRD]:.1%} of its test images right, all {tested.accuracy:.1%}; worst is class "
        f"{int(np.argmin(tested.per_class))}. Its place of ten from below, by similarity:",
        "",
        "| average | layer | bird | all classes | place | rank correlation with accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for kind, sweep in sweeps.items():
        mean = curve_table({layer: sweep.similarity(layer) for layer in sweep.layers}).mean
        for i, layer in enumerate(sweep.layers):
            column = mean[:, i]
            place = int((column < column[BIRD]).sum()) + 1
            found = scipy.stats.spearmanr(column, tested.per_class)
            rows.append(
                f"| {kind} | {layer} | {column[BIRD]:.3f} | {column.mean():.3f} | {place} | "
                f"{found.statistic:+.2f} (p {found.pvalue:.2f}) |"
            )
    return "\n".join(rows)


def pruned_table(name: str, model: Any, test: Dataset, sweep: Any, place: Path) -> str:
    """Table 5-1, with both controls."""
    similarity = {layer: sweep.similarity(layer) for layer in sweep.layers}
    dead = {layer: sweep.dead(layer) for layer in sweep.layers}
    images, labels = test.images[:PRUNED], test.labels[:PRUNED]  # MNIST has 10,000
    rows = jc.neurons.pruning_study(model, images, labels, similarity, dead)
    jc.neurons.write_pruning(place / "pruning.csv", rows)
    entries = pruning_table(rows)
    figures.save(figures.pruning(rows), place / "pruning.png")
    lines = [
        "| layer | units (live) | most | least | random | live: most | least | random | thesis: most | least |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for i, entry in enumerate(entries):
        cells = [f"{way.mean:.3f}" + (f" ± {way.deviation:.3f}" if way.runs > 1 else "") for way in ways(entry)]
        printed = [f"{value:.3f}" for value in TABLE_5_1[i]] if name == "vgg11-cifar10" else ["", ""]
        lines.append(f"| {entry.layer} | {entry.units} ({entry.live}) | {' | '.join([*cells, *printed])} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in reading.pruning(entries))])


def ways(entry: Any) -> list[Any]:
    """What was removed, in the order of the table."""
    return [entry.accuracy[way] for way in ("most", "least", "random", "most_live", "least_live", "random_live")]


if __name__ == "__main__":
    main()

"""One network with two habits nobody told it of, and whether heat maps in groups and concepts find them.

    python -m benchmarks.strategies_and_concepts DATA OUT [--images 2000] [--epochs 8]

DATA holds the files of CIFAR-10; OUT gets the network and the figures. In the training images half of the horses wear a
red tag in a corner, and all automobiles are striped. AlexNet is trained on them; then the test horses, half of them
tagged, are put into groups by their heat maps (SpRAy), and stripes, dots and random pictures are asked about as
concepts of "automobile" and, as a control, of "ship" (TCAV). The tables are in docs/reproduction.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import adjusted_rand_score

import jaxcam as jc
from jaxcam.viewing import figures

KEY = jax.random.key(0)
TAG, RED = (1, 1, 6, 6), [[1.0, 0.0, 0.0]]
AUTOMOBILE, HORSE, SHIP = 1, 7, 8
LAYERS = tuple(f"features.conv{number}" for number in range(5))


def with_habits(data: jc.data.Dataset, key: jax.Array) -> tuple[jc.data.Dataset, np.ndarray]:
    """The data with tags on every second horse and stripes on every automobile, and which horses have a tag."""
    images, tagged = data.images.copy(), np.flatnonzero(data.labels == HORSE)[::2]
    images[tagged] = jc.studies.plant(images[tagged], 0, RED, rectangle=TAG)
    cars = np.flatnonzero(data.labels == AUTOMOBILE)
    images[cars] = 0.6 * images[cars] + 0.4 * jc.studies.concept_images("stripes", len(cars), 32, key=key)
    return dataclasses.replace(data, images=images), tagged


def main() -> None:
    """Trains, explains, prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args()
    load = {"data_dir": given.data, "progress": False}
    plain = jc.data.load("cifar10", "test", **load)
    train, _ = with_habits(jc.data.load("cifar10", "train", limit=given.images, **load), jax.random.key(1))
    test, tagged = with_habits(plain, jax.random.key(2))
    model = jc.models.load("alexnet", classes=10, image_size=32, channels=3, seed=0)
    options = {"epochs": given.epochs, "batch": 64, "learning_rate": 5e-4, "progress": False}
    jc.training.train(model, train, test, out=given.out / "network", **options)
    for name, data in (("with tags and stripes", test), ("without", plain)):
        found = jc.training.evaluate(model, data)
        own = ", ".join(f"{plain.names[k]} {found.per_class[k]:.1%}" for k in (HORSE, AUTOMOBILE))
        print(f"accuracy {name}: {found.accuracy:.1%} of {data.count}; {own}")
    horses(model, test, tagged, given.out)
    stripes(model, test, plain, given.out)


def horses(model: object, test: jc.data.Dataset, tagged: np.ndarray, out: Path) -> None:
    """SpRAy on the test horses."""
    own = np.flatnonzero(test.labels == HORSE)
    truth = np.isin(own, tagged)

    def tags(groups: jc.studies.HeatmapClusters) -> list[int]:
        return [int(truth[groups.labels == group].sum()) for group in range(groups.count)]

    box = jc.composites.epsilon_gamma_box(0.0, 1.0)
    for name, composite in {"epsilon_plus": "epsilon_plus", "epsilon_gamma_box": box}.items():
        maps = np.asarray(jc.lrp(model, jnp.asarray(test.images[own]), HORSE, composite=composite))
        found, wide = (jc.studies.heatmap_clusters(maps, key=KEY, gap=gap) for gap in ("relative", "absolute"))
        inside = np.abs(maps[:, 1:7, 1:7]).sum((1, 2, 3)) / np.abs(maps).sum((1, 2, 3))
        agree = [adjusted_rand_score(truth, groups.labels) for groups in (found, wide)]
        print(f"{name}: {len(own)} horses in {found.count} groups {found.sizes.tolist()}, with a tag {tags(found)}")
        print(f"  adjusted Rand index {agree[0]:.2f}")
        print(
            f"  by the absolute gap {agree[1]:.2f}, {wide.count} groups {wide.sizes.tolist()}, with a tag {tags(wide)}"
        )
        print(f"  relevance in the tag {inside[truth].mean():.1%}, there without a tag {inside[~truth].mean():.1%}")
        figures.save(figures.heatmap_groups(found, test.images[own]), out / f"horses_{name}.png")


def stripes(model: object, test: jc.data.Dataset, plain: jc.data.Dataset, out: Path) -> None:
    """TCAV of stripes, dots and random pictures."""
    others = plain.images[~np.isin(plain.labels, (AUTOMOBILE, SHIP))]
    concepts = {kind: jc.studies.concept_images(kind, 50, 32, key=KEY) for kind in ("stripes", "dots")}
    concepts["random"] = others[:50]
    for target in (AUTOMOBILE, SHIP):
        x = test.images[test.labels == target]
        found = jc.studies.concepts(
            model, x, target, concepts, others[50:], layers=LAYERS, key=KEY, random_concepts=999
        )
        print(f"{plain.names[target]}: {len(x)} images, {len(others) - 50} others")
        for row in found:
            print(
                f"| {row.layer} | {row.concept} | {row.score:.2f} | {row.rise:+.3g} | {row.accuracy:.0%} | "
                f"{row.corrected:.3f} | {row.published:.1e} |"
            )
        figures.save(figures.concepts(found, title=plain.names[target]), out / f"{plain.names[target]}.png")


if __name__ == "__main__":
    main()

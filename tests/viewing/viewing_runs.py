"""Run directories as the commands leave them, made of seeded random numbers and without the commands."""

import csv
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

VERSIONS = {"jaxcam": "0.1.0", "jax": "0.10.2"}
KINDS = ("simple", "most", "least", "ascent")


@dataclass
class Made:
    """A run directory and the numbers that were written into it."""

    path: Path
    classes: list[str]
    layers: list[str]
    average: np.ndarray
    similarity: dict[str, np.ndarray] = field(default_factory=dict)
    dead: dict[str, np.ndarray] = field(default_factory=dict)
    extremes: dict[str, np.ndarray] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)


class Maker:
    """Writes runs with few classes, layers and pixels; each method leaves one finished run and its manifest."""

    def __init__(self, path, *, classes=("ant", "bee", "cat"), units=(12, 20, 24), side=8, channels=1, seed=0):
        self.random = np.random.default_rng(seed)
        self.units, self.side, self.channels = units, side, channels
        images = (len(classes), side, side, channels)
        self.made = Made(path, list(classes), [f"features.conv{i}" for i in range(len(units))], self.noise(images))

    def noise(self, shape):
        return self.random.random(shape, dtype=np.float32)

    def manifest(self, path, command, arguments=None, results=None, **other):
        path.mkdir(parents=True, exist_ok=True)
        manifest = {
            "command": command,
            "arguments": arguments or {},
            "model": {"name": "alexnet", "classes": len(self.made.classes), "parameters": 12345, "normalize": None},
            "data": {"name": "digits"},
            "seed": 0,
            "versions": VERSIONS,
            "files": [],
            "results": results or {},
        }
        (path / "manifest.json").write_text(json.dumps({**manifest, **other}))
        return path

    def write_rows(self, path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def train(self, path):
        self.write_rows(path / "history.csv", history_rows())
        per_class = np.linspace(0.6, 0.9, len(self.made.classes)).tolist()
        results = {"per_class_accuracy": per_class, "classes": self.made.classes}
        return self.manifest(path, "train", {"model": "alexnet", "epochs": 5, "out": "runs/train"}, results)

    def averages(self, path):
        path.mkdir(parents=True, exist_ok=True)
        k = len(self.made.classes)
        np.savez(path / "averages.npz", **{kind: self.noise(self.made.average.shape) for kind in KINDS})
        softmax = {kind: self.random.dirichlet(np.ones(k), size=k).astype("f4") for kind in KINDS}
        np.savez(path / "confidence.npz", **{**softmax, "most": np.eye(k, dtype="f4")})
        return self.manifest(path, "averages", {"kind": list(KINDS)}, {"classes": self.made.classes})

    def neurons(self, path, **attributes):
        made, k, side, c = self.made, len(self.made.classes), self.side, self.channels
        path.mkdir(parents=True, exist_ok=True)
        root = zarr.open_group(path / "sweep.zarr", mode="w")
        root.attrs.update(
            {
                "format": 2, "memory": 1 << 30, "title": "all units", "jaxcam": "0.1.0",
                "model": {"name": "alexnet"}, "data": {"name": "digits"},
                "rule": "guided", "against": "image", "metric": "cosine", "average": "most", "seed": 0,
                "versions": VERSIONS, "layers": made.layers, "classes": made.classes, **attributes,
            }
        )  # fmt: skip
        put(root, "average", made.average, ("class", "y", "x", "channel"))
        put(root, "confidence", np.eye(k, dtype="f4"), ("class", "output"))
        put(root, "done", np.ones((k, len(self.units)), dtype="u1"), ("class", "layer"))
        for index, (layer, units) in enumerate(zip(made.layers, self.units, strict=True)):
            lowest = -0.3 if attributes.get("metric", "cosine") == "cosine" else 0.0  # no distance is below 0
            similarity = self.random.uniform(lowest, 0.9, (k, units)).astype("f4")
            dead = self.random.random((k, units)) < min(0.1 + 0.3 * index, 0.8)
            dead[:, 0] = index > 0  # one unit of each later layer is dead for every class
            similarity[dead] = 0
            extremes = np.full((k, 16), -1, dtype="i4")
            maps = np.zeros((k, 16, side, side, c), dtype="f4")
            for i in range(k):
                live = np.flatnonzero(~dead[i])
                order = live[np.argsort(similarity[i, live], kind="stable")]
                for start, units_there in ((0, order[:8]), (8, order[::-1][:8])):
                    extremes[i, start : start + len(units_there)] = units_there
            maps[extremes >= 0] = self.random.normal(size=(int((extremes >= 0).sum()), side, side, c))
            group = root.create_group(layer)
            group.attrs.update({"kind": "relu", "shape": [side, side, units], "units": units})
            put(group, "similarity", similarity, ("class", "unit"))
            put(group, "dead", dead, ("class", "unit"))
            put(group, "activation", np.where(dead, 0, 1).astype("f4"), ("class", "unit"))
            put(group, "extreme_unit", extremes, ("class", "rank"))
            put(group, "extreme_map", maps, ("class", "rank", "y", "x", "channel"))
            made.similarity[layer], made.dead[layer] = similarity, dead
            made.extremes[layer], made.maps[layer] = extremes, maps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: consolidated metadata are not yet in the format's third version
            zarr.consolidate_metadata(path / "sweep.zarr")
        return self.manifest(path, "neurons", {"rule": "guided"})

    def prune(self, path):
        self.write_rows(path / "pruning.csv", pruning_rows(self.made.layers))
        return self.manifest(path, "prune", {"fraction": 0.4, "seeds": 3})

    def demo(self):
        path = self.made.path
        for command in ("train", "averages", "neurons", "prune"):
            getattr(self, command)(path / command)
        self.manifest(path, "demo", {"out": "runs/demo"})
        return self.made


def put(group: zarr.Group, name: str, values: np.ndarray, dims: tuple[str, ...]) -> None:
    group.create_array(name, data=values, dimension_names=dims)


def history_rows() -> list[dict[str, Any]]:
    """Five epochs that overfit: the test loss is lowest in the third."""
    losses = (2.0, 1.2, 1.0, 1.3, 1.6)
    return [
        {"epoch": e, "train_loss": 2 / e, "train_accuracy": 0.2 * e, "test_loss": loss, "test_accuracy": 0.15 * e}
        for e, loss in enumerate(losses, 1)
    ]


def pruning_rows(layers: list[str]) -> list[dict[str, Any]]:
    """Similarity finds what matters among all units, and nothing among the live ones."""
    rows = []
    for layer in layers:
        base = {"layer": layer, "units": 20, "live": 12, "seed": "", "fraction": 0.4}
        for which, accuracy in (
            ("none", 0.95),
            ("most", 0.2),
            ("least", 0.94),
            ("most_live", 0.7),
            ("least_live", 0.6),
        ):
            rows.append({**base, "which": which, "accuracy": accuracy})
        for seed, (everywhere, live) in enumerate(((0.7, 0.6), (0.8, 0.7), (0.9, 0.8))):
            rows.append({**base, "which": "random", "seed": seed, "accuracy": everywhere})
            rows.append({**base, "which": "random_live", "seed": seed, "accuracy": live})
    return rows

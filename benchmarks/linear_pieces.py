"""Exact linear pieces on MNIST and CIFAR-10: how exact, who shares one, how large one is, and LIME and SHAP beside it.

    python -m benchmarks.linear_pieces DATA UNPACKED [--figures DIR]

DATA is the data folder (cifar10_resnet/), UNPACKED what its unpack.py wrote (MNIST, CIFAR-10). All in float64. In the
constant background of a digit the places of a max pool tie, so the image lies on facets; for what is measured inside a
polytope, noise below half a step of brightness is added. The tables are in docs/reproduction.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam as jc
from jaxcam import studies
from jaxcam.viewing import figures

SEED = 0
TRAINED, EPOCHS = 12_000, 3


class Digits(nnx.Module):
    """Two convolutions with max pools, two dense layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv0 = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.conv1 = nnx.Conv(8, 16, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(16 * 64, 32, rngs=rngs)
        self.head = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.max_pool(nnx.relu(self.conv0(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


def precise(model: Any) -> Any:
    """The same network in float64."""
    return jax.tree_util.tree_map(
        lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, model
    )


def mnist(data: Path) -> tuple[Any, np.ndarray, np.ndarray, float]:
    """A network trained here, test images, its accuracy on them."""
    import optax

    images, labels, _ = jc.data.load("mnist", "train", data_dir=data, image_size=32, limit=TRAINED)
    model = Digits(nnx.Rngs(SEED))
    graph, weights = nnx.split(model)
    optimizer = optax.adam(1e-3)

    @jax.jit
    def step(weights: Any, state: Any, x: Any, y: Any) -> Any:
        def loss(w: Any) -> Any:
            return optax.softmax_cross_entropy_with_integer_labels(nnx.merge(graph, w)(x), y).mean()

        updates, state = optimizer.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, updates), state

    state, random = optimizer.init(weights), np.random.default_rng(SEED)
    for _ in range(EPOCHS):
        order = random.permutation(len(images))
        for start in range(0, len(images) - 127, 128):
            rows = order[start : start + 128]
            weights, state = step(weights, state, images[rows], labels[rows])
    model = nnx.merge(graph, weights)
    x, y, _ = jc.data.load("mnist", "test", data_dir=data, image_size=32, limit=1000)
    x = np.asarray(x, np.float64)
    model = precise(model)
    return model, x, y, accuracy(model, x, y)


def cifar(data: Path, unpacked: Path) -> tuple[Any, np.ndarray, np.ndarray, float]:
    """The trained ResNet20, the 1,000 test images, and its accuracy on them."""
    os.environ["JAXCAM_TEST_DATA"] = str(data)
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "attribution"))
    import trained_nets  # type: ignore[import-not-found]

    x, y, _ = jc.data.load("cifar10", "test", data_dir=unpacked, limit=1000)
    x = (np.asarray(x, np.float64) - trained_nets.MEAN) / trained_nets.STD
    model = precise(trained_nets.resnet_nnx(20))
    return model, x, y, accuracy(model, x, y)


def accuracy(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    run = jax.jit(model)
    said = np.concatenate([np.asarray(run(jnp.asarray(x[i : i + 100]))).argmax(-1) for i in range(0, len(x), 100)])
    return float((said == y[: len(said)]).mean())


def pure(groups: np.ndarray, labels: np.ndarray) -> str:
    """Of all pairs of images in one group, the share that are of one class."""
    pairs = [labels[groups == g] for g in np.unique(groups)]
    same = sum(int((np.bincount(own) * (np.bincount(own) - 1)).sum()) for own in pairs)
    return f"{same / every:.1%}" if (every := sum(len(own) * (len(own) - 1) for own in pairs)) else "–"


def quantiles(values: np.ndarray) -> str:
    low, middle, high = np.nanpercentile(values, [10, 50, 90])
    return f"{middle:.2g} ({low:.2g} – {high:.2g})"


def report(
    name: str,
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    right: float,
    noise: int,
    some: int,
    samples: int,
    folder: Path | None,
) -> str:
    """The tables of one network."""
    key = jax.random.key(SEED)
    begun = time.perf_counter()
    shared = studies.polytopes(model, x)
    spent = time.perf_counter() - begun
    few = x[:some] + noise * np.random.default_rng(SEED).uniform(-0.5, 0.5, x[:some].shape) / 255
    found = studies.linear_piece(model, few)
    ways = np.random.default_rng(SEED).normal(size=few.shape)
    ways /= np.sqrt((ways**2).sum((1, 2, 3), keepdims=True))
    reach = studies.region_size(model, few, ways)
    inside = few + (0.5 * reach.distance)[:, None, None, None] * ways
    beyond = few + (1.001 * reach.distance)[:, None, None, None] * ways
    same = (studies.polytopes(model, inside).whole == found.polytope).mean()
    other = (studies.polytopes(model, beyond).whole != found.polytope).mean()
    names, counts = np.unique(reach.layer, return_counts=True)
    lengths = np.sqrt((few**2).sum((1, 2, 3)))
    lines = [
        f"### {name}",
        "",
        f"{len(x)} test images, {right:.1%} right. W·x + b against the network, {some} images × 10 classes: relative "
        f"error {found.error.max():.1e} at most. The first facet in a random direction is {quantiles(reach.distance)} "
        f"away, the images' own lengths being {quantiles(lengths)}; most often it belongs to "
        f"{names[counts.argmax()]} ({counts.max()} of {some}). Identifiers equal half the way there: {same:.0%}; "
        f"different 0.1 % beyond: {other:.0%}. Identifiers of all images: {spent:.0f} s.",
        "",
        "| layer | switches | groups | not alone | largest group | of one class | groups with all above | not alone |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r.layer} | {r.switches:,} | {r.groups} | {r.sharing:.1%} | {r.largest:.1%} | "
            f"{pure(shared.groups(None if r.layer == '(whole)' else r.layer), y[: len(x)])} | {r.groups_above} | "
            f"{r.sharing_above:.1%} |"
            for r in shared.table()
        ),
        "",
    ]
    print("\n".join(lines), flush=True)
    lines = [
        "| | error inside | error of whole segments | moved inside | another key | nearest image | s/image |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, s in studies.surrogates(model, few, key=key, segments="grid", samples=samples, baseline=0.0).items():
        cells = [quantiles(getattr(s, what)) for what in ("inside", "removal", "moved", "redrawn", "neighbor")]
        lines.append(f"| {method} | {' | '.join(cells)} | {s.seconds:.2f} |")
    if folder is not None:
        chosen = found.values.argmax(-1)
        W = np.asarray(found.W)[np.arange(some), chosen]
        shown = (few - few.min()) / (few.max() - few.min())
        titles = [f"class {k}" for k in np.asarray(chosen)]
        figure = figures.linear_pieces(shown, W, shared, titles=titles)
        figures.save(figure, folder / f"linear_pieces_{name.split()[0].lower()}.png")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.linear_pieces", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("unpacked", type=Path)
    parser.add_argument("--figures", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--explained", type=int, default=8)
    parser.add_argument("--samples", type=int, default=300, help="of LIME and SHAP")
    parser.add_argument("--only", choices=["mnist", "cifar10"])
    a = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if a.only != "cifar10":
        model, x, y, right = mnist(a.unpacked)
        print(
            report("MNIST (two convolutions)", model, x[: a.images], y, right, 1, a.explained, a.samples, a.figures),
            flush=True,
        )
    if a.only != "mnist":
        model, x, y, right = cifar(a.data, a.unpacked)
        print(
            report("CIFAR-10 (ResNet20)", model, x[: a.images], y, right, 0, a.explained, a.samples, a.figures),
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Class activation maps and layer values of 41 Persian cats: how redundant, and of which law? (Utkin and Nagorny, 2024)

    python -m benchmarks.maps_and_values DATA OUT

DATA is the data folder (squeezenet/, cifar10_resnet/, cifar10/, imagenet/); OUT gets the maps and values, so that a
second run is quick, the tables, and two figures. Pictures are resized without a crop, as the paper has them. The tables
are in docs/reproduction.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

import jaxcam as jc
from jaxcam.studies.families import FAMILIES
from jaxcam.studies.monte_carlo import corrections
from jaxcam.viewing import figures

KEY = jax.random.key(0)
DRAWS, PERMUTATIONS, LEVEL = 9_999, 999, 0.05
CAT, CONVERTIBLE, CIFAR_CAT = 283, 511, 3
SIDE = 7  # of the grid that thinned maps keep
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
PRINTED = (
    "5.6252072e-15 1.0156708e-05 2.7649643e-05 3.7482449e-05 4.2952932e-05 6.3283624e-05 8.0670885e-05 1.0771373e-04 "
    "1.4873820e-04 2.1942118e-04 2.6044162e-04 3.1393403e-04 3.4259117e-04 3.7550344e-04 5.1631185e-04 6.2412251e-04 "
    "7.8092172e-04 8.0532720e-04 9.4386912e-04 9.9355390e-04 1.2137018e-03 1.6810955e-03 1.9495980e-03 2.1692021e-03 "
    "2.5554232e-03 3.0200800e-03 3.7222896e-03 4.6060761e-03 6.4338180e-03 8.6312983e-03 1.0153794e-02 1.1521587e-02 "
    "1.4861445e-02 2.1814652e-02 4.7785360e-02 5.5464689e-02 7.1629591e-02 1.3610165e-01 1.5274547e-01 1.8200956e-01 "
    "2.5323495e-01"
)

Answers = dict[str, np.ndarray]


def pictures(folder: Path, size: int, limit: int | None = None) -> np.ndarray:
    """Photographs (n, size, size, 3) in [0, 1], the whole picture."""
    found = []
    for file in sorted(folder.glob("*.JPEG"))[:limit]:
        image = PIL.Image.open(file).convert("RGB").resize((size, size), PIL.Image.Resampling.BILINEAR)
        found.append(np.asarray(image, np.float32) / 255)
    return np.stack(found)


def cases(data: Path) -> dict[str, Callable[[], tuple[Any, np.ndarray, int, list[str] | None]]]:
    """By name: the network, images, the class, and layers where they are not found."""
    os.environ["JAXCAM_TEST_DATA"] = str(data)
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "attribution"))
    import trained_nets  # type: ignore[import-not-found]

    cats, cars = data / "imagenet/n02123394_persian_cat", data / "imagenet/n03100240_convertible"

    def squeezenet(weights: Path | None) -> Any:
        return jc.models.load("squeezenet1_1", weights, normalize="imagenet")

    def cifar(depth: int) -> tuple[Any, np.ndarray, int, None]:
        images, labels = trained_nets.cifar10()
        return trained_nets.resnet_nnx(depth), images[labels == CIFAR_CAT][:41], CIFAR_CAT, None

    trained = data / "squeezenet/squeezenet1_1.safetensors"

    def shrunk() -> tuple[Any, np.ndarray, int, None]:
        return trained_nets.resnet_nnx(20), (pictures(cats, 32) - MEAN) / STD, CIFAR_CAT, None

    return {
        "SqueezeNet, 41 cats": lambda: (squeezenet(trained), pictures(cats, 224), CAT, None),
        "SqueezeNet, 26 convertibles": lambda: (squeezenet(trained), pictures(cars, 224, 26), CONVERTIBLE, None),
        "SqueezeNet untrained, 41 cats": lambda: (squeezenet(None), pictures(cats, 224), CAT, None),
        "ResNet20, 41 cats at 32×32": shrunk,
        "ResNet20, 41 cats of CIFAR-10": lambda: cifar(20),
        "ResNet56, 41 cats of CIFAR-10": lambda: cifar(56),
        "ResNet50 untrained, 41 cats": lambda: (
            jc.models.load("resnet50", normalize="imagenet"),
            pictures(cats, 224),
            CAT,
            None,
        ),
    }


def answers(make: Callable[[], tuple[Any, np.ndarray, int, list[str] | None]], store: Path) -> Answers:
    """Maps and values of one network, from a file where they are there."""
    if store.exists():
        with np.load(store) as found:
            return dict(found)
    model, images, target, layers = make()
    parts = [jnp.asarray(images[np.minimum(np.arange(i, i + 8), len(images) - 1)]) for i in range(0, len(images), 8)]
    values = [jc.studies.layer_values(model, part, layers) for part in parts]
    found = {name: np.concatenate([part[name] for part in values])[: len(images)] for name in values[0]}
    found["cam"] = np.concatenate([np.asarray(jc.cam(model, part, target)) for part in parts])[: len(images)]
    found["right"] = np.mean(found["logits"].argmax(1) == target)
    np.savez(store, **found)
    return found


def redundancy_table(everything: Mapping[str, Answers], out: Path) -> str:
    """One row for each network and for the paper: raw maps, and maps scaled to [0, 1]."""
    spectrum = jc.studies.read_spectrum(PRINTED)
    lines = [
        "| maps | size | in 9 | for 93.56 % | in 9, exchanged | in 9, shifted | more than exchanged "
        "| more than shifted | in 9, of maps left out |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| the paper's 41 ratios | 7×7 | {spectrum.share(9):.2%} | {spectrum.count(0.9356)} | | | | | |",
    ]
    for name, found in everything.items():
        maps = found["cam"]
        for scaled in (False, True):
            if np.ptp(maps, axis=(1, 2)).min() == 0:
                continue
            one, other = (
                jc.studies.redundancy(maps, 9, scaled=scaled, key=KEY, permutations=PERMUTATIONS, null=null)
                for null in ("pixels", "shifts")
            )
            size = f"{maps.shape[1]}×{maps.shape[2]}"
            lines.append(
                f"| {name}{', scaled' if scaled else ''} | {size} | {one.spectrum.share(9):.2%} "
                f"| {one.spectrum.count(0.9356)} | {nine(one):.2%} | {nine(other):.2%} | {one.significant} "
                f"| {other.significant} | {one.held_out[8]:.2%} |"
            )
            if name == "SqueezeNet, 41 cats" and scaled:
                figures.save(figures.redundancy(one), out / "redundancy.png", dpi=120)
    return "\n".join(lines)


def nine(found: jc.studies.Redundancy) -> float:
    """What nine components hold of maps that were destroyed."""
    assert found.null is not None
    return float(found.null[:, :9].sum(1).mean())


def thinned(values: np.ndarray) -> np.ndarray:
    """A grid of about 7×7 places, far apart, of square maps that were flattened."""
    side = round(values.shape[1] ** 0.5)
    step = max(1, round(side / SIDE))
    first = (side - 1) % step // 2
    grid = values.reshape(-1, side, side)[:, first::step, first::step]
    return grid.reshape(len(values), -1)


def neighbors(values: np.ndarray) -> float:
    """The correlation of places beside each other, mean over the images."""
    side = round(values.shape[1] ** 0.5)
    grid = values.reshape(-1, side, side)
    return float(np.mean([np.corrcoef(g[:, :-1].ravel(), g[:, 1:].ravel())[0, 1] for g in grid]))


def kept(tests: Mapping[str, jc.studies.Distributions]) -> dict[tuple[str, str], int]:
    """How many samples are not rejected at 5 %, corrected over everything of a network."""
    pvalues = {(layer, law): one.pvalue[law] for layer, one in tests.items() for law in FAMILIES}
    together = corrections(np.concatenate(list(pvalues.values())), "benjamini-hochberg")
    return {at: int((part > LEVEL).sum()) for at, part in zip(pvalues, np.split(together, len(pvalues)), strict=True)}


def span(values: np.ndarray) -> str:
    """The least and the largest."""
    return f"{values.min():.3f}–{values.max():.3f}"


def distributions_table(name: str, found: Answers, out: Path) -> str:
    """One row for each layer: what was published, the honest distances, what is not rejected, all and thinned."""
    values = {layer: rows for layer, rows in found.items() if layer not in ("cam", "right")}
    values = {layer: rows[np.ptp(rows, axis=1) > 0] for layer, rows in values.items()}
    tests = {layer: jc.studies.distributions(rows, key=KEY, draws=DRAWS) for layer, rows in values.items()}
    few = {layer: thinned(rows) for layer, rows in values.items() if layer != "logits"}
    sparse = {layer: jc.studies.distributions(rows, key=KEY, draws=DRAWS) for layer, rows in few.items()}
    whole, thin = kept(tests), kept(sparse)
    lines = [
        f"**{name}** ({found['right']:.0%} classified right)\n",
        "| layer | n | published, normal | published, “log-normal” | D, normal / log-normal / logistic | closest "
        "| not rejected | neighbors | n, thinned | neighbors | not rejected |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for layer, one in tests.items():
        distance = " / ".join(
            f"{np.median(d):.3f}" if len(d := one.statistic[law][np.isfinite(one.statistic[law])]) else "–"
            for law in FAMILIES
        )
        counts = " / ".join(str(whole[layer, law]) for law in FAMILIES)
        nearest = np.nanargmin(np.stack([one.statistic[law] for law in FAMILIES]), axis=0)
        closest = " / ".join(str(count) for count in np.bincount(nearest, minlength=len(FAMILIES)))
        rest = "| | | | |"
        if layer in few:
            fewer = " / ".join(str(thin[layer, law]) for law in FAMILIES)
            rest = f"| {neighbors(values[layer]):.2f} | {few[layer].shape[1]} | {neighbors(few[layer]):.2f} | {fewer} |"
        lines.append(
            f"| {layer} | {one.count} | {span(one.published['norm'])} | {span(one.published['logistic'])} "
            f"| {distance} | {closest} | {counts} {rest}"
        )
    if name == "SqueezeNet, 41 cats":
        figures.save(figures.distributions(values, tests), out / "distributions.png", dpi=120)
    return "\n".join(lines)


def scale_table(found: Answers) -> str:
    """The published statistic of the same values in another unit: the fit is the same, the number is not."""
    layer = next(layer for layer in found if layer not in ("cam", "right", "logits"))
    lines = [f"| {layer} times | published, normal | published, “log-normal” | honest D, normal |", "|---|---|---|---|"]
    for factor in (0.01, 0.1, 1, 10):
        one = jc.studies.distributions(factor * found[layer], key=KEY, draws=99)
        median = [np.median(v) for v in (*one.published.values(), one.statistic["norm"])]
        lines.append(f"| {factor:g} | {median[0]:.3f} | {median[1]:.3f} | {median[2]:.3f} |")
    return "\n".join(lines)


def fields(count: int, side: int, length: float) -> np.ndarray:
    """Gaussian random fields, cut from larger ones, smooth over so many places; flattened."""
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    noise = np.fft.fft2(np.random.default_rng(0).normal(size=(count, 128, 128)))
    smooth = np.fft.ifft2(noise * np.exp(-np.square(np.pi * frequencies * length))).real
    return smooth[:, :side, :side].reshape(count, -1)


def control_table() -> str:
    """How often the test rejects normal values that are as correlated as SqueezeNet's, and how far off they seem."""
    lines = ["| places | neighbors | D, normal | rejected at 5 % |", "|---|---|---|---|"]
    for side, wanted in ((55, 0.85), (27, 0.83), (13, 0.74), (7, 0.46), (7, 0.23)):
        low, high = 0.1, 4.0
        for _ in range(12):
            length = (low + high) / 2
            low, high = (length, high) if neighbors(fields(50, side, length)) < wanted else (low, length)
        one = jc.studies.distributions(fields(200, side, length), key=KEY, draws=DRAWS, correction="none")
        distance, share = np.median(one.statistic["norm"]), (one.pvalue["norm"] <= LEVEL).mean()
        lines.append(f"| {side}×{side} | {wanted} | {distance:.3f} | {share:.0%} |")
    return "\n".join(lines)


def main() -> None:
    """Computes what is not there, prints and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    everything = {}
    for index, (name, make) in enumerate(cases(asked.data.resolve()).items()):
        everything[name] = answers(make, asked.out / f"{index}.npz")
        print(
            f"{name}: {', '.join(f'{k} {v.shape}' for k, v in everything[name].items())}", file=sys.stderr, flush=True
        )
    parts = [redundancy_table(everything, asked.out)]
    parts += [distributions_table(name, found, asked.out) for name, found in everything.items()]
    parts += [scale_table(everything["SqueezeNet, 41 cats"]), control_table()]
    text = "\n\n".join(parts) + "\n"
    (asked.out / "tables.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

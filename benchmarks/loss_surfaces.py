"""What does the loss of a trained network look like? CIFAR-10's ResNet20, on images it was and was not trained on.

    python -m benchmarks.loss_surfaces DATA OUT [--points 21] [--images 100]

DATA holds cifar10_resnet/ and cifar10/; OUT gets the landscape and its picture, and is gone on with. The figures are in
docs/reproduction.md. The network itself comes from the tests.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
from flax import nnx

import jaxcam as jc
from jaxcam.viewing import figures

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "attribution"))


def main() -> None:
    """Draws the plane, and its axes with the kept statistics of batch norm and with each batch's own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--points", type=int, default=21)
    parser.add_argument("--images", type=int, default=100)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    os.environ["JAXCAM_TEST_DATA"] = str(asked.data.resolve())
    import trained_nets  # type: ignore[import-not-found]

    kept = trained_nets.resnet_nnx(20)
    own = nnx.clone(kept)
    own.set_attributes(nnx.BatchNorm, use_running_average=False)
    ways = jc.studies.random_directions(kept, key=jax.random.key(0))
    x, y = learned(asked.data, trained_nets)
    losses = {
        "training images": jc.studies.classification_loss(x[: asked.images], y[: asked.images], batch=asked.images),
        "test images": test_loss(asked.images, trained_nets),
    }
    begun = time.monotonic()
    plane = jc.studies.landscape(
        losses["training images"], kept, ways, points=asked.points, out=asked.out / "plane.npz"
    )
    print(f"{plane.values.size} points in {time.monotonic() - begun:.0f} s")
    say("plane, training images", plane)
    title = f"ResNet20, {asked.images} training images of CIFAR-10"
    figures.save(figures.landscape(plane, title=title), asked.out / "plane.png", dpi=110)
    for name, loss in losses.items():
        for statistics, model in (("kept", kept), ("batch", own)):
            line = jc.studies.landscape(loss, model, ways[:1], points=asked.points)
            say(f"first axis, {name}, statistics {statistics}", line)
            if (name, statistics) == ("training images", "kept"):
                away = np.abs(line.values - plane.values[:, asked.points // 2]) / line.values
                print(f"the line against the plane's axis: {away.max():.1e} relative")


def learned(data: Path, nets: Any) -> tuple[np.ndarray, np.ndarray]:
    """The first 1,000 training images as the network takes them, and their labels."""
    mosaic = np.asarray(PIL.Image.open(data / "cifar10/train_00.webp").convert("RGB"))
    tiles = mosaic.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    labels = np.load(data / "cifar10/train_labels.npy")[: len(tiles)]
    return (tiles / np.float32(255) - nets.MEAN) / nets.STD, labels.astype(int)


def test_loss(count: int, nets: Any) -> jc.studies.ClassificationLoss:
    """The loss on the first test images."""
    images, labels = nets.cifar10()
    return jc.studies.classification_loss(images[:count], labels[:count].astype(int), batch=count)


def say(name: str, found: jc.studies.Landscape) -> None:
    """A line for a landscape."""
    print(
        f"{name}: center {found.center:.4f}, least {found.values.min():.4f} at {found.lowest}, "
        f"greatest {found.values.max():.4g}, at the ends {found.values.flat[0]:.4g} {found.values.flat[-1]:.4g}"
    )


if __name__ == "__main__":
    main()

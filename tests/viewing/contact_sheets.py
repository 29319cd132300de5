"""The contact sheet of all methods on fixed images: numbers catch regressions, eyes catch nonsense.

    python tests/viewing/contact_sheets.py sheet.png

draws it with a trained SqueezeNet on photographs where the shared data are at hand, else with an untrained tiny
network on the digits that come with the package, and fails where a map is blank.
"""

import os
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxcam as jc
from jaxcam.attribution.methods import METHODS
from jaxcam.viewing.blending import blend, fitted, flat, pale
from jaxcam.viewing.colors import to_bytes

DATA = Path(os.environ.get("JAXCAM_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
PHOTOGRAPHS = ("n01820546_lorikeet", "n02391049_zebra")

# Less than the defaults where those take minutes on two cores; enough to see what a method sees.
OPTIONS = {
    "integrated_gradients": {"steps": 8},
    "blur_integrated_gradients": {"steps": 8},
    "guided_integrated_gradients": {"steps": 8},
    "smooth_grad": {"samples": 8},
    "gradient_shap": {"samples": 8},
    "rise": {"masks": 120},
    "lime": {"samples": 60},
    "kernel_shap": {"samples": 60},
    "score_cam": {"layer": "features.fire9.squeeze"},  # 64 units, where the last layer has a thousand
    "xrai": {"steps": 4},
    "layerwise_maps": {"missing": "ones"},
}


class Tiny(nnx.Module):
    """Convolutions, then the mean over space, then the classes: every method has what it needs."""

    def __init__(self):
        rngs = nnx.Rngs(3)
        self.conv0 = nnx.Conv(1, 6, (3, 3), rngs=rngs)
        self.conv1 = nnx.Conv(6, 12, (3, 3), rngs=rngs)
        self.head = nnx.Linear(12, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(jax.nn.relu(self.conv0(x)), (2, 2), strides=(2, 2))
        return self.head(jax.nn.relu(self.conv1(x)).mean((1, 2)))


def photographs():
    """A trained SqueezeNet, two photographs, and what it says of them."""
    model = jc.models.load("squeezenet1_1", DATA / "squeezenet" / "squeezenet1_1.safetensors", normalize="imagenet")
    folder = DATA / "imagenet"
    names = [line.split("\t")[2] for line in (folder / "imagenet_classes.tsv").read_text("utf-8").splitlines()]
    files = [next(file for file in sorted((folder / "sample100").iterdir()) if name in file.name) for name in chosen()]
    x = np.stack([jc.data.read_image(file) for file in files])
    logits = np.asarray(jax.jit(lambda x: model(x))(x))
    shares = np.asarray(jax.nn.softmax(logits))
    titles = [
        f"{file.stem}: predicted {names[row.argmax()]}, {row.max():.0%}"
        for file, row in zip(files, shares, strict=True)
    ]
    return model, x, titles


def chosen():
    """Two of the hundred: those named above where they are there."""
    files = sorted(file.stem for file in (DATA / "imagenet" / "sample100").iterdir())
    return [*(name for name in PHOTOGRAPHS if name in files), *files][:2]


def digits(count=2):
    """An untrained tiny network and digits of 16 × 16."""
    x = jc.data.resize(jc.data.load("digits", "test", limit=10).images[:count], 16)
    return Tiny(), x, [f"digit {index}" for index in range(count)]


def maps_of(model, x, options):
    """The maps of the methods that options are given for, by name; of several layers each by its own."""
    maps = {}
    for name in options:
        method = METHODS[name]
        extra = {"key": jax.random.key(0)} if method.random else {}
        answer = method.function(model, jnp.asarray(x), **extra, **options[name])
        several = answer if isinstance(answer, dict) else {"": answer}
        maps |= {f"{name}:{layer}" if layer else name: np.asarray(values) for layer, values in several.items()}
    return maps


def draw(x, maps, titles):
    """The sheet."""
    signed = {name: METHODS[name.partition(":")[0]].signed for name in maps}
    return jc.viewing.contact_sheet(x, maps, titles=titles, signed=signed, columns=10)


def blank(x, maps):
    """The panels in which nothing can be seen, or the same everywhere: "method, image"."""
    found = []
    for name, values in maps.items():
        for index, map in enumerate(fitted(flat(values), x.shape[1:3])):
            signed = METHODS[name.partition(":")[0]].signed
            touched = (blend(x[index], map, signed) != to_bytes(pale(x[index]))).any(-1).mean()
            if touched < 0.001 or np.ptp(map) == 0:
                found.append(f"{name}, image {index}")
    return found


def main(path):
    model, x, titles = photographs() if (DATA / "squeezenet").is_dir() else digits(3)
    quick = not (DATA / "squeezenet").is_dir()
    options = {name: method.quick if quick else OPTIONS.get(name, {}) for name, method in METHODS.items()}
    maps = maps_of(model, x, options)
    jc.viewing.save(draw(x, maps, titles), path, dpi=150)
    empty = blank(x, maps)
    if empty:
        sys.exit(f"{len(empty)} panels of {path} are blank: {'; '.join(empty)}")
    sys.stdout.write(f"{path}: {len(maps)} maps of {len(METHODS)} methods on {len(x)} images, none blank\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""Are maximized class images seen as their class? SqueezeNet, every twentieth class of ImageNet.

    python -m benchmarks.maximization DATA OUT [--steps 128] [--wake 16]

DATA holds squeezenet/ and imagenet/; OUT gets maximized.npz and sheet.png. The figures are in docs/reproduction.md.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np

import jaxcam as jc
from jaxcam.viewing import figures

AT_ONCE = 5


def main() -> None:
    """Runs it, a few classes at a time, and goes on where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--wake", type=int, default=16)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    model = jc.models.load("squeezenet1_1", asked.data / "squeezenet/squeezenet1_1.safetensors", normalize="imagenet")
    lines = (asked.data / "imagenet/imagenet_classes.tsv").read_text("utf-8").splitlines()
    names = [line.split("\t")[-1] for line in lines]
    classes = np.arange(0, 1000, 20)
    store = asked.out / "maximized.npz"
    images = list(np.load(store)["images"]) if store.exists() else []
    while len(images) < len(classes):
        begun = time.monotonic()
        part = classes[len(images) : len(images) + AT_ONCE]
        options = {"key": jax.random.key(0), "steps": asked.steps, "wake": asked.wake}
        found = jc.studies.maximize(model, (224, 224, 3), part, **options)
        images += list(np.asarray(found.images[:, 0]))
        np.savez(store, images=np.stack(images))
        print(f"{len(images)} of {len(classes)}, {time.monotonic() - begun:.0f} s", flush=True)
    shown = np.stack(images)
    said = np.concatenate([np.asarray(jax.nn.softmax(model(part))) for part in np.split(shown, 10)])
    own = said[np.arange(len(classes)), classes]
    for number, share, best in zip(classes, own, said.argmax(-1), strict=True):
        print(f"{number}\t{names[number]}\t{share:.4f}\t{'' if best == number else names[best]}")
    print(f"{(own >= 0.9).sum()} of {len(own)} seen as their class with 0.9 or more, least {own.min():.4f}")
    titles = [f"{share:.3f} {names[number].split(',')[0]}" for number, share in zip(classes, own, strict=True)]
    figures.save(figures.excitements(shown[:, None], titles, tile=1.1, columns=10), asked.out / "sheet.png", dpi=120)


if __name__ == "__main__":
    main()

"""Peak memory and time of all units of VGG11 at 224×224, for one image."""

import numpy as np

import jaxcam as jc
from benchmarks.measuring import machine, peak_memory, seconds


def run(layers: list[str] | None, seed: int) -> str:
    """Runs the pass once, in this process, and reports its peak."""
    model = jc.models.load("vgg11", seed=seed)
    before = peak_memory()
    x = np.random.default_rng(seed).random((1, 224, 224, 3), np.float32)
    took = seconds(lambda: jc.neurons.similarity(model, x, layers))
    return f"""{"All units" if layers is None else ", ".join(layers)} of VGG11 at 224×224, one image, guided, cosine

- peak memory {peak_memory():.2f} GiB, of which {before:.2f} GiB before the pass (libraries and the model's 0.5 GiB)
- {took:.0f} s, compilation included
- {machine()}
"""

"""Peak memory and time of all units of a network at 224×224, for one image, in a process of its own."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import jaxcam as jc
from benchmarks.measuring import device_memory, machine, peak_memory, seconds


def run(network: str, layers: list[str] | None, memory: int | None, seed: int) -> str:
    """Runs the pass once, in this process, and reports its peak.

    Args:
        network: "vgg11" or "resnet50".
        layers: only these; None for all convolutions.
        memory: bytes the chunks may take; None for the default.
        seed: of weights and image.
    """
    model = jc.models.load(network, seed=seed)
    x = np.random.default_rng(seed).random((1, 224, 224, 3), np.float32)
    options: dict[str, Any] = {} if memory is None else {"memory": memory}
    before = peak_memory()
    took = seconds(lambda: jc.neurons.similarity(model, x, layers, **options))
    budget = "the default" if memory is None else f"{memory / 2**30:.2f} GiB"
    accelerator = "".join(f", {peak:.2f} GiB of the accelerator ({name})" for name, peak in device_memory().items())
    weights = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(model)) / 2**30
    return f"""{"All units" if layers is None else ", ".join(layers)} of {network} at 224×224, one image, guided, cosine

- peak memory {peak_memory():.2f} GiB{accelerator}; {before:.2f} GiB before (libraries; weights of {weights:.2f} GiB)
- chunks within {budget}
- {took:.0f} s, compilation included
- {machine()}
"""

"""A sweep as a process of its own, to be killed: `python neurons_sweeper.py OUT`. Tiny network, many classes."""

import sys

import jax.numpy as jnp
import numpy as np
from neurons_nets import net, parameters, pooled_classifier

from jaxcam.neurons import sweep

CLASSES = 60


def work():
    """A network of 56 units in two layers, and an average image for each of 60 classes."""
    rng = np.random.default_rng(21)
    p = {"a": parameters(rng, 2, 24), "b": parameters(rng, 24, 32)}
    p["logits"] = jnp.asarray(rng.normal(size=(32, CLASSES)), jnp.float32)
    averages = rng.random((CLASSES, 8, 7, 2)).astype(np.float32)
    return net(pooled_classifier, p, names=("a", "b")).model, averages


if __name__ == "__main__":
    model, averages = work()
    sweep(model, averages, sys.argv[1], progress=False)

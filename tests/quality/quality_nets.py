"""Small models and images for the tests of quality."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def forward(p, x):
    return jax.nn.relu(convolve(x, p["conv"]["kernel"])).mean((1, 2)) @ p["dense"]["kernel"]


def small_net(seed=0, dtype=np.float32):
    """Convolution, ReLU, global mean and a dense layer to five classes."""
    rng = np.random.default_rng(seed)
    shapes = {"conv": (3, 3, 3, 4), "dense": (4, 5)}
    return Partial(forward, {n: {"kernel": jnp.asarray(rng.normal(size=s), dtype)} for n, s in shapes.items()})


def linear_net(size=6, seed=1, dtype=np.float32):
    """A matrix to five classes, no bias."""
    matrix = np.random.default_rng(seed).normal(size=(size * size * 3, 5)) / size
    return Partial(lambda w, x: x.reshape(len(x), -1) @ w, jnp.asarray(matrix, dtype))


def images(n=2, size=6, seed=3, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(seed).random((n, size, size, 3)), dtype)


def lit(x):
    """One output for each image, its light; black is dark."""
    return x.sum((1, 2))

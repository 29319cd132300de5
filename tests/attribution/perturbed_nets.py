"""Small networks for the tests of perturbation methods, in JAX and, as slowly as it gets, in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((2, 8, 8, 3)), jnp.float32)
KERNEL = RNG.normal(size=(3, 3, 3, 4)) / 3
HEAD = RNG.normal(size=(4 * 16, 3)) / 4
FLAT = RNG.normal(size=(8 * 8 * 3, 3)) / 4


def net(x):
    """A convolution, a ReLU, a max pool, a dense layer: three classes."""
    y = jax.lax.conv_general_dilated(
        x, jnp.asarray(KERNEL, x.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = jax.lax.reduce_window(jax.nn.relu(y), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return y.reshape(y.shape[0], -1) @ jnp.asarray(HEAD, x.dtype)


def np_scores(x):
    """What `net` computes, tap by tap in numpy."""
    n, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = sum(padded[:, i : i + h, j : j + w] @ KERNEL[i, j] for i in range(3) for j in range(3))
    y = np.maximum(y, 0).reshape(n, h // 2, 2, w // 2, 2, -1).max((2, 4))
    return y.reshape(n, -1) @ HEAD


def linear(x):
    """A dense layer with a bias."""
    return x.reshape(x.shape[0], -1) @ jnp.asarray(FLAT, x.dtype) + 1.5

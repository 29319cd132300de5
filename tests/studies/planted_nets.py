"""Small networks that learn in seconds, and digits to plant leaks in."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from jaxcam.data import load


def convolve(x, layer, stride):
    dimensions = ("NHWC", "HWIO", "NHWC")
    z = jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=dimensions)
    return z + layer["bias"]


def forward(p, x):
    x = jax.nn.relu(convolve(x, p["conv0"], 2))
    x = jax.nn.relu(convolve(x, p["conv1"], 2))
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ p["dense0"]["kernel"] + p["dense0"]["bias"])
    return x @ p["dense1"]["kernel"] + p["dense1"]["bias"]


def untrained(size, channels, classes, seed=0, width=12):
    rng = np.random.default_rng(seed)
    cells = (size // 4) ** 2
    shapes = {
        "conv0": (3, 3, channels, width),
        "conv1": (3, 3, width, width),
        "dense0": (cells * width, 32),
        "dense1": (32, classes),
    }
    return {
        name: {
            "kernel": jnp.asarray(rng.normal(size=s) * np.sqrt(2 / np.prod(s[:-1])), jnp.float32),
            "bias": jnp.zeros(s[-1]),
        }
        for name, s in shapes.items()
    }


@functools.partial(jax.jit, static_argnums=3)
def descend(p, x, y, steps):
    """Adam on random halves of the images, all steps in one program."""
    optimizer = optax.adam(3e-3)

    def step(carry, key):
        p, state = carry
        rows = jax.random.choice(key, len(x), (min(len(x), 64),), replace=False)

        def loss(p):
            return optax.softmax_cross_entropy_with_integer_labels(forward(p, x[rows]), y[rows]).mean()

        updates, state = optimizer.update(jax.grad(loss)(p), state)
        return (optax.apply_updates(p, updates), state), None

    return jax.lax.scan(step, (p, optimizer.init(p)), jax.random.split(jax.random.key(0), steps))[0][0]


def fit(images, labels, *, steps=300, classes=None, seed=0):
    """A network of two convolutions and two dense layers, trained on these images."""
    p = untrained(images.shape[1], images.shape[-1], classes or int(labels.max()) + 1, seed)
    return Partial(forward, descend(p, jnp.asarray(images), jnp.asarray(labels), steps))


@functools.cache
def noisy_digits(split, limit):
    """Digits (n, 12, 12, 1) under so much noise that a small network reads them with difficulty, and their labels."""
    images, labels, _ = load("digits", split, image_size=12, limit=limit)
    noise = np.random.default_rng(len(images)).normal(0, 0.25, images.shape)
    return np.clip(0.5 * images + noise, 0, 1).astype(np.float32), labels

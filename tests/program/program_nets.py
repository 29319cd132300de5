"""A small network written in every way a user might write it, and the pieces it is made of.

A convolution with ReLU, a max pool, a residual block (with batch norm in inference mode where the library has it) whose
sum is rectified, global average pooling and a dense layer; images (n, 8, 8, 3), five classes. `KINDS` gives a model by
the name of its library.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.tree_util import Partial

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 8, 8, 3)), jnp.float32)


def weights(shape, seed=1):
    """Normal weights at He's scale: signals neither vanish nor explode."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])), jnp.float32)


def convolve(x, kernel, strides=(1, 1), padding="SAME"):
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def max_pool(x, size=2, strides=2, padding="VALID"):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, size, size, 1), (1, strides, strides, 1), padding)


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(4, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.norm.mean[...] = jnp.array([0.1, -0.2, 0.3, 0.0])
        self.norm.scale[...] = jnp.array([1.0, -0.5, 2.0, 0.7])

    def __call__(self, x):
        return nnx.relu(x + self.norm(self.conv(x)))


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.block = NnxBlock(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 5, rngs=rngs)
        self.activation = nnx.relu

    def __call__(self, x):
        x = nnx.max_pool(self.activation(self.stem(x)), (2, 2), (2, 2))
        return self.head(self.dropout(self.block(x).mean((1, 2))))


def flax_nnx():
    model = NnxNet()
    model.eval()
    return model


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.max_pool(linen.relu(linen.Conv(4, (3, 3), name="stem")(x)), (2, 2), (2, 2))
        y = linen.BatchNorm(use_running_average=True, name="norm")(linen.Conv(4, (3, 3), name="conv")(x))
        x = linen.relu(x + y).mean((1, 2))
        return linen.Dense(5, name="head")(linen.Dropout(0.5, deterministic=True)(x))


def flax_linen():
    module = LinenNet()
    return Partial(module.apply, module.init(jax.random.key(0), IMAGES))


class EquinoxNet(eqx.Module):
    """Channels first, one image at a time, and a `vmap` over the images inside."""

    layers: list
    head: eqx.nn.Linear
    activation: object

    def __init__(self):
        keys = jax.random.split(jax.random.key(0), 3)
        stem, conv = (eqx.nn.Conv2d(c, 4, 3, padding=1, key=k) for c, k in zip((3, 4), keys[:2], strict=True))
        self.layers = [stem, eqx.nn.MaxPool2d(2, 2), conv]
        self.head = eqx.nn.Linear(4, 5, key=keys[2])
        self.activation = jax.nn.relu

    def __call__(self, x):
        def one(image):
            stem, pool, conv = self.layers
            image = pool(self.activation(stem(jnp.moveaxis(image, -1, 0))))
            return self.head(self.activation(image + conv(image)).mean((1, 2)))

        return jax.vmap(one)(x)


def parameters():
    shapes = {"stem": (3, 3, 3, 4), "conv": (3, 3, 4, 4), "head": (4, 5)}
    named = {name: {"kernel": weights(shape, seed)} for seed, (name, shape) in enumerate(shapes.items())}
    named["stem"]["bias"] = jnp.array([0.1, -0.1, 0.2, 0.0])
    return named


def apply(p, x):
    x = max_pool(jnp.maximum(convolve(x, p["stem"]["kernel"]) + p["stem"]["bias"], 0))
    y = x + convolve(x, p["conv"]["kernel"])
    return jnp.where(y > 0, y, 0).mean((1, 2)) @ p["head"]["kernel"]


def parameters_in_a_dict():
    return Partial(apply, parameters())


def closure():
    p = parameters()
    return lambda x: apply(p, x)


KINDS = {
    "nnx": flax_nnx,
    "linen": flax_linen,
    "equinox": EquinoxNet,
    "dict": parameters_in_a_dict,
    "closure": closure,
}
# Where a test compiles much for each: the kind that is least like the others (one image at a time, channels first).
HARDEST_FIRST = [kind if kind == "equinox" else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
# What each kind's layers are called, in order.
NAMES = {
    "nnx": ["stem", "pool_0", "block.conv", "add_0", "pool_1", "head"],
    "linen": ["stem", "pool_0", "conv", "add_0", "pool_1", "head"],
    "equinox": ["layers.0", "pool_0", "layers.2", "add_0", "pool_1", "head"],
    "dict": ["stem", "pool_0", "conv", "add_0", "pool_1", "head"],
    "closure": ["conv_0", "pool_0", "conv_1", "add_0", "pool_1", "dense_0"],
}

"""What the tests of training share: small data, a small network with everything in it, and its run in a process."""

import os
import signal
import sys

import jax
import jax.numpy as jnp
from flax import nnx

import jaxcam.data as data
from jaxcam.training import train


class Small(nnx.Module):
    """A convolution, batch norm, dropout and a dense layer: parameters, statistics and random keys."""

    def __init__(self, seed=0, *, classes=10, units=8, dropout=0.25):
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(1, units, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(units, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.dense = nnx.Linear(16 * units, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), (2, 2))
        return self.dense(self.dropout(x.reshape(len(x), -1)))


def digits(count=70):
    """70 images in batches of 16: the last batch has 6."""
    return tuple(data.load("digits", split, image_size=8, limit=count) for split in ("train", "test"))


def run(out, *, model=None, epochs=4, **options):
    options = {"batch": 16, "progress": False, "keep_every": 2} | options
    model = model or Small()
    return model, train(model, *digits(), out=out, epochs=epochs, **options)


def same(a, b):
    """Whether two trees of arrays are equal bit by bit."""
    return all(
        bool(jnp.array_equal(jax.random.key_data(x), jax.random.key_data(y)))
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        else bool(jnp.array_equal(x, y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def weights(model):
    return nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))


if __name__ == "__main__":
    # Dies by SIGKILL just before the given rename, at whatever moment of a training that is.
    out, deadly = sys.argv[1], int(sys.argv[2])
    replace, renames = os.replace, 0

    def counted(source, target):
        global renames
        renames += 1
        if renames == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = counted
    run(out)

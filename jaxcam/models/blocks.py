"""The parts that the networks share: the check of the input, normalization, and torchvision's adaptive pool."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Num

from jaxcam.models.config import Config


def batch_norm(features: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch normalization with torch's constants.

    Torch's momentum 0.1 is the weight of the new value, Flax's 0.9 that of the old one: the same running mean.

    Args:
        features: number of channels.
        rngs: the random streams of the module.

    Returns:
        A `flax.nnx.BatchNorm` over the last axis.

    Differs from torch: the running variance is updated with the batch's biased variance, torch divides by one less.
    """
    return nnx.BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)


def prepare(x: Num[jax.Array | np.ndarray, "..."], config: Config) -> Float[jax.Array, "n h w c"]:
    """Checks a batch of images and normalizes it, the first thing that every network does.

    Only shape and type are looked at, so the check runs under `jax.jit` and costs nothing there.

    Args:
        x: (n, h, w, c) floating point in [0, 1]; h and w equal `config.image_size`, c `config.channels`.
        config: what the network takes.

    Returns:
        (x - mean) / std where the configuration says so, else x; (n, h, w, c).

    Raises:
        ValueError: the shape or the type is another one; one line says which and what to do.

    Example:
        >>> config = Config("vgg11", image_size=32, channels=1, normalize=((0.5,), (0.25,)))
        >>> float(prepare(np.ones((1, 32, 32, 1), np.float32), config).max())
        2.0
    """
    size, channels = config.image_size, config.channels
    wanted = f"{config.name} takes images of shape (n, {size}, {size}, {channels})"
    if x.shape == (size, size, channels):
        raise ValueError(f"{wanted}, got one image {x.shape} without the batch axis; give x[None]")
    if x.ndim != 4:
        raise ValueError(f"{wanted}, got {x.shape}")
    if x.shape[1:] == (channels, size, size) and x.shape[1:] != (size, size, channels):
        raise ValueError(f"{wanted}, got {x.shape} with the channels first; give x.transpose(0, 2, 3, 1)")
    if x.shape[3] != channels:
        raise ValueError(f"{wanted}, got {x.shape}; load the model with channels={x.shape[3]}, or convert the images")
    if x.shape[1:3] != (size, size):
        raise ValueError(f"{wanted}, got {x.shape}; resize the images, or load the model with another image_size")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{wanted} as floating point in [0, 1], got {x.dtype}; for bytes give x / 255")
    x = jnp.asarray(x)
    if config.statistics is None:
        return x
    mean, std = (jnp.asarray(part, x.dtype) for part in config.statistics)
    return (x - mean) / std


def adaptive_average_pool(x: Float[jax.Array, "n h w c"], size: int) -> Float[jax.Array, "n p p c"]:
    """Averages a map down (or up) to a fixed number of cells, as torch's AdaptiveAvgPool2d does.

    Cell i averages rows ⌊i·h/p⌋ to ⌈(i+1)·h/p⌉ - 1, and columns likewise. At the size the network was designed for
    the map is left as it is.

    Args:
        x: (n, h, w, c).
        size: p, the number of cells a side.

    Returns:
        (n, p, p, c).

    Example:
        >>> adaptive_average_pool(jnp.arange(4.0).reshape(1, 2, 2, 1), 1).item()
        1.5
    """
    height, width = x.shape[1:3]
    if (height, width) == (size, size):
        return x
    if height % size == 0 and width % size == 0:
        window = (height // size, width // size)
        return nnx.avg_pool(x, window, strides=window)
    rows, columns = (jnp.asarray(averaging_matrix(length, size), x.dtype) for length in (height, width))
    return jnp.einsum("nhwc,hp,wq->npqc", x, rows, columns)


def averaging_matrix(length: int, size: int) -> Float[np.ndarray, "l p"]:
    """The matrix whose column i averages the rows of cell i (see `adaptive_average_pool`).

    Example:
        >>> averaging_matrix(3, 2)
        array([[0.5, 0. ],
               [0.5, 0.5],
               [0. , 0.5]])
    """
    matrix = np.zeros((length, size))
    for cell in range(size):
        start, stop = cell * length // size, -(-(cell + 1) * length // size)
        matrix[start:stop, cell] = 1 / (stop - start)
    return matrix

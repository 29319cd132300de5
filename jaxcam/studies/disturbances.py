"""What keeps activation maximization from noise: images disturbed before the model sees them, and penalties."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Disturbance:
    """What happens to an image before the model sees it, so that no single pixel matters.

    Attributes:
        jitter: at most so many pixels of shift.
        rotation: at most so many degrees.
        scale: at most this share larger or smaller.
    """

    jitter: int
    rotation: float
    scale: float

    def __call__(self, key: Array, images: Float[Array, "a h w c"]) -> Float[Array, "a h w c"]:
        """The images, all disturbed alike; what leaves at one edge comes in at the opposite one."""
        shift, turn, size = jax.random.split(key, 3)
        if self.rotation or self.scale:
            move = jax.random.uniform(shift, (2,), minval=-self.jitter, maxval=self.jitter)
            angle = jnp.deg2rad(self.rotation) * jax.random.uniform(turn, minval=-1, maxval=1)
            factor = 1 + self.scale * jax.random.uniform(size, minval=-1, maxval=1)
            return warped(images, angle, factor, move)
        if self.jitter:
            moved = jax.random.randint(shift, (2,), -self.jitter, self.jitter + 1)
            return jnp.roll(jnp.roll(images, moved[0], 1), moved[1], 2)
        return images


def warped(
    images: Float[Array, "a h w c"], angle: Array, factor: Array, move: Float[Array, 2]
) -> Float[Array, "a h w c"]:
    """Images turned by an angle (radians), enlarged and moved (pixels), bilinear, with opposite edges joined."""
    n, h, w, c = images.shape
    y, x = (jnp.arange(size, dtype=images.dtype) - (size - 1) / 2 for size in (h, w))
    sine, cosine = jnp.sin(angle) / factor, jnp.cos(angle) / factor
    rows = cosine * y[:, None] - sine * x + (h - 1) / 2 - move[0]
    columns = sine * y[:, None] + cosine * x + (w - 1) / 2 - move[1]
    flat = images.reshape(n, h * w, c)
    top, left = jnp.floor(rows), jnp.floor(columns)
    result = jnp.zeros((n, h * w, c), images.dtype)
    for down in (0, 1):
        for right in (0, 1):
            i, j = top + down, left + right
            share = (1 - jnp.abs(rows - i)) * (1 - jnp.abs(columns - j))
            place = (jnp.mod(i, h) * w + jnp.mod(j, w)).astype(int).reshape(-1)
            result += share.reshape(-1)[:, None] * jnp.take(flat, place, axis=1)
    return result.reshape(images.shape)


def roughness(images: Float[Array, "a h w c"]) -> Float[Array, " a"]:
    """Total variation: the mean absolute difference between neighbors, down and across."""
    down, across = jnp.diff(images, axis=1), jnp.diff(images, axis=2)
    return sum((jnp.mean(jnp.abs(d), (1, 2, 3)) for d in (down, across) if d.size), jnp.zeros(len(images)))


def strangeness(images: Float[Array, "a h w c"], patches: Float[Array, "p s t c"]) -> Float[Array, " a"]:
    """How far an image is from real ones: the mean squared distance of its tiles from the nearest patch each."""
    (n, h, w, c), (_, s, t, _) = images.shape, patches.shape
    rows, columns = h // s, w // t
    tiles = images[:, : rows * s, : columns * t].reshape(n, rows, s, columns, t, c)
    tiles = tiles.transpose(0, 1, 3, 2, 4, 5).reshape(n, rows * columns, s * t * c)
    known = patches.reshape(len(patches), -1)
    squares = jnp.sum(tiles**2, -1)[..., None] - 2 * tiles @ known.T + jnp.sum(known**2, -1)
    return jnp.mean(jnp.min(squares, -1), -1) / (s * t * c)


def sameness(activations: Float[Array, "a ... u"]) -> Float[Array, ""]:
    """How alike several images are in style: the mean cosine between the Gram matrices of a layer."""
    count = len(activations)
    flat = activations.reshape(count, -1, activations.shape[-1])
    grams = jnp.einsum("npu,npv->nuv", flat, flat).reshape(count, -1)
    grams = grams / jnp.sqrt(jnp.sum(grams**2, -1, keepdims=True) + 1e-12)
    return (jnp.sum(grams @ grams.T) - count) / (count * (count - 1))

"""What an optimizer turns so that a picture comes out: pixels, waves, or the code of a generator.

    canvas : numbers ↦ images

Gradient ascent on pixels finds noise, since the steepest direction is a high frequency and a garish color. The same
ascent on other numbers for the same images is another ascent: waves, each scaled as natural images have it, and colors
whose channels are independent (Olah et al. 2017). The picture is the same space; the way through it is not.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Square root of the covariance of red, green and blue in photographs, over its largest column: light and dark, blue
# against orange, green against magenta. Measured on 98 ImageNet photographs at 64×64 pixels.
COLORS = np.array([[0.562, -0.206, 0.050], [0.583, -0.001, -0.100], [0.587, 0.198, 0.051]], np.float32)
KINDS = ("fourier", "pixel")


@dataclasses.dataclass(frozen=True)
class Canvas:
    """Numbers ↦ images between two bounds, all of it static.

    image = low + (high − low) · sigmoid(base + window · colors(picture(numbers)))

    Attributes:
        kind: "fourier" or "pixel".
        shape: of an image, (h, w, c).
        colors: whether the channels are mixed as photographs mix them; for three channels.
        center: width of the window in shares of the image's half side; None for no window.
        low, high: the bounds.
    """

    kind: str
    shape: tuple[int, int, int]
    colors: bool
    center: float | None
    low: float
    high: float

    def start(self, key: Array, count: int, deviation: float) -> Float[Array, "a ..."]:
        """Small random numbers, as many pictures as asked."""
        h, w, c = self.shape
        if self.kind == "pixel":
            return deviation * jax.random.normal(key, (count, h, w, c))
        return deviation * jax.random.normal(key, (count, h, w // 2 + 1, c, 2))

    def picture(self, numbers: Array) -> Float[Array, "a h w c"]:
        """The numbers as pictures without bounds, the channels independent."""
        if self.kind == "pixel":
            return numbers
        h, w, _ = self.shape
        waves = jax.lax.complex(numbers[..., 0], numbers[..., 1]) * self.scales()[None, :, :, None]
        return jnp.fft.irfft2(waves, (h, w), axes=(1, 2), norm="ortho")

    def images(self, numbers: Array, base: Float[Array, "h w c"]) -> Float[Array, "a h w c"]:
        """The numbers as images."""
        picture = self.picture(numbers)
        if self.colors:
            picture = picture @ jnp.asarray(COLORS / np.linalg.norm(COLORS[:, 0]), picture.dtype).T
        return self.low + (self.high - self.low) * jax.nn.sigmoid(base + picture * self.window()[..., None])

    def base(self, start: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        """What an image is before its bounds, kept off them, where nothing can be learned."""
        share = jnp.clip((start - self.low) / (self.high - self.low), 0.02, 0.98)
        return jnp.log(share) - jnp.log1p(-share)

    def blurred(self, numbers: Array, sigma: float) -> Array:
        """The numbers of the picture blurred by a Gaussian of so many pixels, at its edges with the opposite edge."""
        h, w, _ = self.shape
        keep = jnp.asarray(np.exp(-2 * (np.pi * sigma * frequencies(h, w)) ** 2), numbers.dtype)
        if self.kind == "fourier":
            return numbers * keep[None, :, :, None, None]
        waves = jnp.fft.rfft2(numbers, axes=(1, 2)) * keep[None, :, :, None]
        return jnp.fft.irfft2(waves, (h, w), axes=(1, 2)).astype(numbers.dtype)

    def scales(self) -> Float[np.ndarray, "h v"]:
        """The amplitude of each wave in natural images, 1 / frequency, with mean square 1."""
        h, w, _ = self.shape
        scales = 1 / np.maximum(frequencies(h, w), 1 / max(h, w))
        return (scales / np.sqrt(np.mean(scales**2))).astype(np.float32)

    def window(self) -> Float[np.ndarray, "h w"]:
        """1 in the middle, less toward the edges."""
        h, w, _ = self.shape
        if self.center is None:
            return np.ones((h, w), np.float32)
        y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in (h, w))
        return np.exp(-(y[:, None] ** 2 + x**2) / (2 * self.center**2)).astype(np.float32)


def frequencies(h: int, w: int) -> Float[np.ndarray, "h v"]:
    """Cycles a pixel of each wave of `rfft2`.

    Example:
        >>> frequencies(2, 2).round(2).tolist()
        [[0.0, 0.5], [0.5, 0.71]]
    """
    return np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w))

"""From a raw map and a photograph to one picture in which both can be seen.

The photograph is shown in pale grey, so that every color comes from the map; the map's color is the stronger the larger
its value, and where the map is zero nothing is laid over the photograph. Here, and nowhere before, a map loses its
channels and its scale.
"""

import difflib

import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float, UInt8

from jaxcam.attribution.bricks import upsample
from jaxcam.viewing.colors import finite, limit, to_bytes

CHANNELS = ("sum", "absolute", "maximum")
"""What becomes of a map's channels: Σ M, Σ |M|, max |M|."""

FOR, AGAINST = np.array([0.78, 0.06, 0.10]), np.array([0.07, 0.33, 0.72])
HEAT = "inferno"
STRONGEST = 0.88
"""Opacity of the largest values: even there the photograph can be made out."""


def flat(map: Float[Array | np.ndarray, "..."], channels: str = "sum") -> Float[np.ndarray, "*n h w"]:
    """Maps with one number for each pixel.

    Args:
        map: (n, h, w, c) or (n, h, w), raw.
        channels: "sum" keeps the sign: Σ M over the channels; "absolute" is Σ |M|, "maximum" max |M| (Simonyan's).

    Returns:
        (n, h, w).

    Raises:
        ValueError: another number of axes, NaN, or no such reduction.

    Example:
        >>> map = np.array([[[[1.0, -3.0]]]])
        >>> [flat(map, channels).item() for channels in CHANNELS]
        [-2.0, 4.0, 3.0]
    """
    check_reduction(channels)
    values = finite(map, "the map")
    if values.ndim not in (3, 4):
        raise ValueError(f"maps to be drawn are (n, h, w) or (n, h, w, c); got shape {values.shape}")
    values = values[..., None] if values.ndim == 3 else values
    if channels == "sum":
        return values.sum(-1)
    return np.abs(values).sum(-1) if channels == "absolute" else np.abs(values).max(-1)


def check_reduction(channels: str) -> None:
    """Raises unless there is such a reduction of channels."""
    if channels not in CHANNELS:
        near = difflib.get_close_matches(str(channels), CHANNELS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no reduction {channels!r} of a map's channels; there are {', '.join(CHANNELS)}{meant}")


def fitted(maps: Float[np.ndarray, "n h w"], size: tuple[int, int]) -> Float[np.ndarray, "n y x"]:
    """Maps as large as their images: smaller ones bilinearly upsampled, as the papers show class activation maps.

    Raises:
        ValueError: they are larger than the images.
    """
    height, width = maps.shape[1:]
    if height > size[0] or width > size[1]:
        raise ValueError(f"maps of {height}×{width} are larger than their images of {size[0]}×{size[1]}")
    return np.asarray(upsample(jnp.asarray(maps), size))


def blend(
    image: Float[np.ndarray, "h w c"], map: Float[np.ndarray, "h w"], signed: bool, end: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """A map laid over its photograph.

    With s = min(|map| / end, 1): opacity s^0.7 of red where the map is positive and of blue where it is negative; a map
    without sign goes from nothing over violet and orange to yellow.

    Args:
        image: (h, w, c) in [0, 1], with one or three channels.
        map: (h, w), as large as the image.
        signed: whether zero is the middle of the scale.
        end: the magnitude at which the colors end; the map's own `limit` by default.

    Returns:
        (h, w, 3), bytes.

    Example:
        >>> blend(np.ones((1, 1, 1)), np.array([[0.0]]), True).ravel().tolist()
        [250, 250, 250]
        >>> red, green, blue = blend(np.ones((1, 1, 1)), np.array([[2.0]]), True).ravel().tolist()
        >>> red > 180 > 60 > green
        True
    """
    grey = pale(image)
    strength = np.clip(np.abs(map) / (end or limit(map)), 0, 1)
    if signed:
        color = np.where(map[..., None] > 0, FOR, AGAINST)
    else:
        strength = np.where(map > 0, strength, 0)
        color = matplotlib.colormaps[HEAT](0.3 + 0.6 * strength)[..., :3]
    opacity = STRONGEST * strength[..., None] ** 0.7
    return to_bytes((1 - opacity) * grey + opacity * color)


def is_aloof(map: Float[np.ndarray, "h w"]) -> bool:
    """Whether a map keeps away from zero, so that only its differences say anything, as RISE's mean scores do.

    Example:
        >>> is_aloof(np.array([[28.0, 32.0]])), is_aloof(np.array([[0.0, 32.0]])), is_aloof(np.array([[-28.0, 32.0]]))
        (True, False, False)
    """
    low, high = sorted((abs(float(map.min())), abs(float(map.max()))))
    return bool(map.min() * map.max() > 0 and low > high / 4 and np.ptp(map) > 0)


def pale(image: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    """The photograph in greys between 0.45 and 0.98, which every color stands out from."""
    luminance = image @ np.array([0.299, 0.587, 0.114]) if image.shape[-1] == 3 else image[..., 0]
    return np.repeat((0.45 + 0.53 * np.clip(luminance, 0, 1))[..., None], 3, axis=-1)

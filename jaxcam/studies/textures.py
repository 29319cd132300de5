"""Concepts made by a formula: stripes, dots and plain colors, as many pictures of each as are wanted."""

from __future__ import annotations

import difflib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxcam.attribution.asking import check_key

COLORS = {
    "red": (0.85, 0.1, 0.1),
    "green": (0.1, 0.7, 0.15),
    "blue": (0.1, 0.2, 0.85),
    "yellow": (0.9, 0.85, 0.1),
    "black": (0.05, 0.05, 0.05),
    "white": (0.95, 0.95, 0.95),
}
KINDS = ("stripes", "dots", *COLORS)


def concept_images(
    kind: str, count: int, size: int, *, key: Any, channels: int = 3
) -> Float[np.ndarray, "n size size c"]:
    """Pictures of a concept that a formula can draw.

    Stripes and dots differ from picture to picture in angle, period (an eighth to a third of the picture), place and
    their two colors; pictures of a color in shade, under a little noise.

    Args:
        kind: "stripes", "dots", "red", "green", "blue", "yellow", "black" or "white".
        count: n.
        size: height and width in pixels.
        key: `jax.random.key(seed)`.
        channels: 3, or 1 for grey pictures, which have no colors but black and white.

    Returns:
        (n, size, size, c) float32 in [0, 1].

    Raises:
        TypeError: a key of a wrong kind.
        ValueError: no such concept, with the closest; a color in grey; numbers below 1.

    Example:
        >>> concept_images("stripes", 5, 16, key=jax.random.key(0)).shape
        (5, 16, 16, 3)
    """
    check_key(key)
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        meant = f"did you mean {near[0]!r}? There" if near else "there"
        raise ValueError(f"no concept {kind!r}; {meant} are {', '.join(KINDS)}, and folders of pictures")
    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels; got {channels}")
    if channels == 1 and kind in COLORS and kind not in ("black", "white"):
        raise ValueError(f"grey pictures are never {kind}; there are stripes, dots, black and white")
    if count < 1 or size < 2:
        raise ValueError(f"at least 1 picture of at least 2 pixels; got {count} of {size}")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key) if key.ndim == 0 else key).tolist())
    if kind in COLORS:
        color = np.full(3, 1.0) * COLORS[kind]
        shade = rng.uniform(0.75, 1.1, (count, 1, 1, 1))
        pictures = color * shade + rng.normal(0, 0.03, (count, size, size, 3))
    else:
        share = _pattern(kind, count, size, rng)[..., None]
        one, other = _two_colors(count, rng)
        pictures = share * one + (1 - share) * other
    if channels == 1:
        pictures = pictures.mean(-1, keepdims=True)
    return np.clip(pictures, 0, 1).astype(np.float32)


def _pattern(kind: str, count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """How much of the first color there is in each pixel, (n, size, size)."""
    angle, phase = rng.uniform(0, np.pi, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (2, count, 1, 1))
    wave = 2 * np.pi / rng.uniform(max(size / 8, 2.5), max(size / 3, 4), (count, 1, 1))
    down, right = np.indices((size, size))
    along = wave * (np.cos(angle) * right + np.sin(angle) * down) + phase[0]
    if kind == "stripes":
        return 0.5 + 0.5 * np.tanh(3 * np.sin(along))
    across = wave * (np.cos(angle) * down - np.sin(angle) * right) + phase[1]
    return 0.5 + 0.5 * np.tanh(4 * (np.sin(along) + np.sin(across) - 0.9))


def _two_colors(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two colors for each picture that differ in lightness by at least a third."""
    dark = rng.uniform(0, 0.3, (count, 3))
    light = np.clip(dark + rng.uniform(0.4, 0.7, (count, 1)) + rng.uniform(-0.1, 0.1, (count, 3)), 0, 1)
    swap = rng.random((count, 1)) < 0.5
    one, other = np.where(swap, dark, light), np.where(swap, light, dark)
    return one[:, None, None], other[:, None, None]

"""Segments: an image as a few pieces that belong together, found by scikit-image on the host.

A segment map numbers the pieces of each image from 0 up. Images of a batch may have unequally many: numbers that an
image lacks are pieces without pixels, which no method counts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxcam.attribution.asking import Question, check_count, check_images
from jaxcam.attribution.bricks import check_one_of
from jaxcam.attribution.removing import check_pair, masked_scores

KINDS = ("slic", "grid", "felzenszwalb", "quickshift")
Segments = str | np.ndarray | Array | None


def segment(
    x: Any, kind: str = "slic", *, count: int | tuple[int, int] = 49, **options: Any
) -> Int[np.ndarray, "n h w"]:
    """Divides each image into pieces that belong together.

    Args:
        x: images (n, h, w, c), float; each is scaled to [0, 1] by its own extremes first.
        kind: "slic" (compact pieces of similar color), "grid" (rectangles, whatever the image shows), "felzenszwalb"
            (pieces between edges, of any size) or "quickshift" (modes in color and place; the default of the package
            lime).
        count: for "slic" about how many; for "grid" how many, arranged in a square, or (rows, columns). The other
            kinds find their own number.
        **options: those of `skimage.segmentation`'s function of that name, beside or in place of ours
            (slic: compactness=10, sigma=1; quickshift: kernel_size=4, max_dist=200, ratio=0.2).

    Returns:
        The number of each pixel's piece (n, h, w), from 0 up in each image.

    Raises:
        TypeError: images of a wrong kind, or an option that scikit-image does not know.
        ValueError: images of a wrong shape, an unknown kind, a count below 1 or finer than the image, images that are
            being traced (only "grid" works inside `jax.jit`).

    Example:
        >>> segment(np.zeros((1, 2, 4, 3), np.float32), "grid", count=(1, 2))[0].tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]

    Achanta et al., "SLIC Superpixels", 2012; Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation",
    2004; Vedaldi and Soatto, "Quick Shift and Kernel Methods for Mode Seeking", 2008.
    """
    check_images(x)
    check_one_of(kind, KINDS, "kind of segments")
    if kind == "grid":
        if options:
            raise TypeError(f"a grid takes no options but count; got {', '.join(options)}")
        return np.broadcast_to(_grid(x.shape[1:3], count), x.shape[:3])
    if isinstance(x, jax.core.Tracer):
        raise ValueError(
            f"kind '{kind}' looks at the pixels, which jax.jit has not yet: call jc.segment(x, '{kind}') outside and "
            "pass the array, or take 'grid'"
        )
    wanted = check_count(count, "count") if kind == "slic" else 0
    return np.stack([_numbered(_found(scaled(image), kind, wanted, options)) for image in np.asarray(x, np.float64)])


def _found(image: np.ndarray, kind: str, count: int, options: dict[str, Any]) -> np.ndarray:
    from skimage import segmentation  # half a second that only those pay who segment

    if kind == "slic":
        settings = {"n_segments": count, "compactness": 10, "sigma": 1, "start_label": 0, **options}
        return segmentation.slic(image, channel_axis=-1, **settings)
    if kind == "felzenszwalb":
        return segmentation.felzenszwalb(image, channel_axis=-1, **options)
    color = image.shape[-1] == 3
    settings = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2, "convert2lab": color, "rng": 0, **options}
    return segmentation.quickshift(image, channel_axis=-1, **settings)


def scaled(image: np.ndarray) -> np.ndarray:
    """An image in [0, 1] by its own extremes; zeros if it is constant."""
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _grid(size: tuple[int, int], count: int | tuple[int, int]) -> np.ndarray:
    side = max(1, round(np.sqrt(check_count(count, "count")))) if isinstance(count, int | np.integer) else count
    rows, columns = check_pair(side, "count")
    if rows > size[0] or columns > size[1]:
        raise ValueError(f"a grid of {rows}×{columns} segments is finer than the images of {size[0]}×{size[1]} pixels")
    down = np.arange(size[0]) * rows // size[0]
    right = np.arange(size[1]) * columns // size[1]
    return down[:, None] * columns + right


def _numbered(labels: np.ndarray) -> np.ndarray:
    """The same pieces, numbered from 0 up without a gap."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def segments_of(segments: Segments, x: Any, default: tuple[str, int] = ("slic", 49)) -> tuple[Array, np.ndarray]:
    """Checked segment maps of images, and how many pieces each has.

    Args:
        segments: a kind known to `segment`, maps (n, h, w) of integers, or None for the default kind.
        x: images (n, h, w, c).
        default: kind, and about how many pieces.

    Returns:
        Maps (n, h, w) numbered from 0 up, and the number of pieces of each image (n,).

    Raises:
        TypeError: maps that are not integers.
        ValueError: maps of another shape or that are being traced, an unknown kind.
    """
    check_images(x)
    if segments is None or isinstance(segments, str):
        segments = segment(x, segments or default[0], count=default[1])
    if isinstance(segments, jax.core.Tracer):
        raise ValueError("segment maps are plain arrays, known before jax.jit: how many pieces there are sets shapes")
    segments = np.asarray(segments)
    if segments.shape != tuple(x.shape[:3]):
        raise ValueError(f"segment maps are as large as the images, {tuple(x.shape[:3])}; got shape {segments.shape}")
    if not np.issubdtype(segments.dtype, np.integer):
        raise TypeError(f"a segment map numbers its pieces by integers; got {segments.dtype}")
    numbered = np.stack([_numbered(labels) for labels in segments])
    return jnp.asarray(numbered, jnp.int32), numbered.max((1, 2)) + 1


def painted(values: Array, segments: Array) -> Shaped[Array, "n h w"]:
    """The value of its piece in every pixel.

    Args:
        values: one for each piece (n, s).
        segments: maps (n, h, w) below s.
    """
    flat = segments.reshape(segments.shape[0], -1)
    return jnp.take_along_axis(values, flat, 1).reshape(segments.shape)


def coalition_scores(
    question: Question, x: Array, stand_in: Array, segments: Array, coalitions: Bool[Array, "v n s"], chunk: int | None
) -> Float[Array, "v n"]:
    """The score of each image with only some of its pieces, the rest replaced.

    Args:
        question: whose target is settled.
        x: images (n, h, w, c).
        stand_in: likewise.
        segments: maps (n, h, w) below s.
        coalitions: which pieces are there.
        chunk: how many coalitions at once; None for what fits.
    """
    return masked_scores(question, x, stand_in, lambda kept: painted(kept, segments), coalitions, chunk)

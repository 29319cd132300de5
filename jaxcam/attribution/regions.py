"""XRAI: the regions of an image that hold most attribution for their size, found one after another.

Many overlapping regions come from segmenting the image at several scales; the next one taken is always the one whose
yet uncovered pixels have the highest mean attribution. Segmentation and growth run on the host, in numpy.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import ndimage

from jaxcam.attribution.asking import check_chunk, check_count, check_images
from jaxcam.attribution.paths import integrated_gradients
from jaxcam.attribution.segments import Segments, scaled, segment
from jaxcam.attribution.targets import Target

# What PAIR's saliency takes: Felzenszwalb's scales for an image of 224 × 224 in [−1, 1], and its other settings.
SCALES = (50, 100, 150, 250, 500, 1200)
SIGMA, SMALLEST, SIDE = 0.8, 150, 224
DILATION, GAIN = 5, 50


def xrai(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    attributions: np.ndarray | Array | None = None,
    segments: Segments = None,
    steps: int = 50,
    dilation: int | None = None,
    gain: int | None = None,
    chunk: int | None = None,
) -> Float[Array, "n h w"]:
    """How much attribution the region of a pixel holds for its size, regions taken best first.

    Of overlapping regions R₁, R₂, … the one with the largest mean of A over the pixels not yet covered comes next and
    gives them that mean: M(p) = mean of A over Rᵢ ∖ (R before), for p in it. A is the channels' maximum of the
    integrated gradients, the mean of those from the image's darkest and from its brightest value.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        attributions: maps in place of the integrated gradients, (n, h, w, c) or (n, h, w); the model is not asked.
        segments: segment maps in place of Felzenszwalb's at six scales, integers (n, h, w) or several (n, b, h, w);
            or a kind that `segment` knows.
        steps: of the integrated gradients.
        dilation: by how many pixels each region is widened; None for 5 at 224 pixels and in proportion below, and for
            none of segments of your own.
        gain: the fewest new pixels that a region must bring; None for 50 at 224 × 224 pixels and in proportion below.
        chunk: how many steps at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w), signed, in units of the score per number of the image; constant on each region.

    Raises:
        TypeError: images or target of a wrong kind, segments that are not integers.
        ValueError: what `saliency` raises; attributions or segments of another shape, a gain, steps or a chunk below 1,
            a negative dilation.

    Example:
        >>> halves = np.array([[[0, 0, 1, 1]]])
        >>> net = lambda x: (x * jnp.array([1.0, 3.0, 2.0, 8.0])[:, None]).sum((1, 2))
        >>> given = jnp.array([[[1.0, 3.0, 2.0, 8.0]]])
        >>> xrai(net, jnp.ones((1, 1, 4, 1)), 0, attributions=given, segments=halves).ravel().tolist()
        [2.0, 2.0, 5.0, 5.0]

    Kapishnikov et al., "XRAI: Better Attributions Through Regions", 2019. Differs from: PAIR's saliency dilates by 5
    pixels and asks for 50 new ones whatever the size of the image, which leaves little of a small one. When it
    misleads: it ranks regions; where none fits the object, its outline is that of the segments.
    """
    check_images(x)
    check_chunk(chunk)
    x = jnp.asarray(x)
    share = min(1.0, min(x.shape[1:3]) / SIDE)
    if dilation is None:
        dilation = round(DILATION * share) if segments is None else 0
    elif dilation < 0:
        raise ValueError(f"dilation is a whole number of pixels from 0 up; got {dilation}")
    least = max(1, round(GAIN * share**2)) if gain is None else check_count(gain, "gain")
    labels = None if segments is None else _checked(segments, x)
    if attributions is None:
        attributions = _from_both_ends(model, x, target, check_count(steps, "steps"), chunk)
    values = jnp.asarray(attributions, x.dtype)
    if values.shape not in {tuple(x.shape), tuple(x.shape[:3])}:
        raise ValueError(f"attributions are like the images {tuple(x.shape)}; got shape {values.shape}")
    values = jnp.max(values, -1) if values.ndim == 4 else values

    def on_host(images: Any, values: Any) -> np.ndarray:
        numbers = np.asarray(values, np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("the attributions have NaN or infinite values")
        found = np.empty(numbers.shape, values.dtype)
        for i, image in enumerate(np.asarray(images, np.float64)):
            layers = over_segmented(image) if labels is None else labels[i]
            found[i] = grown(numbers[i], regions(layers, dilation), least)
        return found

    if isinstance(x, jax.core.Tracer) or isinstance(values, jax.core.Tracer):
        answer = jax.ShapeDtypeStruct(values.shape, values.dtype)
        return jax.pure_callback(on_host, answer, x, values, vmap_method="sequential")
    return jnp.asarray(on_host(x, values))


def over_segmented(image: np.ndarray) -> np.ndarray:
    """Felzenszwalb's segments of an image (h, w, c) at six scales (6, h, w), found at 224 × 224 pixels."""
    from skimage.segmentation import felzenszwalb  # half a second that only those pay who segment
    from skimage.transform import resize

    options = {"mode": "constant", "preserve_range": True}
    large = resize(2 * scaled(image) - 1, (SIDE, SIDE), order=3, anti_aliasing=True, **options)
    found = [felzenszwalb(large, scale=scale, sigma=SIGMA, min_size=SMALLEST, channel_axis=-1) for scale in SCALES]
    small = [resize(labels, image.shape[:2], order=0, anti_aliasing=False, **options) for labels in found]
    return np.stack(small).astype(int)


def regions(layers: np.ndarray, dilation: int) -> Bool[np.ndarray, "r h w"]:
    """Every segment of several segmentations (b, h, w), widened by a disk of so many pixels."""
    height, width = layers.shape[1:]
    found = []
    for labels in layers:
        numbered = np.unique(labels, return_inverse=True)[1].reshape(labels.shape) + 1
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
            # the disk reaches no farther than the segment's own box and a margin
            box = (
                slice(max(0, rows.start - dilation), min(height, rows.stop + dilation)),
                slice(max(0, columns.start - dilation), min(width, columns.stop + dilation)),
            )
            mask = np.zeros((height, width), bool)
            mask[box] = numbered[box] == number
            if dilation:
                mask[box] = ndimage.distance_transform_edt(~mask[box]) <= dilation
            found.append(mask)
    return np.stack(found)


def grown(values: np.ndarray, masks: np.ndarray, least: int) -> Float[np.ndarray, "h w"]:
    """The mean of the values over what each region adds to those taken before it, best first.

    Sums and counts of what each region would still add are kept up to date, so that every pixel is visited once.

    Args:
        values: attributions (h, w).
        masks: regions (r, h, w), bool.
        least: the fewest new pixels that a region must bring. What no region takes gets its own mean.
    """
    flat, members = values.ravel(), np.ascontiguousarray(masks.reshape(len(masks), -1).T)
    counts, sums = members.sum(0), np.array([flat[mask.ravel()].sum() for mask in masks])
    covered = np.zeros(flat.shape, bool)
    out = np.empty(flat.shape)
    while (counts >= least).any():
        means = np.where(counts >= least, sums / np.maximum(counts, 1), -np.inf)
        added = members[:, int(np.argmax(means))] & ~covered
        out[added] = flat[added].mean()
        covered |= added
        counts = counts - members[added].sum(0)
        sums = sums - flat[added] @ members[added]
    if not covered.all():
        out[~covered] = flat[~covered].mean()
    return out.reshape(values.shape)


def _from_both_ends(model: Any, x: Array, target: Target, steps: int, chunk: int | None) -> Array:
    """Integrated gradients from each image's darkest and from its brightest value, their mean."""
    ends = jnp.stack([jnp.min(x, (1, 2, 3), keepdims=True), jnp.max(x, (1, 2, 3), keepdims=True)])
    baseline = jnp.broadcast_to(ends, (2, *x.shape))
    return integrated_gradients(model, x, target, baseline=baseline, steps=steps, chunk=chunk)


def _checked(segments: Any, x: Any) -> np.ndarray:
    """Segment maps as several layers for each image (n, b, h, w)."""
    if isinstance(segments, jax.core.Tracer):
        raise ValueError("segment maps are plain arrays, known before jax.jit: regions grow on the host")
    maps = segment(x, segments) if isinstance(segments, str) else np.asarray(segments)
    maps = maps[:, None] if maps.ndim == 3 else maps
    n, h, w = x.shape[:3]
    if maps.ndim != 4 or (len(maps), *maps.shape[2:]) != (n, h, w) or not maps.shape[1]:
        raise ValueError(
            f"segment maps are ({n}, {h}, {w}) or several ({n}, b, {h}, {w}); got shape {np.shape(segments)}"
        )
    if not np.issubdtype(maps.dtype, np.integer):
        raise TypeError(f"a segment map numbers its pieces by integers; got {maps.dtype}")
    return maps

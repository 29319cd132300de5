"""Occlusion: what the score loses when a window of the image is covered."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution.asking import Question, ask, check_chunk
from jaxcam.attribution.baselines import Baseline
from jaxcam.attribution.removing import check_pair, masked_scores, stand_in_of
from jaxcam.attribution.targets import Target


def occlusion(
    model: Any,
    x: Array,
    target: Target = None,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    baseline: Baseline = 0.0,
    chunk: int | None = None,
) -> Float[Array, "n h w c"]:
    """What the score loses when a window around a pixel is replaced, averaged over the windows that cover it.

    M(p) = mean over the windows W with p ∈ W of s(x) − s(x with W replaced). Windows cover all channels; they start at
    the multiples of the stride, and the last ones may reach over the edge, where they are cut.

    Args:
        model: any callable `x -> outputs`.
        x: images (n, h, w, c), float, as the model takes them.
        target: a class for all images or one for each, None for the predicted class of x, or a callable
            outputs -> (n,).
        window: height and width in pixels, or one number for both; None for an eighth of the image.
        stride: from one window to the next, at most the window; None for half of it.
        baseline: what replaces the window: a number, an array like x or like one image, "blur", "mean" (the image's
            mean color), or None for zeros.
        chunk: how many windows at once; None for what fits. The answer does not depend on it.

    Returns:
        Raw maps (n, h, w, c), the same for all channels, signed, in units of the score.

    Raises:
        TypeError: images, target or baseline of a wrong kind.
        ValueError: what `saliency` raises; a window larger than the image, a stride larger than the window (pixels
            between them would stay unseen), a baseline of another shape, a chunk below 1.

    Example:
        >>> net = lambda x: x.sum((1, 2))
        >>> occlusion(net, jnp.arange(4.0).reshape(1, 1, 4, 1), target=0, window=(1, 2)).ravel().tolist()
        [1.0, 2.0, 4.0, 5.0]

    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014. Differs from: the paper's map has
    one number for each window; here they are averaged in each pixel, as in Captum. When it misleads: a patch of one
    color is no natural image and can be evidence itself; try several baselines.
    """
    check_chunk(chunk)
    stand_in = stand_in_of(baseline, x)
    height, width = stand_in.shape[1:3]
    extent = (max(1, height // 8), max(1, width // 8)) if window is None else check_pair(window, "window")
    steps = (max(1, extent[0] // 2), max(1, extent[1] // 2)) if stride is None else check_pair(stride, "stride")
    if extent[0] > height or extent[1] > width:
        raise ValueError(f"a window of {extent[0]}×{extent[1]} pixels is larger than the images of {height}×{width}")
    if steps[0] > extent[0] or steps[1] > extent[1]:
        raise ValueError(f"a stride of {steps} leaves pixels out between windows of {extent}; take at most the window")
    return ask(_occlusion, model, x, target, stand_in, window=extent, stride=steps, chunk=chunk)


def _occlusion(
    question: Question,
    x: Array,
    stand_in: Array,
    window: tuple[int, int],
    stride: tuple[int, int],
    chunk: int | None,
) -> Array:
    question = question.settled(x)
    rows, columns = (_windows(size, *of) for size, *of in zip(x.shape[1:3], window, stride, strict=True))
    grid = np.indices((len(rows), len(columns))).reshape(2, -1)
    above, beside = jnp.asarray(rows), jnp.asarray(columns)

    def mask(place: Array) -> Array:
        return ~(above[place[0]][:, None] & beside[place[1]])

    scores = masked_scores(question, x, stand_in, mask, jnp.asarray(grid.T), chunk)
    losses = (question.scores(x) - scores).reshape(len(rows), len(columns), -1)
    # windows are products of a row span and a column span: so are their sums, pixel by pixel
    spread = jnp.einsum("abn,ah,bw->nhw", losses, rows.astype(x.dtype), columns.astype(x.dtype), precision="highest")
    covered = rows.sum(0)[:, None] * columns.sum(0)
    return jnp.broadcast_to((spread / jnp.asarray(covered, x.dtype))[..., None], x.shape)


def _windows(size: int, extent: int, step: int) -> np.ndarray:
    """Which pixels of a row each window covers (windows, size), bool."""
    starts = np.arange(-(-(size - extent) // step) + 1) * step
    places = np.arange(size)
    return (places >= starts[:, None]) & (places < starts[:, None] + extent)

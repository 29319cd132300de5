"""How alike are two images? The five measures between a unit's map and the image it is compared with.

Maps are raw gradients: signed and of any magnitude. Cosine similarity does not mind. The four distances are about
images one looks at, so they first turn both sides into what a viewer would show, a picture in [0, 1]
(`as_image`), and are then free of the map's scale, symmetric, and within [0, 1] for every image size.

A black map, zero everywhere, is a unit the image did not activate: it shows nothing that could be compared. By
convention its cosine similarity is 0 and every distance is 1, the largest, and the same holds for a black reference.
So a sweep may skip dead units and write `Measure.dead`, and nobody can tell the difference.

All functions reduce the last three axes (h, w, c), broadcast over the others, and are pure, of static shape and
free of host callbacks: they go through `jit` and `vmap` and fold each map into one number as it appears.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BINS = 64
HASH_SIDE = 8


@dataclass(frozen=True)
class Measure:
    """A measure between a map and its reference, with what is needed to read its numbers.

    Attributes:
        name: the word users write, `metric="cosine"`.
        function: `(map, reference) -> value` on arrays (..., h, w, c), reducing the last three axes.
        larger_is_similar: True for a similarity, False for a distance.
        range: the smallest and the largest possible value.
        dead: the value for a black map, the one a dead unit gets.
    """

    name: str
    function: Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
    larger_is_similar: bool
    range: tuple[float, float]
    dead: float

    def oriented(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Gives values of this measure the sign under which larger means more similar.

        Args:
            values: values of this measure, any shape.

        Returns:
            The values of a similarity as they are, those of a distance negated.

        Example:
            >>> MEASURES["euclidean"].oriented(np.array([0.25]))
            array([-0.25])
        """
        return values if self.larger_is_similar else -values


def as_image(x: Float[Array, "*n h w c"]) -> Float[Array, "*n h w c"]:
    """Scales each image to [0, 1], as a viewer shows it: (x − min x) / (max x − min x), over all its values.

    Args:
        x: maps or images, shape (..., h, w, c), any range. Channels are scaled together, which keeps colors.

    Returns:
        The same shape, in [0, 1], at least float32. A constant image has no contrast to show and becomes black.

    Example:
        >>> as_image(jnp.array([-1.0, 0.0, 1.0]).reshape(1, 3, 1)).ravel().tolist()
        [0.0, 0.5, 1.0]
    """
    x = _wide(x)
    low = x.min(axis=(-3, -2, -1), keepdims=True)
    span = x.max(axis=(-3, -2, -1), keepdims=True) - low
    return (x - low) / jnp.where(span == 0, 1, span)


def cosine(map: Float[Array, "*#n h w c"], reference: Float[Array, "*#n h w c"]) -> Float[Array, "..."]:
    """Cosine similarity, the thesis' choice: cos θ = a·b / (‖a‖ ‖b‖).

    Args:
        map: raw maps a, shape (..., h, w, c).
        reference: images or maps b, shape (..., h, w, c), broadcast against the maps.

    Returns:
        Shape (...), in [−1, 1]; 1 where b is a positive multiple of a; 0 where a or b is zero everywhere.

    Paper: formulas 2-7 and 3-3 of the thesis on class average images.

    Example:
        >>> a = jnp.array([3.0, 4.0]).reshape(1, 2, 1)
        >>> float(cosine(a, 10 * a)), float(cosine(a, -a)), float(cosine(0 * a, a))
        (1.0, -1.0, 0.0)
    """
    # Divided by their largest value first: squares of the small gradients of deep layers vanish in float32.
    a, b = _by_largest(map), _by_largest(reference)
    dot = (a * b).sum(axis=(-3, -2, -1))
    lengths = jnp.sqrt((a * a).sum(axis=(-3, -2, -1))) * jnp.sqrt((b * b).sum(axis=(-3, -2, -1)))
    return jnp.clip(dot / jnp.where(lengths == 0, 1, lengths), -1, 1)


def euclidean(map: Float[Array, "*#n h w c"], reference: Float[Array, "*#n h w c"]) -> Float[Array, "..."]:
    """Euclidean distance between the two as images, per root of their size: ‖A − B‖ / √(h w c).

    Args:
        map: raw maps, shape (..., h, w, c); A is the map `as_image`.
        reference: images or maps, shape (..., h, w, c), broadcast against the maps; B is the reference `as_image`.

    Returns:
        Shape (...), in [0, 1]: the root mean square difference in brightness; 1 where either is zero everywhere.

    Paper: formula 2-6 of the thesis on class average images.

    Differs from the paper: there d = ‖a − b‖ of whatever arrays come. Between a gradient and a picture that is the
    length of the longer one; between unit vectors it is √(2 − 2 cos θ), cosine once more. Of images it says something
    of its own.

    Example:
        >>> a = jnp.array([0.0, 1.0, 0.5, 0.5]).reshape(2, 2, 1)
        >>> float(euclidean(a, 3 * a)), float(euclidean(a, jnp.array([0.0, 1.0, 0.5, 1.0]).reshape(2, 2, 1)))
        (0.0, 0.25)
    """
    difference = as_image(map) - as_image(reference)
    distance = jnp.sqrt((difference * difference).mean(axis=(-3, -2, -1)))
    return _unless_black(distance, map, reference)


def hamming(map: Float[Array, "*#n h w c"], reference: Float[Array, "*#n h w c"]) -> Float[Array, "..."]:
    """Hamming distance: the share of values that differ once both are 8-bit images.

    Args:
        map: raw maps, shape (..., h, w, c), read as images in 256 steps: round(255 · `as_image`).
        reference: images or maps, shape (..., h, w, c), broadcast against the maps.

    Returns:
        Shape (...), in [0, 1]; each channel of each pixel counts as one value. 1 where either is zero everywhere.

    Paper: section 2.3.1 (3) of the thesis on class average images, which counts; a share does not depend on the size.

    Example:
        >>> a = jnp.array([0.0, 1.0, 0.5, 0.5]).reshape(2, 2, 1)
        >>> float(hamming(a, jnp.array([0.0, 1.0, 0.5, 0.6]).reshape(2, 2, 1)))
        0.25
    """
    different = jnp.round(255 * as_image(map)) != jnp.round(255 * as_image(reference))
    return _unless_black(_share(different, map, axis=(-3, -2, -1)), map, reference)


def histogram(map: Float[Array, "*#n h w c"], reference: Float[Array, "*#n h w c"]) -> Float[Array, "..."]:
    """Histogram distance: ½ Σ_b |P_b − Q_b| over 64 bins of grey, which is 1 minus the histograms' intersection.

    Args:
        map: raw maps, shape (..., h, w, c); P is the share of the map's pixels in each bin of grey.
        reference: images or maps, shape (..., h, w, c), broadcast against the maps; Q is the same of the reference.

    Returns:
        Shape (...), in [0, 1]: the share of pixels that would have to change their brightness, wherever they are.
        1 where either is zero everywhere.

    Paper: section 2.3.1 (4) of the thesis on class average images, which names neither bins nor distance.

    Example:
        >>> a = jnp.array([0.0, 1.0, 0.5, 0.5]).reshape(2, 2, 1)
        >>> float(histogram(a, a[::-1])), float(histogram(a, jnp.array([0.0, 1.0, 0.5, 1.0]).reshape(2, 2, 1)))
        (0.0, 0.25)
    """
    # Whole numbers to the end: shares would add up to a little more than 1 by rounding.
    moved = jnp.abs(_histogram(map) - _histogram(reference)).sum(axis=-1)
    pixels = map.shape[-3] * map.shape[-2]
    return _unless_black((moved / (2 * pixels)).astype(_wide(map).dtype), map, reference)


def perceptual_hash(map: Float[Array, "*#n h w c"], reference: Float[Array, "*#n h w c"]) -> Float[Array, "..."]:
    """Perceptual hash distance: the share of differing bits between the two images' 64-bit average hashes.

    Args:
        map: raw maps, shape (..., h, w, c). Grey, reduced to 8 × 8 cells by area; a bit is set where a cell is brighter
            than the mean of the cells. Sides need not be multiples of 8, and may be below it.
        reference: images or maps, shape (..., h, w, c), broadcast against the maps.

    Returns:
        Shape (...), in [0, 1], a multiple of 1/64. 1 where either is zero everywhere.

    Paper: section 2.3.1 (5) of the thesis on class average images: the average hash, without a cosine transform.

    Example:
        >>> a = jnp.zeros((8, 8, 1)).at[0, 0].set(1.0)
        >>> 64 * float(perceptual_hash(a, jnp.zeros((8, 8, 1)).at[0, 1].set(1.0)))
        2.0
    """
    different = _hash(map) != _hash(reference)
    return _unless_black(_share(different, map, axis=(-2, -1)), map, reference)


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("cosine", cosine, larger_is_similar=True, range=(-1.0, 1.0), dead=0.0),
        Measure("euclidean", euclidean, larger_is_similar=False, range=(0.0, 1.0), dead=1.0),
        Measure("hamming", hamming, larger_is_similar=False, range=(0.0, 1.0), dead=1.0),
        Measure("histogram", histogram, larger_is_similar=False, range=(0.0, 1.0), dead=1.0),
        Measure("perceptual_hash", perceptual_hash, larger_is_similar=False, range=(0.0, 1.0), dead=1.0),
    )
}


def measure(name: str) -> Measure:
    """Finds a measure by its name.

    Args:
        name: a key of `MEASURES`: "cosine", "euclidean", "hamming", "histogram" or "perceptual_hash".

    Returns:
        The measure.

    Raises:
        ValueError: there is no measure of that name; the message says which one comes closest and lists all.

    Example:
        >>> measure("cosine").range
        (-1.0, 1.0)
    """
    if name not in MEASURES:
        near = difflib.get_close_matches(name, MEASURES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no measure {name!r}; {hint}there are {', '.join(MEASURES)}")
    return MEASURES[name]


def _wide(x: jax.Array) -> jax.Array:
    """At least float32: half precision has too few steps for 8-bit images."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _by_largest(x: jax.Array) -> jax.Array:
    x = _wide(x)
    largest = jnp.abs(x).max(axis=(-3, -2, -1), keepdims=True)
    return x / jnp.where(largest == 0, 1, largest)


def _share(flags: jax.Array, like: jax.Array, axis: tuple[int, ...]) -> jax.Array:
    return flags.mean(axis=axis, dtype=_wide(like).dtype)


def _unless_black(distance: jax.Array, map: jax.Array, reference: jax.Array) -> jax.Array:
    """The distance, but 1 where a side is zero everywhere, NaN where a side is not finite: comparisons hide it."""
    black = (map == 0).all(axis=(-3, -2, -1)) | (reference == 0).all(axis=(-3, -2, -1))
    finite = jnp.isfinite(map).all(axis=(-3, -2, -1)) & jnp.isfinite(reference).all(axis=(-3, -2, -1))
    return jnp.where(finite, jnp.where(black, 1, distance), jnp.nan)


def _grey(image: jax.Array) -> jax.Array:
    """Brightness (..., h, w) of images: ITU-R 601 luma of three channels, the mean of any other number."""
    channels = image.shape[-1]
    weights = np.array([0.299, 0.587, 0.114]) if channels == 3 else np.full(channels, 1 / channels)
    # A sum and not a matrix product, which accelerators round to fewer digits.
    return (image * jnp.asarray(weights, image.dtype)).sum(axis=-1)


def _histogram(x: jax.Array) -> jax.Array:
    """Counts (..., 64) of pixels by grey."""
    bins = jnp.clip(jnp.floor(BINS * _grey(as_image(x))), 0, BINS - 1).astype(jnp.int32)
    rows = bins.reshape(-1, bins.shape[-2] * bins.shape[-1])
    # Added up one by one; comparing each pixel with each bin would take 64 copies of the image.
    counts = jnp.zeros((rows.shape[0], BINS), jnp.int32).at[jnp.arange(rows.shape[0])[:, None], rows].add(1)
    return counts.reshape(*bins.shape[:-2], BINS)


def _hash(x: jax.Array) -> jax.Array:
    """Bits (..., 8, 8) of the average hash."""
    grey = _grey(as_image(x))
    rows, columns = (jnp.asarray(_area_weights(size), grey.dtype) for size in grey.shape[-2:])
    cells = jnp.einsum("ih,...hw,jw->...ij", rows, grey, columns, precision="highest")
    # A cell that equals the mean (an even image has nothing else) must not be set by a rounding error.
    return cells > cells.mean(axis=(-2, -1), keepdims=True) + 1e-5


def _area_weights(size: int) -> np.ndarray:
    """Weights (8, size): the share that each pixel, an interval of length 1, has in each of 8 equal cells."""
    edges = np.linspace(0, size, HASH_SIDE + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * HASH_SIDE / size

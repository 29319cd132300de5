"""Does the network look at what gives the class away? Shares of attribution in a region, and accuracy without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcam.attribution import lime, saliency
from jaxcam.attribution.asking import check_count, check_images, check_key
from jaxcam.studies.answers import batches, logits, predictions
from jaxcam.studies.planting import (
    Rectangle,
    check_classes,
    checked_labels,
    colored,
    mean_color,
    palette,
    plant,
    region_mask,
)

Methods = Mapping[str, Callable[[Any, Array], Any]]


@dataclasses.dataclass(frozen=True)
class RegionCheck:
    """What a network makes of a region of its images.

    Attributes:
        area: the region's share of the pixels.
        shares: for each method the share of each explained image's attribution that lies in the region, (m,); NaN
            where a map is all zero.
        maps: for each method the maps, raw, of the explained images.
        explained: which images those are, (m,).
        accuracy: share of images classified rightly.
        removed: the same with the region's content removed.
        moved: the same with the region's content taken from an image of another class.
        followed: share of those images that are classified as the class the content was taken from.
        count: n, how many images the accuracies are of.
    """

    area: float
    shares: Mapping[str, Float[np.ndarray, " m"]]
    maps: Mapping[str, np.ndarray]
    explained: np.ndarray
    accuracy: float
    removed: float
    moved: float
    followed: float
    count: int

    @property
    def times_area(self) -> dict[str, float]:
        """For each method how many times its area's share the region has of the attribution; NaN without a map."""
        known = {name: shares[np.isfinite(shares)] for name, shares in self.shares.items()}
        return {name: float(s.mean() / self.area) if len(s) else float("nan") for name, s in known.items()}


@dataclasses.dataclass(frozen=True)
class LeakCheck:
    """Two networks, trained with a leak and without it, asked about the same images with it.

    Attributes:
        leaking: figures of the network trained on images with the rectangle.
        clean: figures of the network trained on images without.
        leaking_model: the first network.
        clean_model: the second.
        images: the test images with the rectangle, (n, h, w, c).
        region: where the rectangle is, (h, w).
        colors: of the classes, (k, c).
    """

    leaking: RegionCheck
    clean: RegionCheck
    leaking_model: Any
    clean_model: Any
    images: np.ndarray
    region: np.ndarray
    colors: np.ndarray


def leak_check(
    fit: Callable[[np.ndarray, np.ndarray], Any],
    images: Array | np.ndarray,
    labels: Any,
    test_images: Array | np.ndarray,
    test_labels: Any,
    *,
    key: Any,
    rectangle: Rectangle | None = None,
    colors: Any = None,
    methods: Methods | None = None,
    explained: int = 50,
    samples: int = 1000,
    batch: int = 32,
) -> LeakCheck:
    """Plants a leak, trains with and without it, and measures what attribution and accuracy say of either network.

    In every image a rectangle gets the color of its class. One network is trained on those, one on the images as they
    are. Both are then shown the test images with the rectangle; see `region_check` for the figures. "Removed" is the
    image as it was, "moved" the color of another class.

    Args:
        fit: (images (n, h, w, c), labels (n,)) ↦ model; called with the planted images, then with the plain ones.
        images: to train on, (n, h, w, c) in [0, 1]; grey ones become red, green and blue.
        labels: (n,).
        test_images: to test on, (m, h, w, c).
        test_labels: (m,).
        key: of which classes the color is moved to, which images are explained, and LIME's samples.
        rectangle: top, left, height and width in pixels; None for a fifth of the image near its top left corner.
        colors: (k, c), one for each class; None for `palette(k)`.
        methods: names and functions (model, x) ↦ maps; None for saliency and LIME.
        explained: how many test images are explained, at most.
        samples: of LIME.
        batch: images at once.

    Returns:
        The figures of both networks, and the networks.

    Raises:
        TypeError: images, labels, key or rectangle of a wrong kind.
        ValueError: one class only, a rectangle outside the images, images that do not fit, numbers below 1.

    Example:
        >>> def fit(images, labels):  # the class whose mean image is nearest
        ...     means = jnp.stack([images[labels == label].mean(0) for label in (0, 1)])
        ...     return lambda x: -((x[:, None] - means) ** 2).sum((2, 3, 4))
        >>> x, y = np.random.default_rng(0).random((40, 8, 8, 3), np.float32) / 4, np.arange(40) % 2
        >>> found = leak_check(fit, x, y, x, y, key=jax.random.key(0), methods={"saliency": saliency})
        >>> found.leaking.accuracy, found.leaking.moved, found.leaking.followed
        (1.0, 0.0, 1.0)

    When it misleads: where objects fill the middle, a clean network gives a corner less than its area; read the clean
    network's figure beside the leaking one's.
    """
    check_key(key)
    check_images(images)
    check_images(test_images)
    labels, test_labels = checked_labels(labels, len(images)), checked_labels(test_labels, len(test_images))
    check_classes(labels, "a leak check")
    classes = int(max(labels.max(), test_labels.max())) + 1
    colors = palette(classes) if colors is None else np.asarray(colors)
    plain, tested = colored(images, colors), colored(test_images, colors)
    region = region_mask(rectangle, tested.shape[1:3])
    planted, shown = (
        plant(plain, labels, colors, rectangle=rectangle),
        plant(tested, test_labels, colors, rectangle=rectangle),
    )
    elsewhere = _other_classes(key, test_labels, classes)
    moved = plant(tested, elsewhere, colors, rectangle=rectangle)
    leaking, clean = fit(planted, labels), fit(plain, labels)

    def figures(model: Any) -> RegionCheck:
        return _figures(
            model, shown, test_labels, region, tested, moved, elsewhere,
            key=key, methods=methods, explained=explained, samples=samples, batch=batch,
        )  # fmt: skip

    return LeakCheck(figures(leaking), figures(clean), leaking, clean, shown, region, colors)


def region_check(
    model: Any,
    images: Array | np.ndarray,
    labels: Any,
    region: Any,
    *,
    key: Any,
    fill: Any = "mean",
    methods: Methods | None = None,
    explained: int = 50,
    samples: int = 1000,
    batch: int = 32,
) -> RegionCheck:
    """Whether a trained network relies on a region that is suspected of giving the class away.

    The share of attribution in the region G is Σ_{p∈G} |M_p| / Σ_p |M_p|, with |M_p| summed over channels; a network
    that does not care has about the area's share. Accuracy is measured as the images are, with G removed (filled) and
    moved (G's pixels taken from a random image of another class).

    Args:
        model: any callable `x -> logits (n, k)`.
        images: (n, h, w, c), as the model takes them.
        labels: the class of each, (n,).
        region: top, left, height and width in pixels, or a mask (h, w) of booleans.
        key: of the other images, which images are explained, and LIME's samples.
        fill: what a removed region becomes: "mean" (each image's mean color outside the region), a number, or an array
            like the images or like one of them.
        methods: names and functions (model, x) ↦ maps (n, h, w) or (n, h, w, c); None for saliency and LIME, of the
            predicted class.
        explained: how many images are explained, at most.
        samples: of LIME.
        batch: images at once.

    Returns:
        The figures.

    Raises:
        TypeError: images, labels, key or region of a wrong kind.
        ValueError: one class only, a region outside the images, labels beyond the outputs, maps of another size.

    Example:
        >>> net = lambda x: x[:, 0, 0, :1] * jnp.array([1.0, 0.0]) + jnp.array([0.0, 0.5])  # one pixel decides
        >>> x = np.zeros((4, 4, 4, 1), np.float32)
        >>> x[:2, 0, 0] = 1
        >>> found = region_check(net, x, [0, 0, 1, 1], (0, 0, 2, 2), key=jax.random.key(0), samples=100)
        >>> found.area, found.shares["saliency"][0].item(), found.accuracy, found.removed, found.followed
        (0.25, 1.0, 1.0, 0.5, 1.0)

    Differs from: the original (saliency and LIME looked at) gives no figures. LIME replaces pieces by the image's mean
    color: a rectangle of one color replaced by its own mean would stay as it is and seem without influence.
    """
    check_key(key)
    check_images(images)
    pixels = np.asarray(images)
    labels = checked_labels(labels, len(pixels))
    check_classes(labels, "a region check")
    mask = region_mask(region, pixels.shape[1:3])
    donors = _donors(key, labels)
    filling = _filling(fill, pixels, ~mask)
    removed = np.where(mask[..., None], filling, pixels).astype(pixels.dtype)
    moved = np.where(mask[..., None], pixels[donors], pixels)
    return _figures(
        model, pixels, labels, mask, removed, moved, labels[donors],
        key=key, methods=methods, explained=explained, samples=samples, batch=batch,
    )  # fmt: skip


def _figures(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    region: np.ndarray,
    removed: np.ndarray,
    moved: np.ndarray,
    elsewhere: np.ndarray,
    *,
    key: Any,
    methods: Methods | None,
    explained: int,
    samples: int,
    batch: int,
) -> RegionCheck:
    check_count(explained, "explained")
    answers = logits(model, images, batch)
    if labels.max() >= answers.shape[-1]:
        raise ValueError(f"the labels go up to {labels.max()}, and the model has {answers.shape[-1]} outputs")
    after = predictions(model, moved, batch)
    chosen = np.sort(np.asarray(jax.random.permutation(jax.random.fold_in(key, 2), len(images)))[:explained])
    methods = usual_methods(key, samples) if methods is None else methods
    maps = {
        name: np.concatenate(
            [np.asarray(method(model, jnp.asarray(part)))[:count] for part, count in batches(images[chosen], batch)]
        )
        for name, method in methods.items()
    }
    return RegionCheck(
        area=float(region.mean()),
        shares={name: share_of(values, region, name) for name, values in maps.items()},
        maps=maps,
        explained=chosen,
        accuracy=_rate(answers.argmax(-1), labels),
        removed=_rate(predictions(model, removed, batch), labels),
        moved=_rate(after, labels),
        followed=_rate(after, elsewhere),
        count=len(images),
    )


def usual_methods(key: Any, samples: int) -> Methods:
    """Saliency, and LIME whose missing pieces have the image's mean color."""

    def by_lime(model: Any, x: Array) -> Array:
        gray = jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)
        return lime(model, x, key=jax.random.fold_in(key, 3), samples=samples, baseline=gray)

    return {"saliency": saliency, "lime": by_lime}


def share_of(maps: np.ndarray, region: np.ndarray, name: str) -> Float[np.ndarray, " n"]:
    """Σ over the region of |M|, as a share of the sum over the image; NaN for a map of zeros."""
    strengths = np.abs(maps.astype(np.float64))
    strengths = strengths.sum(-1) if strengths.ndim == 4 else strengths
    if strengths.shape[1:] != region.shape:
        h, w = region.shape
        raise ValueError(f"maps of {name} are {'×'.join(map(str, strengths.shape[1:]))}, not {h}×{w} as the images")
    whole = strengths.sum((1, 2))
    return np.divide(strengths[:, region].sum(1), whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _rate(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((found == wanted).mean())


def _filling(fill: Any, images: np.ndarray, outside: np.ndarray) -> np.ndarray:
    if isinstance(fill, str):
        if fill != "mean":
            raise ValueError(f"no fill {fill!r}; there are 'mean', a number, and an array like the images")
        return mean_color(images, outside)
    values = np.asarray(fill, images.dtype)
    if values.shape not in {(), images.shape, images.shape[1:]}:
        raise ValueError(f"a fill is a number or an array like the images {images.shape}; got shape {values.shape}")
    return np.broadcast_to(values, images.shape)


def _other_classes(key: Any, labels: np.ndarray, classes: int) -> np.ndarray:
    """For each image a class that is not its own, each of the others as likely."""
    steps = jax.random.randint(jax.random.fold_in(key, 1), labels.shape, 1, classes)
    return (labels + np.asarray(steps)) % classes


def _donors(key: Any, labels: np.ndarray) -> np.ndarray:
    """For each image the number of a random image of another class."""
    draws = np.asarray(jax.random.uniform(jax.random.fold_in(key, 1), labels.shape))
    others = {label: np.flatnonzero(labels != label) for label in np.unique(labels)}
    return np.array([others[y][int(u * len(others[y]))] for y, u in zip(labels, draws, strict=True)])

"""By how many ways a network comes to one answer: heat maps of one class, put into groups (SpRAy)."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from threadpoolctl import threadpool_limits

from jaxcam.attribution.asking import check_key
from jaxcam.attribution.bricks import check_one_of

GAPS = ("relative", "absolute")
FLOOR = 1e-6
"""Eigenvalues below are zeros: of parts that hang together by no link."""
FEWEST = 10
"""Fewer maps have no groups that could be told from chance."""


@dataclasses.dataclass(frozen=True)
class HeatmapClusters:
    """Heat maps in groups; made by `heatmap_clusters`.

    Attributes:
        labels: the group of each map, (n,); 0 is the largest.
        count: k, how many groups there are.
        eigenvalues: of the graph's normalized Laplacian, the smallest first; as many of them are near 0 as there are
            groups with hardly a link between them.
        gaps: λᵢ₊₁ − λᵢ for i = 1, 2, …
        places: of the maps in a plane, (n, 2), by t-SNE; neighbors there are alike.
        means: mean map of each group, (k, h, w), of maps with Σ M² = 1.
        central: the map that is nearest to its group's mean, for each group, (k,).
    """

    labels: Int[np.ndarray, " n"]
    count: int
    eigenvalues: Float[np.ndarray, " m"]
    gaps: Float[np.ndarray, " g"]
    places: Float[np.ndarray, "n 2"]
    means: Float[np.ndarray, "k h w"]
    central: Int[np.ndarray, " k"]

    @property
    def sizes(self) -> Int[np.ndarray, " k"]:
        """How many maps each group has."""
        return np.bincount(self.labels, minlength=self.count)


def heatmap_clusters(
    maps: Array | np.ndarray,
    *,
    key: Any,
    clusters: int | None = None,
    gap: str = "relative",
    most: int = 10,
    side: int = 16,
    neighbors: int = 10,
) -> HeatmapClusters:
    """Puts heat maps of one class into groups, each a way by which the network comes to its answer.

    Each map is summed over channels, shrunk to at most side × side by averaging, and scaled to Σ M² = 1. Maps are
    linked to their nearest neighbors; with A the links (1 where either is among the other's nearest) and D their
    numbers, the groups are those of spectral clustering by the smallest eigenvalues λ of L = I − D^(−½) A D^(−½), as
    many as the eigengap says: "relative", the k from 2 up of the largest λₖ₊₁ / λₖ, and 1 where λ₂ − λ₁ is the widest
    difference; "absolute", the k of the widest difference λₖ₊₁ − λₖ.

    Args:
        maps: raw maps (n, h, w) or (n, h, w, c) of images of one class, such as `jc.lrp(model, x, target=k)`; at least
            ten.
        key: of k-means and t-SNE, `jax.random.key(seed)`.
        clusters: how many groups; None for what the eigengap says.
        gap: which eigengap, "relative" or "absolute"; the latter tends to more groups, parts of the former's.
        most: at most so many where the eigengap says.
        side: in pixels.
        neighbors: so many each map is linked to.

    Returns:
        The groups, the largest first, and all that a picture of them needs.

    Raises:
        TypeError: maps or key of a wrong kind.
        ValueError: fewer than ten maps, NaN, a map that is all zero, numbers that make no sense.

    Example:
        >>> maps = np.random.default_rng(0).random((20, 8, 8))
        >>> maps[:12, :2, :2] += 9
        >>> maps[12:, 5:, 5:] += 9
        >>> found = heatmap_clusters(maps, key=jax.random.key(0), neighbors=5)
        >>> found.count, found.labels.tolist() == 12 * [0] + 8 * [1]
        (2, True)

    Lapuschkin et al., "Unmasking Clever Hans Predictors and Assessing What Machines Really Learn", 2019. Differs from:
    maps are scaled, so that a group is where a network looks and not how sure it is. When it misleads: some gap is
    always the widest. Groups may be poses or sizes of an object; look at them, and remove what they share
    (`region_check`) before calling it a leak.
    """
    check_key(key)
    small, whole = features(maps, side)
    n = len(small)
    most, neighbors = _whole(most, "most", 1), min(_whole(neighbors, "neighbors", 1), n - 1)
    seeds = np.asarray(jax.random.randint(key, (2,), 0, 2**31 - 1)).tolist()
    links = neighbor_graph(small, neighbors)
    values = eigenvalues(links)
    gaps = np.diff(values[: min(most, n - 1) + 1])
    check_one_of(gap, GAPS, "gap")
    count = _counted(values, gaps, gap) if clusters is None else _whole(clusters, "clusters", 1)
    if count >= n:
        raise ValueError(f"{n} maps do not make {count} groups; ask for fewer clusters")
    # One thread: small problems gain nothing by more, and lose much where other work has the cores.
    with threadpool_limits(1):
        labels = _by_size(_spectral(links, count, seeds[0]))
        places = _plane(small, seeds[1])
    means = np.stack([whole[labels == group].mean(0) for group in range(count)])
    distances = ((whole - means[labels]) ** 2).sum((1, 2))
    central = [int(np.flatnonzero(labels == g)[distances[labels == g].argmin()]) for g in range(count)]
    return HeatmapClusters(labels, count, values, gaps, places, means, np.array(central))


def features(maps: Any, side: int) -> tuple[Float[np.ndarray, "n f"], Float[np.ndarray, "n h w"]]:
    """Maps as the rows that are compared, and as pictures of Σ M² = 1 in their own size.

    Raises:
        TypeError: no array of numbers.
        ValueError: another number of axes, too few, NaN, or a map of zeros.
    """
    if not hasattr(maps, "shape") or not hasattr(maps, "dtype"):
        raise TypeError(f"maps are an array (n, h, w) or (n, h, w, c); got {type(maps).__name__}")
    if len(maps.shape) not in (3, 4) or 0 in maps.shape:
        raise ValueError(f"maps are an array (n, h, w) or (n, h, w, c); got shape {tuple(maps.shape)}")
    if len(maps) < FEWEST:
        raise ValueError(f"groups need at least {FEWEST} maps of a class; got {len(maps)}")
    flat = np.asarray(maps, np.float64)
    flat = flat.sum(-1) if flat.ndim == 4 else flat
    norms = np.sqrt((flat**2).sum((1, 2)))
    if not np.isfinite(norms).all():
        raise ValueError(f"map {int(np.argmin(np.isfinite(norms)))} has NaN or infinite values")
    if not norms.all():
        raise ValueError(f"map {int(np.argmin(norms))} is zero everywhere: nothing says where the network looked")
    whole = flat / norms[:, None, None]
    side = _whole(side, "side", 1)
    shape = (len(whole), min(side, whole.shape[1]), min(side, whole.shape[2]))
    small = whole if shape == whole.shape else np.asarray(jax.image.resize(jnp.asarray(whole), shape, "linear"))
    rows = small.reshape(len(whole), -1).astype(np.float64)
    lengths = np.sqrt((rows**2).sum(1, keepdims=True))
    return rows / np.where(lengths > 0, lengths, 1), whole


def neighbor_graph(rows: Float[np.ndarray, "n f"], neighbors: int) -> Float[np.ndarray, "n n"]:
    """1 where either of two rows is among the nearest of the other, 0 elsewhere and on the diagonal."""
    from sklearn.neighbors import kneighbors_graph

    links = kneighbors_graph(rows, neighbors).toarray()
    return np.maximum(links, links.T)


def eigenvalues(links: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """Those of I − D^(−½) A D^(−½), the smallest first."""
    roots = np.sqrt(links.sum(1))
    return np.linalg.eigvalsh(np.eye(len(links)) - links / roots[:, None] / roots[None]).clip(0)


def _counted(values: np.ndarray, gaps: np.ndarray, gap: str) -> int:
    """How many groups an eigengap says there are."""
    widest = int(gaps.argmax()) + 1
    if gap == "absolute" or widest == 1:
        return widest
    ratios = values[2 : len(gaps) + 1].clip(FLOOR) / values[1 : len(gaps)].clip(FLOOR)
    return int(ratios.argmax()) + 2


def _spectral(links: np.ndarray, count: int, seed: int) -> np.ndarray:
    if count == 1:
        return np.zeros(len(links), int)
    from sklearn.cluster import KMeans

    # The eigenvectors by hand: the parts of a graph that hang together by nothing are no reason to warn here.
    roots = np.sqrt(links.sum(1))
    _, vectors = np.linalg.eigh(np.eye(len(links)) - links / roots[:, None] / roots[None])
    rows = vectors[:, :count]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return np.asarray(KMeans(count, n_init=10, random_state=seed).fit_predict(rows))


def _by_size(labels: np.ndarray) -> np.ndarray:
    """The same groups, the largest first; of equal ones that which has the first map."""
    groups, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = sorted(range(len(groups)), key=lambda g: (-sizes[g], first[g]))
    rank = {groups[g]: place for place, g in enumerate(order)}
    return np.array([rank[label] for label in labels])


def _plane(rows: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(rows), np.float64)


def _whole(number: Any, name: str, least: int) -> int:
    try:
        value = operator.index(number)
    except TypeError as error:
        raise TypeError(f"{name} is a whole number; got {number!r}") from error
    if value < least:
        raise ValueError(f"{name} is a whole number from {least} up; got {value}")
    return value

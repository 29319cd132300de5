"""The figure of heat maps in groups (SpRAy): a plane of thumbnails, the eigenvalues, and what each group looks at."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from jaxcam.studies import HeatmapClusters
from jaxcam.viewing.colors import DIVERGING, check_channels, limit
from jaxcam.viewing.figures.style import MUTED, SERIES, Drawing, styled

THUMBNAILS = 120
COLUMNS = 6


@styled
def heatmap_groups(found: HeatmapClusters, images: Float[Array | np.ndarray, "n h w c"] | None = None) -> Figure:
    """Heat maps in groups: neighbors in a plane are alike; what each group looks at; how many groups there are.

    Args:
        found: what `jc.studies.heatmap_clusters` returned.
        images: what the maps are of, (n, h, w, c) in [0, 1], drawn as thumbnails framed in the color of their group;
            dots without them.

    Returns:
        The figure. Mean maps: red is for the class, blue against it, each on its own scale.

    Raises:
        ValueError: another number of images than of maps.

    Example:
        >>> import jax
        >>> from jaxcam import studies
        >>> maps = np.random.default_rng(0).random((12, 4, 4))
        >>> found = studies.heatmap_clusters(maps, key=jax.random.key(0), clusters=2)
        >>> heatmap_groups(found).get_axes()[0].get_title(loc="left")
        '12 heat maps in 2 groups'
    """
    if images is not None and len(images) != len(found.labels):
        raise ValueError(f"there are {len(found.labels)} maps and {len(images)} images")
    figure = Drawing(figsize=(10.5, 6.2), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=[1.5, 1.0])
    left, right = halves
    _plane(left.subplots(), found, None if images is None else check_channels(np.asarray(images)))
    top, bottom = right.subfigures(2, 1, height_ratios=[1.0, 1.2])
    _eigenvalues(top.subplots(), found)
    shown = min(found.count, COLUMNS)
    tiles: Any = bottom.subplots(2, shown, squeeze=False)
    for group in range(shown):
        axes, image = tiles[0, group], tiles[1, group]
        end = limit(found.means[group])
        axes.imshow(found.means[group], cmap=DIVERGING, vmin=-end, vmax=end)
        axes.set_title(f"{found.sizes[group]} maps", color=SERIES[group % len(SERIES)], fontsize=8)
        axes.set_axis_off()
        image.set_axis_off()
        if images is not None:
            image.imshow(
                _picture(check_channels(np.asarray(images))[found.central[group]]), cmap="gray", vmin=0, vmax=1
            )
    bottom.suptitle("Mean map of each group, and its most typical image", fontsize=8.5, color=MUTED)
    return figure


def _plane(axes: Axes, found: HeatmapClusters, images: np.ndarray | None) -> None:
    axes.set_title(f"{len(found.labels)} heat maps in {found.count} group{'s' * (found.count > 1)}")
    for group in range(found.count):
        own = found.places[found.labels == group]
        axes.plot(own[:, 0], own[:, 1], "o", color=SERIES[group % len(SERIES)], markersize=5, alpha=0.8)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.margins(0.08)
    if images is None:
        return
    step = -(-len(images) // THUMBNAILS)
    zoom = 24 / max(images.shape[1:3])
    for index in range(0, len(images), step):
        box = OffsetImage(_picture(images[index]), zoom=zoom, cmap="gray", clim=(0, 1))
        frame = {"edgecolor": SERIES[found.labels[index] % len(SERIES)], "linewidth": 1.6}
        axes.add_artist(AnnotationBbox(box, tuple(found.places[index]), pad=0.1, bboxprops=frame))


def _picture(image: np.ndarray) -> np.ndarray:
    return np.clip(image[..., 0] if image.shape[-1] == 1 else image, 0, 1)


def _eigenvalues(axes: Axes, found: HeatmapClusters) -> None:
    count = min(len(found.gaps) + 1, len(found.eigenvalues))
    numbers = np.arange(1, count + 1)
    axes.plot(numbers, found.eigenvalues[:count], "o-", color=MUTED)
    axes.axvspan(found.count, found.count + 1, color=SERIES[0], alpha=0.15, linewidth=0)
    axes.set_xticks(numbers)
    axes.set_title("Eigenvalues of the graph; shaded: the gap taken")

"""Figures of loss landscapes: a curve, or contours beside a surface; and the surface to be turned by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from jaxcam.files import write_atomically
from jaxcam.studies import Landscape
from jaxcam.viewing.figures.style import INK, LEAST, MOST, Drawing, styled

COLORS = "viridis"
LEVELS = 24
LABEL = "loss"


@styled
def landscape(
    found: Landscape,
    *,
    path: Float[Array | np.ndarray, "t 2"] | None = None,
    title: str = "Loss around the parameters",
    names: tuple[str, str] = ("first direction", "second direction"),
) -> Figure:
    """The loss along a direction as a curve, or over two as contours and as a surface.

    Contours and colors are spaced evenly in the logarithm of the loss, where it is positive.

    Args:
        found: what `jc.studies.landscape`, or `interpolation`, returned.
        path: where the checkpoints of a training are in the plane, as `jc.studies.trajectory` says.
        title: a line above.
        names: of the axes.

    Returns:
        The figure; steps where the loss is not finite are left white.

    Raises:
        ValueError: no value is finite.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> bowl = Landscape((axis, axis), axis[:, None] ** 2 + axis**2, 0.0, ())
        >>> [axes.get_title(loc="left") for axes in landscape(bowl).get_axes()[:2]]
        ['Loss around the parameters', '']
    """
    values = _drawable(found)
    if values.ndim == 1:
        figure = Drawing(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(found.axes[0], values, color=LEAST, linewidth=1.8)
        axes.plot([0], [found.center], marker="o", color=MOST, linestyle="none", label="the parameters")
        axes.set(xlabel=names[0], ylabel=LABEL)
        axes.set_title(title)
        axes.legend()
        return figure
    norm, levels = _scale(values)
    figure = Drawing(figsize=(10.2, 4.5), layout="constrained")
    left = figure.add_subplot(1, 2, 1)
    first, second = found.axes
    drawn = left.contourf(first, second, values.T, levels, cmap=COLORS, norm=norm, extend="both")
    left.contour(first, second, values.T, levels[::2], colors="white", linewidths=0.4, alpha=0.6)
    left.plot([0], [0], marker="o", color=MOST, linestyle="none", markersize=5, zorder=6)
    if path is not None:
        _path(left, np.asarray(path))
    left.set(xlabel=names[0], ylabel=names[1])
    left.set_title(title)
    left.grid(False)
    bar = figure.colorbar(drawn, ax=left, shrink=0.85, label=LABEL)
    bar.ax.minorticks_off()
    ticks = levels[:: max(1, len(levels) // 6)]
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.3g}" for tick in ticks])
    right: Any = figure.add_subplot(1, 2, 2, projection="3d")
    height = np.log10(values) if isinstance(norm, LogNorm) else values
    x, y = np.meshgrid(first, second, indexing="ij")
    right.plot_surface(x, y, height, cmap=COLORS, linewidth=0, antialiased=True, rcount=len(first), ccount=len(second))
    right.set(xlabel=names[0], ylabel=names[1], zlabel="log₁₀ loss" if isinstance(norm, LogNorm) else LABEL)
    right.tick_params(labelsize=7)
    right.view_init(elev=32, azim=-58)
    right.set_box_aspect(None, zoom=0.85)
    return figure


def turning_landscape(found: Landscape, path: Float[Array | np.ndarray, "t 2"] | None = None) -> go.Figure:
    """The loss over two directions as a surface to be turned and read off by hand.

    Args:
        found: a landscape over two directions.
        path: where the checkpoints of a training are in the plane.

    Returns:
        A plotly figure; `save_page` writes it.

    Raises:
        ValueError: one direction only, or no finite value.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> len(turning_landscape(Landscape((axis, axis), axis[:, None] ** 2 + axis**2, 0.0, ())).data)
        1
    """
    values = _drawable(found)
    if values.ndim != 2:
        raise ValueError("a surface needs two directions; the landscape has one")
    first, second = found.axes
    hover = "first %{x:.3g}<br>second %{y:.3g}<br>loss %{z:.4g}<extra></extra>"
    surface = go.Surface(x=first, y=second, z=values.T, colorscale="Viridis", hovertemplate=hover)
    surface.contours.z = {"show": True, "usecolormap": True, "project": {"z": True}}
    figure = go.Figure(surface)
    if path is not None:
        steps = np.asarray(path)
        near = [values[np.abs(first - a).argmin(), np.abs(second - b).argmin()] for a, b in steps]
        line = {"color": MOST, "width": 5}
        figure.add_scatter3d(
            x=steps[:, 0], y=steps[:, 1], z=near, mode="lines+markers", line=line, marker={"size": 3}, name="training"
        )
    figure.update_layout(
        scene={"xaxis_title": "first direction", "yaxis_title": "second direction", "zaxis_title": LABEL},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
    )
    return figure


def save_page(figure: go.Figure, path: str | Path) -> Path:
    """Writes a plotly figure as one page that needs no network, whole or not at all.

    Args:
        figure: any.
        path: ending in .html; its directory must exist.

    Returns:
        The path written.

    Raises:
        ValueError: another ending.
        OSError: it cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_page(go.Figure(), Path(folder) / "empty.html").name
        'empty.html'
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise ValueError(f"a page's name ends in .html; got {path.name!r}")
    page = figure.to_html(include_plotlyjs=True, full_html=True, div_id="figure")
    return write_atomically(path, lambda file: file.write(page.encode()))


def _drawable(found: Landscape) -> Float[np.ndarray, "*points"]:
    values = np.where(np.isfinite(found.values), found.values, np.nan)
    if np.isnan(values).all():
        raise ValueError("no value of the landscape is finite; take a smaller span")
    return values


def _scale(values: Float[np.ndarray, "p q"]) -> tuple[Normalize, Float[np.ndarray, " l"]]:
    """Colors and levels: by the logarithm where all is positive, and nearly all of the range."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low > 0 and high > 4 * low:
        return LogNorm(low, high), np.geomspace(low, high, LEVELS)
    high = high if high > low else low + 1
    return Normalize(low, high), np.linspace(low, high, LEVELS)


def _path(axes: Axes, steps: Float[np.ndarray, "t 2"]) -> None:
    axes.plot(steps[:, 0], steps[:, 1], color="white", linewidth=2.4, zorder=4)
    axes.plot(steps[:, 0], steps[:, 1], color=INK, linewidth=1.1, marker="o", markersize=3, zorder=5)
    axes.annotate("start", steps[0], color="white", fontsize=7.5, xytext=(5, 4), textcoords="offset points")

"""The figure of distributions: histograms under their fitted laws, and how far all samples are from each law."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from jaxcam.studies import Distributions
from jaxcam.viewing.figures.style import MUTED, SERIES, WIDEST, Drawing, shortened, styled

LAWS = {
    "norm": ("normal", stats.norm, SERIES[0]),
    "lognorm": ("log-normal", stats.lognorm, SERIES[1]),
    "logistic": ("logistic", stats.logistic, SERIES[2]),
}


@styled
def distributions(
    values: Mapping[str, Float[Array | np.ndarray, "s m"]], found: Mapping[str, Distributions], *, sample: int = 0
) -> Figure:
    """For each layer one sample's histogram under its fitted laws, and every sample's distance from each law.

    Args:
        values: for each layer the samples (s, m), as `jc.studies.layer_values` returns them.
        found: for each of these layers what `jc.studies.distributions` returned.
        sample: whose histogram is drawn.

    Returns:
        The figure: above, histograms with densities; below, a dot for each sample's D·√m, and for each law the line
        that 5 % of samples of that law exceed.

    Raises:
        ValueError: no layers, others in `found` than in `values`, or no such sample.

    Example:
        >>> import jax
        >>> from jaxcam import studies
        >>> values = {"layer1": np.random.default_rng(0).lognormal(size=(3, 50))}
        >>> tests = {"layer1": studies.distributions(values["layer1"], key=jax.random.key(0), draws=99)}
        >>> distributions(values, tests).get_axes()[0].get_title(loc="left")
        'layer1'
    """
    if not values or set(values) != set(found):
        raise ValueError(f"layers tested are {', '.join(found) or 'none'}, layers given {', '.join(values) or 'none'}")
    samples = min(len(rows) for rows in values.values())
    if not 0 <= sample < samples:
        raise ValueError(f"there are {samples} samples, 0 to {samples - 1}; got {sample}")
    width = float(np.clip(2.5 * len(values), 3.4, WIDEST))
    figure = Drawing(figsize=(width, 5.2), layout="constrained")
    panels = figure.subplots(2, len(values), squeeze=False)
    for place, (layer, rows) in enumerate(values.items()):
        _histogram(panels[0, place], np.asarray(rows[sample], np.float64), found[layer], sample)
        panels[0, place].set_title(shortened(layer, width / len(values) - 0.7, 9.5))
        panels[0, place].set_xlabel(f"{found[layer].count} values")
        _distances(panels[1, place], found[layer])
    panels[0, 0].set_ylabel("density, one sample")
    panels[1, 0].set_ylabel("D·√m, all samples")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _histogram(axes: Axes, values: Float[np.ndarray, " m"], found: Distributions, sample: int) -> None:
    axes.hist(values, bins=min(60, max(8, int(np.sqrt(len(values))))), density=True, color="#dfe4ec")
    x = np.linspace(values.min(), values.max(), 300)
    for family, (name, law, color) in LAWS.items():
        own = {parameter: column[sample] for parameter, column in found.parameters[family].items()}
        # A law that cannot be keeps its place in the legend.
        y = law.pdf(x, **own) if np.isfinite(list(own.values())).all() else np.full(len(x), np.nan)
        axes.plot(x, y, color=color, label=name)
    axes.set_yticks([])
    axes.grid(visible=False)


def _distances(axes: Axes, found: Distributions) -> None:
    critical = found.critical(0.05)
    for place, (family, (_, _, color)) in enumerate(LAWS.items()):
        values = found.d_sqrt_n[family]
        values = values[np.isfinite(values)]
        spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(len(values))
        axes.plot(place + spread, values, "o", color=color, alpha=0.55, markersize=2.8, markeredgewidth=0)
        axes.plot([place - 0.36, place + 0.36], [critical[family]] * 2, color=MUTED, linestyle=(0, (3, 2)))
        if not len(values):
            axes.text(place, critical[family], "cannot be", color=MUTED, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(LAWS)), [name for name, _, _ in LAWS.values()], fontsize=7)
    axes.set_ylim(0, 1.12 * axes.get_ylim()[1])
    axes.set_xlim(-0.6, len(LAWS) - 0.4)

"""The report's charts, as plotly figures that carry no color.

A page is read in light and in dark, so colors belong to its style sheet: each trace says which one it wants
(`meta.color`, the name of a CSS variable) and the page's script paints it.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from jaxcam.viewing.figures.style import short_names
from jaxcam.viewing.tables import Deadness, Pruned, class_mean

SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "x",
    "pentagon",
    "hexagon",
    "star",
)
SERIES = 10
MANY = 24
LAYOUT: dict[str, Any] = {"template": {}, "margin": {"l": 56, "r": 12, "t": 8, "b": 30}, "showlegend": False}
WAYS = (
    ("most", "most similar", "most", "circle", -0.18),
    ("random", "random (mean ± sd)", "random", "diamond", 0.0),
    ("least", "least similar", "least", "square", 0.18),
)


def history(table: Mapping[str, Float[np.ndarray, " e"]], quantity: str) -> go.Figure:
    """Loss or accuracy by epoch, training and test data.

    Args:
        table: the columns of `tables.history_table`.
        quantity: "loss" or "accuracy".

    Returns:
        The figure.
    """
    figure = go.Figure(layout=LAYOUT)
    for data, color, words in (("train", "random", "training data"), ("test", "least", "test data")):
        figure.add_scatter(
            x=_list(table["epoch"]),
            y=_list(table[f"{data}_{quantity}"]),
            name=words,
            mode="lines+markers" if len(table["epoch"]) < 60 else "lines",
            marker={"size": 5},
            line={"width": 2},
            meta={"color": color},
            hovertemplate=f"{words}, epoch %{{x}}<br>{quantity} %{{y:.3f}}<extra></extra>",
        )
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        margin={"t": 8},
        xaxis={"title": {"text": "epoch"}, "zeroline": False, "automargin": True},
        yaxis={"title": {"text": quantity}, "rangemode": "tozero", "zeroline": False},
    )
    if quantity == "accuracy":
        figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    return figure


def curves(
    values: Float[np.ndarray, "k l"],
    units: Sequence[int],
    layers: Sequence[str],
    classes: Sequence[str],
    shown: Sequence[int],
    quantity: str,
) -> go.Figure:
    """One thin curve for each class over the layers, and their mean, thick.

    Args:
        values: one of `tables.Curves`, NaN where no unit counts.
        units: how many units each layer has.
        layers: the l layer names.
        classes: the k class names.
        shown: the classes that get a curve; the mean is that of all.
        quantity: what the numbers are, for the axis.

    Returns:
        The figure; the meta of each class's trace names the class, for selecting.
    """
    names = short_names(layers)
    figure = go.Figure(layout=LAYOUT)
    hover = [f"{layer}, {count} units" for layer, count in zip(layers, units, strict=True)]
    for place, index in enumerate(shown):
        figure.add_scatter(
            x=names,
            y=_list(values[index]),
            customdata=hover,
            name=label(classes[index]),
            mode="lines+markers" if len(names) <= MANY else "lines",
            marker={"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6},
            line={"width": 1.3, "dash": ("solid", "dash", "dot", "dashdot")[place // SERIES % 4]},
            meta={"color": f"series-{place % SERIES}", "class": index},
            hovertemplate=f"<b>{label(classes[index])}</b><br>%{{customdata}}<br>{quantity} %{{y:.3f}}<extra></extra>",
        )
    figure.add_scatter(
        x=names,
        y=_list(class_mean(values)),
        customdata=hover,
        name="mean of the classes",
        mode="lines",
        line={"width": 4},
        meta={"color": "ink"},
        hovertemplate=f"<b>mean of the classes</b><br>%{{customdata}}<br>{quantity} %{{y:.3f}}<extra></extra>",
    )
    figure.update_layout(
        hovermode="closest",
        xaxis={"type": "category", "automargin": True, "tickangle": _angle(names)},
        yaxis={"title": {"text": quantity}, "zeroline": True, "automargin": True, "rangemode": "tozero"},
    )
    return figure


def dead(table: Deadness) -> go.Figure:
    """Stacked bars: units dead for every class, for some, for none.

    Args:
        table: from `tables.dead_table`.

    Returns:
        The figure.
    """
    figure = go.Figure(layout=LAYOUT)
    units = np.array(table.units)
    for counts, words, color in (
        (table.always, "dead for every class", "dead"),
        (table.sometimes, "dead for some classes", "half-dead"),
        (table.never, "active for every class", "alive"),
    ):
        figure.add_bar(
            x=short_names(table.layers),
            y=_list(np.array(counts) / units),
            customdata=[
                f"{layer}<br>{words}: {count} of {number} units"
                for layer, count, number in zip(table.layers, counts, table.units, strict=True)
            ],
            name=words,
            marker={"line": {"width": 0.5}},
            meta={"color": color},
            hovertemplate="%{customdata}<extra></extra>",
        )
    figure.update_layout(
        barmode="stack",
        bargap=0.18,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        margin={"t": 8},
        xaxis={"type": "category", "automargin": True, "tickangle": _angle(short_names(table.layers))},
        yaxis={"title": {"text": "share of the layer's units"}, "range": [0, 1], "tickformat": ".0%"},
    )
    return figure


def pruning(entries: Sequence[Pruned], *, live: bool) -> go.Figure:
    """Accuracy by layer after removing the most similar, the least similar, or random units.

    Args:
        entries: of one share, from `tables.pruning_table`.
        live: whether to draw the comparison among live units instead of that among all.

    Returns:
        The figure.
    """
    figure = go.Figure(layout=LAYOUT)
    names = short_names([entry.layer for entry in entries])
    step = -(-len(names) // MANY)
    for way, words, color, symbol, shift in WAYS:
        key = f"{way}_live" if live else way
        found = [(i, entry, entry.accuracy[key]) for i, entry in enumerate(entries) if key in entry.accuracy]
        figure.add_scatter(
            x=[i + shift for i, _, _ in found],
            y=[spread.mean for _, _, spread in found],
            error_y={
                "type": "data",
                "array": [spread.deviation for _, _, spread in found],
                "visible": any(spread.runs > 1 for _, _, spread in found),
                "thickness": 1.4,
                "width": 4,
            },
            customdata=[
                f"{entry.layer}, {entry.live} of {entry.units} units live<br>{words} removed: {spread.mean:.3f}"
                + (f" ± {spread.deviation:.3f} ({spread.runs} seeds)" if spread.runs > 1 else "")
                for _, entry, spread in found
            ],
            name=words,
            mode="markers",
            marker={"symbol": symbol, "size": 10 if len(names) <= MANY else 6},
            meta={"color": color},
            hovertemplate="%{customdata}<extra></extra>",
        )
    spreads = [spread for entry in entries for spread in entry.accuracy.values()]
    top = max([1.03, *(spread.mean + spread.deviation + 0.02 for spread in spreads)])
    baseline = entries[0].baseline
    if baseline is not None:
        figure.add_scatter(
            x=[-0.5, len(names) - 0.5],
            y=[baseline, baseline],
            mode="lines",
            name=f"whole network ({baseline:.3f})",
            line={"dash": "dash", "width": 1.4},
            meta={"color": "ink"},
            hovertemplate=f"whole network: {baseline:.3f}<extra></extra>",
        )
    figure.update_layout(
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        margin={"t": 8},
        xaxis={
            "tickvals": list(range(0, len(names), step)),
            "ticktext": names[::step],
            "range": [-0.5, len(names) - 0.5],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
            "tickangle": _angle(names),
        },
        yaxis={"title": {"text": "test accuracy"}, "range": [0, top], "tickformat": ".0%", "zeroline": False},
    )
    return figure


def label(text: str) -> str:
    """A user's text for plotly, which would read tags in it.

    Example:
        >>> label("<b>cat</b>")
        '&lt;b&gt;cat&lt;/b&gt;'
    """
    return escape(text, quote=False)


def _angle(names: Sequence[str]) -> int | None:
    """Upright labels where they fit, slanted where they do not; plotly's own choice changes with the window."""
    longest = max(map(len, names))
    return 0 if len(names) * longest <= 60 else -45 if len(names) <= 16 else -90


def _list(values: Float[np.ndarray, " n"]) -> list[float | None]:
    """JSON has no NaN: gaps are null."""
    return [None if np.isnan(value) else round(float(value), 6) for value in values]

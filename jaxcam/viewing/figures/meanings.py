"""The figure of concepts: what each does to a class's score, beside what random pictures do."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxcam.studies import ConceptTest
from jaxcam.studies.monte_carlo import LEVEL
from jaxcam.viewing.figures.style import LEAST, MOST, MUTED, RANDOM, Drawing, short_names, styled


@styled
def concepts(tests: Sequence[ConceptTest], *, title: str = "") -> Figure:
    """How the score of a class rises towards each concept, beside concepts that are random pictures.

    Args:
        tests: what `jc.studies.concepts` returned.
        title: a line above: which class.

    Returns:
        The figure: a panel for each layer, a row for each concept; gray dots are random concepts, a bar the concept,
        red where it raises the score and blue where it lowers it, pale where chance explains it (corrected p > 0.05).
        Beside it TCAV, p and how well the probes tell new pictures apart. Where no p could be small enough, a line
        below says so.

    Raises:
        ValueError: nothing to draw.

    Example:
        >>> null = np.array([-0.1, 0.2])
        >>> test = ConceptTest("stripes", "conv1", 1.0, 2.0, 0.9, 0.01, 0.02, 1e-9, np.ones(3), null, np.ones(2) / 2)
        >>> concepts([test]).get_axes()[0].get_title(loc="left")
        'conv1'
    """
    if not tests:
        raise ValueError("nothing to draw: no concepts")
    layers, names = (list(dict.fromkeys(part)) for part in zip(*((t.layer, t.concept) for t in tests), strict=True))
    height = 1.0 + len(layers) * (0.55 + 0.34 * len(names))
    figure = Drawing(figsize=(7.6, height), layout="constrained")
    panels = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
    rng = np.random.default_rng(0)
    for axes, layer, short in zip(panels, layers, short_names(layers), strict=True):
        axes.set_title(short)
        for test in (test for test in tests if test.layer == layer):
            place = names.index(test.concept)
            spread = place + rng.uniform(-0.25, 0.25, len(test.null))
            axes.plot(test.null, spread, "o", color=RANDOM, alpha=0.35, markersize=2, markeredgewidth=0)
            sure = test.corrected <= LEVEL
            axes.barh(place, test.rise, 0.5, color=MOST if test.rise > 0 else LEAST, alpha=0.9 if sure else 0.3)
            said = f"TCAV {test.score:.2f}   p {test.corrected:.3f}   probe {test.accuracy:.0%}"
            axes.text(1.01, place, said, transform=axes.get_yaxis_transform(), va="center", fontsize=7.5, color=MUTED)
        axes.axvline(0, color=MUTED, linewidth=0.7)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
    panels[-1].set_xlabel("how much the score rises on the way from random pictures to the concept's (first order)")
    able = tests[0].resolution
    if able is not None and not able.can_reject:
        figure.supxlabel(textwrap.fill(able.summary("random concepts"), 110), fontsize=7.5, color=MOST)
    if title:
        figure.suptitle(title, fontsize=9.5, fontweight="bold")
    return figure

"""The figure of a leak check: how much of the attribution lies in a region, and how much of the accuracy."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jaxcam.studies import RegionCheck
from jaxcam.viewing.figures.style import LEAST, MOST, MUTED, RANDOM, SERIES, Drawing, styled

COLORS = {"leaking": MOST, "clean": LEAST}
CASES = {"as they are": "accuracy", "removed": "removed", "moved": "moved"}


@styled
def leaks(checks: Mapping[str, RegionCheck], *, among: str = "") -> Figure:
    """What a region has of the attribution, beside its area, and what accuracy is without it.

    Args:
        checks: for each network what `jc.studies.region_check` found, or the two parts of `leak_check`.
        among: which outputs competed for the prediction, in words, such as "all 10 outputs".

    Returns:
        The figure: on the left a dot for each image and a bar for their mean, the area dashed; on the right shares of
        images classified rightly, and of those that follow the region's content to another class.

    Raises:
        ValueError: nothing to draw.

    Example:
        >>> check = RegionCheck(0.1, {"saliency": np.array([0.3, 0.5])}, {}, np.arange(2), 0.9, 0.4, 0.2, 0.7, 50)
        >>> [axes.get_title(loc="left") for axes in leaks({"leaking": check}).get_axes()]
        ['Share of attribution in the region', 'Images classified rightly']
    """
    if not checks or not next(iter(checks.values())).shares:
        raise ValueError("nothing to draw: no network, or no method")
    figure = Drawing(figsize=(9.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.2])
    methods = list(next(iter(checks.values())).shares)
    width = 0.8 / len(checks)
    for number, (name, check) in enumerate(checks.items()):
        color = COLORS.get(name, SERIES[number % len(SERIES)])
        shift = (number - (len(checks) - 1) / 2) * width
        for place, method in enumerate(methods):
            shares = check.shares[method][np.isfinite(check.shares[method])]
            if len(shares):
                left.bar(place + shift, shares.mean(), 0.9 * width, color=color, alpha=0.45)
                spread = np.linspace(-0.3, 0.3, len(shares)) * width if len(shares) > 1 else np.zeros(1)
                left.plot(place + shift + spread, shares, "o", color=color, markersize=2.5, markeredgewidth=0)
        cases = [getattr(check, field) for field in CASES.values()] + [check.followed]
        right.bar(np.arange(len(cases)) + shift, cases, 0.9 * width, color=color, label=name)
    area = next(iter(checks.values())).area
    left.axhline(area, color=RANDOM, linestyle=(0, (4, 3)), linewidth=0.9)
    left.set_xticks(range(len(methods)), methods)
    left.set_ylim(0, None)
    left.set_title("Share of attribution in the region")
    left.set_xlabel(f"dashed: the region's share of the area, {area:.1%}", color=MUTED)
    right.set_xticks(range(len(CASES) + 1), [*CASES, "follow the region"])
    right.set_ylim(0, 1)
    right.set_title("Images classified rightly")
    if among:
        right.set_xlabel(f"the largest among {among}", color=MUTED)
    right.legend(loc="upper right", ncols=len(checks))
    return figure

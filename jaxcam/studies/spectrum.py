"""Ratios of explained variance: computed here, or read from a paper's table, asked the same questions."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxcam.attribution.asking import check_count

ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Which share of the variance each principal component explains, the largest first.

    Attributes:
        ratios: the shares (r,), in any order when given, descending when read; each in [0, 1], their sum at most 1.

    Example:
        >>> spectrum = Spectrum(np.array([0.1, 0.6, 0.3]))
        >>> spectrum.ratios.tolist(), spectrum.count(0.85), round(spectrum.share(2), 3)
        ([0.6, 0.3, 0.1], 2, 0.9)
    """

    ratios: Float[np.ndarray, " r"]

    def __post_init__(self) -> None:
        values = np.asarray(self.ratios, np.float64)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all() or values.min() < 0:
            raise ValueError(f"ratios are a row of numbers from 0 to 1; got {self.ratios!r}".split("\n")[0])
        if values.sum() > 1 + 1e-3:  # tables are rounded
            raise ValueError(f"ratios of explained variance sum to 1 at most; these sum to {values.sum():.4f}")
        object.__setattr__(self, "ratios", np.sort(values)[::-1])

    @property
    def cumulated(self) -> Float[np.ndarray, " r"]:
        """The share that the first 1, 2, … r components explain together."""
        return np.cumsum(self.ratios)

    def share(self, components: int) -> float:
        """The share that the first so many components explain.

        Raises:
            ValueError: there are not so many.
        """
        count = check_count(components, "components", 1)
        if count > len(self.ratios):
            raise ValueError(f"there are {len(self.ratios)} components; got {count}")
        return float(self.cumulated[count - 1])

    def count(self, share: float) -> int:
        """How many components are needed, at least, for a share of the variance.

        Raises:
            ValueError: a share that is none, or that all of them together do not reach.
        """
        check_share(share)
        total = float(self.cumulated[-1])
        if share > total + 1e-3:
            raise ValueError(f"all {len(self.ratios)} ratios sum to {total:.4f}; a share of {share:g} is more")
        reached = self.cumulated >= min(share, total) - ROUNDING
        return int(np.argmax(reached)) + 1


def read_spectrum(text: str) -> Spectrum:
    """Reads a table of explained-variance ratios as papers and programs print it.

    Numbers apart by blanks, line ends, commas or semicolons, in brackets or not, in any order; a point is the decimal
    mark.

    Args:
        text: the table.

    Returns:
        The `Spectrum`.

    Raises:
        ValueError: something in it is no number, or no ratio.

    Example:
        >>> read_spectrum("[2.5e-01, 0.05\\n 0.7]").cumulated.round(2).tolist()
        [0.7, 0.95, 1.0]
    """
    words = text.replace(",", " ").replace(";", " ").replace("[", " ").replace("]", " ").split()
    if not words:
        raise ValueError("a table of ratios has at least one number; this text has none")
    numbers = []
    for word in words:
        try:
            numbers.append(float(word.replace("−", "-")))
        except ValueError:
            raise ValueError(f"{word!r} in the table of ratios is no number") from None
    return Spectrum(np.array(numbers))


def check_share(value: Any, name: str = "share") -> None:
    """Raises unless a value is a share, above 0 and at most 1."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise ValueError(f"{name} is above 0 and at most 1; got {value!r}")

"""Monte Carlo and permutation tests: the smallest p-value that so many random draws can give, and corrections for many.

Such a test has p = (1 + #{null ≥ statistic}) / (1 + draws), which is never below 1 / (1 + draws) (Phipson and Smyth,
2010), and a correction for many tests makes that larger. Where the smallest p is above the level, nothing can be
significant, whatever the data: "nothing was significant" is then no result, and the test has to say so.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from jaxcam.attribution.asking import check_count
from jaxcam.attribution.bricks import check_one_of
from jaxcam.studies.spectrum import check_share

CORRECTIONS = ("benjamini-hochberg", "holm", "none")
UNABLE = "No result can be significant"
LEVEL = 0.05
"""The level at which figures and reports call a test significant."""


@dataclasses.dataclass(frozen=True)
class Resolution:
    """What a test by random draws can tell apart at all; made by `resolution`.

    Attributes:
        draws: how many random draws the null has.
        tests: how many tests are corrected together.
        correction: how.
        level: the corrected p-value up to which a test is significant, in (0, 1).
        smallest: the smallest corrected p-value that these tests can have, in (0, 1].
        needed: the fewest draws with which one of these tests can be significant.
    """

    draws: int
    tests: int
    correction: str
    level: float
    smallest: float
    needed: int

    @property
    def can_reject(self) -> bool:
        """Whether any result can be significant."""
        return self.smallest <= self.level

    def summary(self, draws: str = "random draws", option: str = "") -> str:
        """A sentence: whether a result can be significant, and if not, with how many draws it could.

        Args:
            draws: what is drawn, in the plural.
            option: what a user writes before the number of draws, such as "draws=".

        Example:
            >>> text = resolution(20, 4, "holm").summary("random sets", "--sets ")
            >>> print(text.replace(": ", ":\\n"))
            No result can be significant at 5 %:
            with 20 random sets, the smallest p-value of 4 tests is 0.19 after correction (holm); --sets 79 or more can.
        """
        words = f"with {self.draws:,} {draws}, the smallest p-value"
        words += f" of {self.tests:,} tests" if self.tests > 1 else ""
        words += f" is {self.smallest:.2g}"
        if self.tests > 1 and self.correction != "none":
            words += f" after correction ({self.correction})"
        percent = f"{100 * self.level:g} %"
        if self.can_reject:
            return f"Results can be significant at {percent}: {words}."
        needed = f"{option}{self.needed}" if option else f"{self.needed:,}"
        return f"{UNABLE} at {percent}: {words}; {needed} or more can."

    def to_dict(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        return {**dataclasses.asdict(self), "can_reject": self.can_reject}


def resolution(
    draws: int, tests: int = 1, correction: str = "none", *, level: float = LEVEL, certain: int = 0
) -> Resolution:
    """What tests with p = (1 + #{null ≥ statistic}) / (1 + draws) can tell apart, corrected for there being several.

    The smallest corrected p is that of the case in which all tests have p = 1 / (1 + draws): 1 / (1 + draws) with
    "none" and "benjamini-hochberg", tests / (1 + draws) with "holm".

    Args:
        draws: how many random draws the null has, 1 or more.
        tests: how many tests are corrected together, 1 or more.
        correction: "benjamini-hochberg", "holm" or "none".
        level: of significance, in (0, 1).
        certain: how many of the tests need no draws, as their p is 0 whatever is drawn.

    Returns:
        A `Resolution`.

    Raises:
        TypeError: draws or tests are no whole numbers.
        ValueError: numbers below 1, more certain tests than there are, no such correction, an impossible level.

    Example:
        >>> found = resolution(20, 4, "holm")
        >>> round(found.smallest, 3), found.can_reject, found.needed
        (0.19, False, 79)

    Phipson and Smyth, "Permutation P-values should never be zero", 2010. When it misleads: that a test can reject does
    not mean that it easily does. With "benjamini-hochberg" the smallest p is reached only where all tests have it at
    once; one test alone needs as many draws as with "holm".
    """
    draws, tests = check_count(draws, "draws"), check_count(tests, "tests")
    check_one_of(correction, CORRECTIONS, "correction")
    check_share(level, "level")
    if not 0 <= certain <= tests:
        raise ValueError(f"certain is from 0 to {tests}, the number of tests; got {certain}")

    def smallest(count: int) -> float:
        if certain == tests:
            return 0.0
        pvalues = np.full(tests, 1 / (1 + count))
        pvalues[:certain] = 0
        return float(corrections(pvalues, correction)[certain:].min())

    factor = tests - certain if correction == "holm" else min(1, tests - certain)
    # Rounding may move the first number that can by one; a corrected p of 1 is never above it.
    needed = 1 if level == 1 else max(1, math.ceil(factor / level) - 2)
    while smallest(needed) > level:
        needed += 1
    return Resolution(draws, tests, correction, level, smallest(draws), needed)


def warn_unless_able(able: Resolution, draws: str, option: str) -> None:
    """Warns the caller of a study, before it begins, that its test cannot be significant.

    Args:
        able: of the test.
        draws: what is drawn, in the plural.
        option: the study's argument that says how many.
    """
    if not able.can_reject:
        warnings.warn(able.summary(draws, f"{option}="), RuntimeWarning, stacklevel=3)


def corrections(pvalues: Float[np.ndarray, " t"], correction: str) -> Float[np.ndarray, " t"]:
    """p-values corrected for there being many.

    Example:
        >>> corrections(np.array([0.01, 0.04, 0.03]), "holm").round(9).tolist()
        [0.03, 0.06, 0.06]
        >>> corrections(np.array([0.01, 0.04, 0.03]), "benjamini-hochberg").round(9).tolist()
        [0.03, 0.04, 0.04]
    """
    if correction == "none":
        return pvalues
    if correction == "benjamini-hochberg":
        return stats.false_discovery_control(pvalues)
    order = np.argsort(pvalues)
    stepped = np.maximum.accumulate(pvalues[order] * np.arange(len(pvalues), 0, -1)).clip(max=1)
    corrected = np.empty_like(pvalues)
    corrected[order] = stepped
    return corrected

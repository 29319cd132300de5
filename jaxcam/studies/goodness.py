"""Which law do a layer's values follow? The statistic as it was published, and the test it should have been."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float
from scipy import special

from jaxcam.attribution.asking import check_count, check_key
from jaxcam.attribution.bricks import check_one_of
from jaxcam.studies.drawing import generator_of
from jaxcam.studies.families import FAMILIES, Parameters, distances, fit, null_distances, possible
from jaxcam.studies.monte_carlo import (
    CORRECTIONS,
    Resolution,
    corrections,
    resolution,
    warn_unless_able,
)
from jaxcam.studies.spectrum import check_share

PUBLISHED = {"norm": special.ndtr, "logistic": special.expit}

PerSample = dict[str, Float[np.ndarray, " s"]]


@dataclasses.dataclass(frozen=True)
class Distributions:
    """How far samples are from normal, log-normal and logistic laws; made by `distributions`.

    Attributes:
        count: m, values of each sample.
        published: the paper's statistic by family, "norm" and "logistic" (samples,): large, which says little.
        statistic: the one-sample D by family (samples,), in [0, 1], small is a good fit; NaN where the law cannot be.
        d_sqrt_n: D·√m by family, which compares samples of different sizes.
        pvalue: by family (samples,); 0 where the law cannot be (a log-normal with values of 0 and less).
        adjusted: the same, corrected for all samples × families.
        parameters: by family the fitted ones, by scipy's names (samples,) each.
        null: by family the distances of samples that are of it (draws,), sorted.
        correction: which.
        resolution: the smallest corrected p that so many draws can give, against a level of 5 %.
    """

    count: int
    published: PerSample
    statistic: PerSample
    d_sqrt_n: PerSample
    pvalue: PerSample
    adjusted: PerSample
    parameters: dict[str, Parameters]
    null: dict[str, Float[np.ndarray, " d"]]
    correction: str
    resolution: Resolution

    def rejected(self, level: float = 0.05) -> dict[str, Bool[np.ndarray, " s"]]:
        """By family which samples are not of it, after the correction."""
        check_share(level, "level")
        return {family: values <= level for family, values in self.adjusted.items()}

    def critical(self, level: float = 0.05) -> dict[str, float]:
        """By family the D·√m that samples of it exceed with this probability."""
        check_share(level, "level")
        return {
            family: float(np.quantile(values, 1 - level) * np.sqrt(self.count)) for family, values in self.null.items()
        }


def distributions(
    values: Any, *, key: Any, draws: int = 9_999, correction: str = "benjamini-hochberg"
) -> Distributions:
    """Tests whether the values of a layer are normal, log-normal or logistic, honestly and as was published.

    D = max |Fₘ(x) − F̂(x)|, F̂ the law with the parameters of largest likelihood; p = (1 + #{D* ≥ D}) / (1 + draws) with
    D* the distances of samples drawn from the law, each from its own fit, since F̂ was fitted to the sample it is
    compared with. `published` is scipy's two-sample `ks_2samp(x, F(x))`, F with the sample's mean and its deviation
    over m − 1 as scale.

    Args:
        values: (samples, m), each row one sample, such as one image's channel means of a layer (`layer_values`).
        key: `jax.random.key(seed)`, of the null.
        draws: of the null; p is never below 1 / (draws + 1), which `resolution` sets against 5 %. Draws that cannot
            reject anything are warned of before the first is drawn: with "holm", fewer than 20 × samples × 3 − 1.
        correction: over samples × families: "benjamini-hochberg" (the share of false rejections), "holm" (the chance
            of any), or "none".

    Returns:
        A `Distributions`.

    Raises:
        TypeError: no array, or no key.
        ValueError: another shape, fewer than three values, a constant sample, NaN, no such correction.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> drawn = np.random.default_rng(0).lognormal(size=(2, 500))
        >>> found = distributions(drawn, key=jax.random.key(0), draws=199)
        >>> {family: rejected.tolist() for family, rejected in found.rejected().items()}
        {'norm': [True, True], 'lognorm': [False, False], 'logistic': [True, True]}

    Utkin and Nagorny, 2024; Lilliefors, "On the Kolmogorov–Smirnov test for normality with mean and variance unknown",
    1967. Differs from: the paper compares x with the array F(x) as if both were samples, takes F logistic where it
    says log-normal, and reads a large D as a good fit; `published` repeats that to the digit, and the rest does not.
    The log-normal has loc 0. Equal to `scipy.stats.goodness_of_fit(statistic="ks")`, whose null is drawn anew for each
    sample; one null serves all here. When it misleads: p-values are those of independent values, and neighbors in a
    map are not: too many samples are rejected. With thousands of values every law is rejected, for there are no exact
    ones; D says how far off it is. Few values reject nothing, which is no proof either.
    """
    rows = _checked(values)
    check_one_of(correction, CORRECTIONS, "correction")
    check_key(key)
    draws = check_count(draws, "draws")
    count = rows.shape[1]
    able = resolution(draws, len(FAMILIES) * len(rows), correction, certain=certain_tests(rows))
    warn_unless_able(able, "random draws", "draws")
    nulls = {
        law: null_distances(law, count, draws, generator_of(jax.random.fold_in(key, index)))
        for index, law in enumerate(("norm", "logistic"))
    }
    nulls["lognorm"] = nulls["norm"]
    statistic, pvalue, parameters = {}, {}, {}
    for family in FAMILIES:
        can = possible(family, rows)
        parameters[family] = {name: np.where(can, found, np.nan) for name, found in fit(family, rows).items()}
        statistic[family] = np.where(can, distances(family, rows, parameters[family]), np.nan)
        larger = draws - np.searchsorted(nulls[family], statistic[family], side="left")
        pvalue[family] = np.where(can, (1 + larger) / (1 + draws), 0.0)
    corrected = corrections(np.concatenate([pvalue[family] for family in FAMILIES]), correction)
    return Distributions(
        count=count,
        published=published_statistic(rows),
        statistic=statistic,
        d_sqrt_n={family: found * np.sqrt(count) for family, found in statistic.items()},
        pvalue=pvalue,
        adjusted=dict(zip(FAMILIES, np.split(corrected, len(FAMILIES)), strict=True)),
        parameters=parameters,
        null={family: nulls[family] for family in FAMILIES},
        correction=correction,
        resolution=able,
    )


def certain_tests(rows: Float[np.ndarray, "s m"]) -> int:
    """How many of the tests of some samples have p = 0 without a draw: a law cannot have such values.

    Example:
        >>> certain_tests(np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]]))
        1
    """
    return sum(int((~possible(family, rows)).sum()) for family in FAMILIES)


def published_statistic(values: Float[np.ndarray, "s m"]) -> PerSample:
    """The two-sample D between x and F(x), as the paper's tables have it.

    Example:
        >>> published_statistic(np.array([[10.0, 11.0, 12.0]]))["norm"].tolist()
        [1.0]
    """
    mean, deviation = values.mean(1, keepdims=True), values.std(1, ddof=1, keepdims=True)
    z = (values - mean) / deviation
    return {
        family: np.array([two_sample(np.sort(x), np.sort(f)) for x, f in zip(values, law(z), strict=True)])
        for family, law in PUBLISHED.items()
    }


def two_sample(a: Float[np.ndarray, " m"], b: Float[np.ndarray, " k"]) -> float:
    """Kolmogorov and Smirnov's D of two sorted samples: the largest difference of their distribution functions.

    Example:
        >>> two_sample(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 5.0]))
        0.5
    """
    both = np.concatenate([a, b])
    shares = [np.searchsorted(sample, both, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def _checked(values: Any) -> Float[np.ndarray, "s m"]:
    """Samples in float64.

    Raises:
        TypeError: no array.
        ValueError: another shape, too few values, NaN, or a constant sample.
    """
    if isinstance(values, dict):
        raise TypeError(f"values are one array; got one for each of {', '.join(map(str, values))}: choose one")
    if not hasattr(values, "shape") or not hasattr(values, "dtype"):
        raise TypeError(f"values are an array (samples, m); got {type(values).__name__}")
    shape = tuple(values.shape)
    if len(shape) != 2 or 0 in shape:
        hint = "; one sample needs an axis, values[None]" if len(shape) == 1 else ""
        raise ValueError(f"values are a non-empty array (samples, m); got shape {shape}{hint}")
    rows = np.asarray(values, np.float64)
    if shape[1] < 3:
        raise ValueError(f"a law of two parameters takes three values or more to test; got {shape[1]}")
    finite = np.isfinite(rows).all(1)
    if not finite.all():
        raise ValueError(f"sample {int(np.argmin(finite))} has NaN or infinite values")
    constant = np.ptp(rows, axis=1) == 0
    if constant.any():
        index = int(np.argmax(constant))
        raise ValueError(f"sample {index} is {rows[index, 0]:g} everywhere: it has no distribution; leave it out")
    return rows

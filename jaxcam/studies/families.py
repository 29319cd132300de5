"""Families of distributions, fitted to many samples at once, and the null of a distance whose parameters were fitted.

Each family is x = g(loc + scale · z) with z of one fixed law, so the distance of a sample from its own fit does not
depend on what loc and scale were: one null for a family and a sample size serves every sample.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float
from scipy import special

FAMILIES = ("norm", "lognorm", "logistic")
PARAMETERS = {"norm": ("loc", "scale"), "lognorm": ("s", "scale"), "logistic": ("loc", "scale")}
"""What scipy.stats calls the parameters that are fitted; the log-normal's loc is 0."""

BLOCK = 2**20
"""So many drawn values are in memory at once."""

Samples = Float[np.ndarray, "s m"]
Parameters = dict[str, Float[np.ndarray, " s"]]


def fit(family: str, values: Samples) -> Parameters:
    """Parameters of largest likelihood, for each sample.

    Args:
        family: of `FAMILIES`.
        values: (samples, m), none constant.

    Returns:
        By scipy's names, (samples,) each; NaN where a log-normal would have to explain a value that is not positive.

    Example:
        >>> found = fit("lognorm", np.exp([[1.0, 3.0]]))
        >>> found["s"].tolist(), np.log(found["scale"]).round(12).tolist()
        ([1.0], [2.0])
    """
    if family == "norm":
        return {"loc": values.mean(1), "scale": values.std(1)}
    if family == "lognorm":
        logs = np.log(values, where=values > 0, out=np.full(values.shape, np.nan))
        return {"s": logs.std(1), "scale": np.exp(logs.mean(1))}
    mean, deviation = values.mean(1), values.std(1)
    loc, scale = fit_logistic((values - mean[:, None]) / deviation[:, None])
    return {"loc": mean + deviation * loc, "scale": deviation * scale}


def fit_logistic(z: Samples) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """loc and scale of the logistic law of largest likelihood for samples of mean 0 and deviation 1.

    With a = 1/scale and b = loc/scale the log-likelihood m log a − Σ [u + 2 log(1 + e⁻ᵘ)], u = a z − b, is strictly
    concave: Newton's method, halving a step that does not climb, finds the one maximum.

    Example:
        >>> loc, scale = fit_logistic(np.array([[-1.0, 1.0]]))
        >>> bool(abs(loc[0]) < 1e-12), round(float(scale[0]), 6)
        (True, 0.647918)
    """
    count = z.shape[1]
    a, b = np.full(len(z), np.pi / np.sqrt(3)), np.zeros(len(z))
    active = np.arange(len(z))
    for step in range(100):
        part = z[active]
        u = a[active, None] * part - b[active, None]
        t = np.tanh(u / 2)
        q = (1 - t * t) / 2
        slope = count / a[active] - (t * part).sum(1), t.sum(1)
        aa, ab, bb = count / a[active] ** 2 + (q * part * part).sum(1), -(q * part).sum(1), q.sum(1)
        determinant = aa * bb - ab * ab
        da = (bb * slope[0] - ab * slope[1]) / determinant
        db = (aa * slope[1] - ab * slope[0]) / determinant
        share = np.ones(len(active))
        # Close to the maximum full steps are safe; where the first few did not get there, each step must climb.
        while step >= 6 or (a[active] + share * da <= 0).any():
            to_a, to_b = a[active] + share * da, b[active] + share * db
            fails = to_a <= 0
            safe = np.where(fails, a[active], to_a)
            fails |= _likelihood(part, safe, to_b) < _likelihood(part, a[active], b[active]) - 1e-9 * count
            if not fails.any() or share.min() < 1e-9:
                break
            share = np.where(fails, share / 2, share)
        a[active], b[active] = a[active] + share * da, b[active] + share * db
        moving = np.maximum(np.abs(da), np.abs(db)) > 1e-10 * np.maximum(1, a[active])
        active = active[moving]
        if not len(active):
            break
    return b / a, 1 / a


def fitted_values(family: str, values: Samples, parameters: Mapping[str, np.ndarray]) -> Samples:
    """The fitted distribution function at each value, F(x).

    Example:
        >>> fitted_values("norm", np.array([[0.0, 9.0]]), {"loc": np.zeros(1), "scale": np.ones(1)}).tolist()
        [[0.5, 1.0]]
    """
    first, second = (parameters[name][:, None] for name in PARAMETERS[family])
    if family == "norm":
        return special.ndtr((values - first) / second)
    if family == "logistic":
        return special.expit((values - first) / second)
    with np.errstate(divide="ignore", invalid="ignore"):
        return special.ndtr((np.log(values) - np.log(second)) / first)


def distances(family: str, values: Samples, parameters: Mapping[str, np.ndarray]) -> Float[np.ndarray, " s"]:
    """D = max |Fₘ − F|, Fₘ the share of a sample's values up to x: Kolmogorov and Smirnov's, of one sample.

    Example:
        >>> distances("norm", np.array([[0.0, 0.0]]), {"loc": np.zeros(1), "scale": np.ones(1)}).tolist()
        [0.5]
    """
    heights = fitted_values(family, np.sort(values, axis=1), parameters)
    count = values.shape[1]
    above = (np.arange(1, count + 1) / count - heights).max(1)
    below = (heights - np.arange(count) / count).max(1)
    return np.maximum(above, below)


def null_distances(family: str, count: int, draws: int, generator: np.random.Generator) -> Float[np.ndarray, " draws"]:
    """Distances of samples that are of the family, each from its own fit.

    Args:
        family: of `FAMILIES`; of the log-normal it is the normal's null, as D does not change under the logarithm.
        count: m, values of each sample.
        draws: how many samples.
        generator: it is drawn from sample by sample.

    Returns:
        (draws,), sorted.

    Example:
        >>> null = null_distances("norm", 20, 999, np.random.default_rng(0))
        >>> bool(0.18 < null[949] < 0.20)  # Lilliefors' table has 0.19
        True
    """
    law = "logistic" if family == "logistic" else "norm"
    found = np.empty(draws)
    for start in range(0, draws, max(1, BLOCK // count)):
        size = (min(max(1, BLOCK // count), draws - start), count)
        drawn = generator.standard_normal(size) if law == "norm" else _logistic(generator, size)
        found[start : start + len(drawn)] = distances(law, drawn, fit(law, drawn))
    return np.sort(found)


def possible(family: str, values: Samples) -> Bool[np.ndarray, " s"]:
    """Whether a family can have drawn a sample at all: of a log-normal no value is 0 or less.

    Example:
        >>> possible("lognorm", np.array([[1.0, 2.0], [0.0, 1.0]])).tolist()
        [True, False]
    """
    return np.all(values > 0, axis=1) if family == "lognorm" else np.ones(len(values), bool)


def _likelihood(z: Samples, a: Float[np.ndarray, " s"], b: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    u = np.abs(a[:, None] * z - b[:, None])
    return z.shape[1] * np.log(a) - (u + 2 * np.log1p(np.exp(-u))).sum(1)


def _logistic(generator: np.random.Generator, size: tuple[int, int]) -> Samples:
    """Standard logistic numbers; no draw is 0 or 1."""
    drawn = generator.random(size) + 2.0**-54
    return np.log(drawn / (1 - drawn + 2.0**-54))

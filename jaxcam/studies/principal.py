"""How many maps are there really? Principal components of the class activation maps of one class."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxcam.attribution.asking import check_count
from jaxcam.attribution.bricks import check_one_of
from jaxcam.studies.drawing import generator_of
from jaxcam.studies.monte_carlo import LEVEL, Resolution, resolution, warn_unless_able
from jaxcam.studies.spectrum import ROUNDING, Spectrum, check_share

NULLS = ("pixels", "shifts")
FOLDS = 10


@dataclasses.dataclass(frozen=True)
class Redundancy:
    """What maps have in common; made by `redundancy`.

    Attributes:
        maps: the maps that were analyzed (n, h, w), scaled if that was asked.
        spectrum: the explained-variance ratios of all min(n, h·w) components.
        components: k, how many are kept.
        mean: the mean map (h, w).
        axes: the components kept (k, h, w), orthonormal.
        scores: each map's coordinates along them (n, k).
        reconstruction: the maps from these coordinates alone (n, h, w).
        errors: root mean squared error of each reconstruction (n,), in units of the maps.
        lost: the share of the variance that is not reconstructed, 1 − the share of the k components.
        held_out: the share of the variance of maps that were left out which 1, 2, … components of the others explain.
        null: ratios of destroyed maps (permutations, r), None without a key.
        pvalues: of each component (r,), None without a key.
        significant: how many leading components are more than noise, None without a key; 0 says nothing where the test
            cannot reject.
        resolution: the smallest p that so many permutations can give, against the level; None without a key.
    """

    maps: Float[np.ndarray, "n h w"]
    spectrum: Spectrum
    components: int
    mean: Float[np.ndarray, "h w"]
    axes: Float[np.ndarray, "k h w"]
    scores: Float[np.ndarray, "n k"]
    reconstruction: Float[np.ndarray, "n h w"]
    errors: Float[np.ndarray, " n"]
    lost: float
    held_out: Float[np.ndarray, " m"]
    null: Float[np.ndarray, "p r"] | None
    pvalues: Float[np.ndarray, " r"] | None
    significant: int | None
    resolution: Resolution | None

    @property
    def ratios(self) -> Float[np.ndarray, " r"]:
        """The explained-variance ratios, descending."""
        return self.spectrum.ratios

    @property
    def cumulated(self) -> Float[np.ndarray, " r"]:
        """Their running sum."""
        return self.spectrum.cumulated


def redundancy(
    maps: Any,
    components: int | None = None,
    share: float | None = None,
    *,
    scaled: bool = False,
    key: Any = None,
    permutations: int = 200,
    null: str = "pixels",
    level: float = LEVEL,
) -> Redundancy:
    """How few numbers describe the maps of a class: principal components, and how many are more than noise.

    Each map is a row of h·w numbers; with λⱼ the variances along the principal axes vⱼ of the n rows, ratioⱼ = λⱼ / Σλ,
    scores = (x − x̄)·vⱼ and reconstruction = x̄ + Σ scoreⱼ vⱼ over the components kept (scikit-learn's PCA). Component j
    is more than noise where hardly any of the destroyed maps have a j-th ratio as large, p ≤ `level`, and so have all
    before it: p = (1 + #{null ≥ ratio}) / (1 + permutations).

    Args:
        maps: class activation maps of images of one class (n, h, w), or (n, h, w, 1); two or more.
        components: how many to keep; n maps have at most n − 1 directions about their mean.
        share: or the share of the variance to keep, above 0 and at most 1. Neither: every component.
        scaled: whether each map is first brought to [0, 1], (M − min) / (max − min), as maps are drawn.
        key: `jax.random.key(seed)` for the permutation test; None leaves it out.
        permutations: how many times the maps are destroyed. p is never below 1 / (1 + permutations): where that is
            above the level no component can be more than noise, which is warned of before the first is destroyed.
        null: how: "pixels" draws each pixel's values among the maps anew (parallel analysis); "shifts" shifts each map
            round and round by random steps, so that it keeps its own smoothness and loses only its place.
        level: the level of the test.

    Returns:
        A `Redundancy`, in float64.

    Raises:
        TypeError: no array, or a key that is none.
        ValueError: too few maps for the components, a constant map, maps that are all the same, NaN, both components
            and a share.

    Example:
        >>> import numpy as np
        >>> rows = np.outer([1.0, 2.0, 4.0], [0.0, 1.0, 2.0, 1.0]) + np.outer([1.0, -2.0, 1.0], [0.1, 0.0, 0.0, 0.1])
        >>> found = redundancy(rows.reshape(3, 2, 2), share=0.9)
        >>> found.components, found.reconstruction.shape, bool(found.lost < 0.02)
        (1, (3, 2, 2), True)

    Utkin and Nagorny, 2024 (principal components of maps); Horn, "A rationale and test for the number of factors in
    factor analysis", 1965; Buja and Eyuboglu, 1992 (its permutation form). Differs from: the paper keeps 36 components
    and reads the ratios; the test and `held_out` are ours, and maps are raw unless `scaled`, as the paper's code has
    them. When it misleads: neighboring pixels of a smooth map are correlated whatever it shows, so any smooth maps beat
    "pixels"; a strong first component lowers the ratios of the others, which the test then finds too rarely; with as
    many components as maps every map is reconstructed, and `held_out` says what that is worth.
    """
    values = _checked(maps)
    check_kept(components, share, len(values))
    if scaled:
        low, high = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
        values = (values - low) / (high - low)
    n, h, w = values.shape
    rows = values.reshape(n, h * w)
    _check_varies(rows)
    check_one_of(null, NULLS, "null")
    check_share(level, "level")
    from sklearn.decomposition import PCA  # a second that only those pay who analyze

    pca = PCA(svd_solver="full").fit(rows)
    spectrum = Spectrum(pca.explained_variance_ratio_)
    kept = _kept(components, share, spectrum, rows)
    able = None
    if key is not None:
        able = resolution(check_count(permutations, "permutations"), level=level)
        warn_unless_able(able, "permutations", "permutations")
    scores = pca.transform(rows)[:, :kept]
    axes = pca.components_[:kept]
    rebuilt = pca.mean_ + scores @ axes
    drawn = None if key is None else _null(values, key, permutations, null)
    pvalues = None if drawn is None else (1 + (drawn >= spectrum.ratios - ROUNDING).sum(0)) / (1 + len(drawn))
    return Redundancy(
        maps=values,
        spectrum=spectrum,
        components=kept,
        mean=pca.mean_.reshape(h, w),
        axes=axes.reshape(kept, h, w),
        scores=scores,
        reconstruction=rebuilt.reshape(n, h, w),
        errors=np.sqrt(np.square(rows - rebuilt).mean(1)),
        lost=max(0.0, 1.0 - spectrum.share(kept)),
        held_out=held_out(rows),
        null=drawn,
        pvalues=pvalues,
        significant=None if pvalues is None else int(np.argmin(np.append(pvalues, np.inf) <= level)),
        resolution=able,
    )


def variance_ratios(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " r"]:
    """Explained-variance ratios, descending, by the smaller of the two Gram matrices.

    Example:
        >>> variance_ratios(np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).round(3).tolist()
        [0.9, 0.1]
    """
    centered = rows - rows.mean(0)
    gram = centered @ centered.T if len(rows) < rows.shape[1] else centered.T @ centered
    values = np.linalg.eigvalsh(gram)[::-1].clip(0)
    return values / values.sum()


def held_out(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " m"]:
    """The share of the variance of rows left out that 1, 2, … components of the other rows explain.

    Every tenth row is left out at once (every row once; one by one where there are ten or fewer). Squared distances
    are from the others' mean.

    Example:
        >>> held_out(np.outer(np.arange(5.0), [1.0, 2.0])).round(6).tolist()
        [1.0, 1.0]
    """
    n, d = rows.shape
    folds = min(n, FOLDS)
    most = min(n - -(-n // folds) - 1, d)
    if most < 1:
        return np.zeros(0)
    explained, total = np.zeros(most), 0.0
    for fold in range(folds):
        out = np.arange(n) % folds == fold
        mean = rows[~out].mean(0)
        axes = np.linalg.svd(rows[~out] - mean, full_matrices=False)[2][:most]
        rest = rows[out] - mean
        explained += np.square(rest @ axes.T).sum(0)
        total += float(np.square(rest).sum())
    return np.cumsum(explained) / total if total else np.ones(most)


def _null(values: Float[np.ndarray, "n h w"], key: Any, permutations: int, null: str) -> Float[np.ndarray, "p r"]:
    generator = generator_of(key)
    n, h, w = values.shape
    rows = values.reshape(n, h * w)
    found = np.empty((permutations, min(rows.shape)))
    for index in range(permutations):
        if null == "pixels":
            destroyed = generator.permuted(rows, axis=0)
        else:
            down, right = generator.integers(h, size=(n, 1, 1)), generator.integers(w, size=(n, 1, 1))
            y, x = (np.arange(h)[:, None] + down) % h, (np.arange(w) + right) % w
            destroyed = values[np.arange(n)[:, None, None], y, x].reshape(rows.shape)
        found[index] = variance_ratios(destroyed)
    return found


def check_kept(components: int | None, share: float | None, maps: int) -> None:
    """Raises unless so many maps can have what is asked to be kept of them; nothing has to be computed yet."""
    if maps < 2:
        raise ValueError("one map has nothing in common with others; give two or more of one class")
    if components is not None and share is not None:
        raise ValueError("give components or a share of the variance, not both")
    if share is not None:
        check_share(share)
    if components is not None and check_count(components, "components") > maps - 1:
        raise ValueError(
            f"{maps} maps have at most {maps - 1} components; {components} need {components + 1} maps or more"
        )


def _kept(components: int | None, share: float | None, spectrum: Spectrum, rows: Float[np.ndarray, "n d"]) -> int:
    n, d = rows.shape
    most = min(n - 1, d)
    if share is not None:
        return min(spectrum.count(share), most)
    if components is not None and components > d:
        raise ValueError(f"maps of {d} places have at most {d} components; {components} are asked")
    return most if components is None else int(components)


def _checked(maps: Any) -> Float[np.ndarray, "n h w"]:
    """Maps as (n, h, w) in float64.

    Raises:
        TypeError: no array.
        ValueError: another shape, fewer than two, NaN, or a constant one.
    """
    if isinstance(maps, dict):
        raise TypeError(f"maps are one array; got one for each of {', '.join(map(str, maps))}: choose one")
    if not hasattr(maps, "shape") or not hasattr(maps, "dtype"):
        raise TypeError(f"maps are an array (n, h, w); got {type(maps).__name__}")
    shape = tuple(maps.shape)
    if len(shape) == 4 and shape[-1] == 1:
        maps, shape = maps[..., 0], shape[:3]
    if len(shape) != 3 or 0 in shape:
        hint = "; sum over the channels first" if len(shape) == 4 else ""
        raise ValueError(f"maps are a non-empty array (n, h, w); got shape {shape}{hint}")
    values = np.asarray(maps, np.float64)
    finite = np.isfinite(values).all((1, 2))
    if not finite.all():
        raise ValueError(f"map {int(np.argmin(finite))} has NaN or infinite values")
    constant = values.min((1, 2)) == values.max((1, 2))
    if constant.any():
        index = int(np.argmax(constant))
        raise ValueError(f"map {index} is {values[index, 0, 0]:g} everywhere: it shows nothing; leave it out")
    return values


def _check_varies(rows: Float[np.ndarray, "n d"]) -> None:
    """Raises where all maps are the same."""
    if np.ptp(rows, axis=0).max() <= 1e-12 * np.abs(rows).max():
        raise ValueError(f"all {len(rows)} maps are the same: there is no variance to explain")

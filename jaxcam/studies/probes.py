"""Does a concept matter to a class? Linear probes in a layer, and what the class's score does along them (TCAV)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import stats

from jaxcam.attribution.asking import Question, ask, check_count, check_images, check_key
from jaxcam.attribution.targets import Target, score
from jaxcam.program.exposure import expose
from jaxcam.program.transform import tap
from jaxcam.studies.answers import batches
from jaxcam.studies.monte_carlo import Resolution, corrections, resolution, warn_unless_able
from jaxcam.studies.probing import Products

FEWEST, LARGEST = 10, 50
"""Pictures of a concept: at least so many, and no more are used unless asked for."""


@dataclasses.dataclass(frozen=True)
class ConceptTest:
    """What a concept means to a class in one layer; made by `concepts`.

    Attributes:
        concept: its name.
        layer: where.
        score: TCAV: the share of the class's images whose score rises towards the concept, mean over the counterparts.
        rise: how much the score rises from random pictures to the concept's along the probe, to first order, in units
            of the score; mean over images and counterparts.
        accuracy: how well probes tell held-back pictures apart, 0.5 by chance; near that a concept means nothing here.
        pvalue: of the rise, two-sided, against concepts of random pictures.
        corrected: the same, by Holm, for all concepts and layers asked about at once.
        published: of the original test: Welch's t of the scores against those of random concepts, times the number of
            tests.
        scores: one for each counterpart, (r,).
        null: rises of random concepts, (j,).
        null_scores: scores of random concepts, (j,).
        resolution: the smallest corrected p that so many random concepts can give, against a level of 5 %; None where
            nobody said.
    """

    concept: str
    layer: str
    score: float
    rise: float
    accuracy: float
    pvalue: float
    corrected: float
    published: float
    scores: Float[np.ndarray, " r"]
    null: Float[np.ndarray, " j"]
    null_scores: Float[np.ndarray, " j"]
    resolution: Resolution | None = None


def concepts(
    model: Any,
    x: Array | np.ndarray,
    target: Target,
    examples: Mapping[str, Array | np.ndarray],
    others: Array | np.ndarray,
    *,
    layers: str | Sequence[str],
    key: Any,
    counterparts: int = 10,
    random_concepts: int = 200,
    size: int | None = None,
    regularization: float = 0.01,
    batch: int = 32,
) -> tuple[ConceptTest, ...]:
    """Whether concepts matter to a class: the slope of its score towards pictures of each, tested against chance.

    For a concept C and a random set N, v is the unit normal of a logistic regression on the activations a of a layer,
    min (1/m) Σ log(1 + e^(−y(w·a + b))) + λ/2 ‖w‖² with activations scaled to a mean square of 1. S(x) = ∇ₐs(x)·v is
    how the score rises towards the concept. Of many N: TCAV is the mean share of images with S > 0; the rise T is the
    mean of S(x) · (ā_C − ā_N)·v, of held-back pictures: how much the score rises, to first order, on the way from
    others to the concept. T of concepts that are random pictures themselves is what T is by chance, and
    p = (1 + #{|Tⱼ| ≥ |T|}) / (1 + j).

    Args:
        model: any callable `x -> outputs`.
        x: images of the class, (n, h, w, c).
        target: the class, or whatever `saliency` takes.
        examples: pictures of each concept by its name, (m, h, w, c), at least ten each.
        others: random pictures, (p, h, w, c), at least twice as many as are used of a concept; of the kind the network
            sees, and none of them in x.
        layers: one or several, as `layers` lists them.
        key: of all that is drawn.
        counterparts: r, how many random sets N each concept meets.
        random_concepts: j. The smallest corrected p is layers × concepts / (1 + j): where it is above 5 % nothing can
            be significant, which is warned of before anything is computed.
        size: how many pictures of each concept are used; None for as many as all have, up to 50.
        regularization: λ, above 0.
        batch: images at once.

    Returns:
        One `ConceptTest` for each layer and concept, in the order given.

    Raises:
        TypeError: images or key of a wrong kind.
        ValueError: fewer than ten pictures of a concept, too few others, no such layer, numbers that make no sense.

    Example:
        >>> net = lambda x: jax.nn.relu(x.mean((1, 2)) @ jnp.eye(3)) @ jnp.array([[1.0], [0.0], [0.0]])  # red
        >>> rng = np.random.default_rng(0)
        >>> x, others = (rng.random((n, 2, 2, 3), np.float32) for n in (10, 60))
        >>> red = others[:20] * 0.5 + np.array([0.5, 0, 0], np.float32)
        >>> found, = concepts(net, x, 0, {"red": red}, others, layers="dense_0", key=jax.random.key(0))
        >>> found.score, found.corrected < 0.05
        (1.0, True)

    Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept Activation Vectors",
    2018. Differs from: the original compares scores of runs that share their concept pictures, as if the runs were
    independent, and calls much significant (`published`); here chance has concepts of its own. When it misleads: what
    differs is the set of pictures and not the idea: a formula's stripes also differ from photographs in being sharp
    and flat. Compare with another concept of the same make, dots.
    """
    check_key(key)
    sets = _checked(x, examples, others)
    smallest = min(len(values) for values in sets.values())
    size = min(smallest, LARGEST, len(others) // 2) if size is None else size
    _check_numbers(size, smallest, len(others), counterparts, random_concepts, regularization)
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    able = resolution(random_concepts, max(1, len(names) * len(sets)), "holm")
    warn_unless_able(able, "random concepts", "random_concepts")
    pictures = np.concatenate([np.asarray(others), *(_some(v, size, key) for v in sets.values())])
    activations = _of_layers(_activations, model, pictures, None, names, batch)
    gradients = _of_layers(_gradients, model, np.asarray(x), target, names, batch)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key) if key.ndim == 0 else key).tolist())
    drawn = [rng.permutation(len(others))[: 2 * size] for _ in range(random_concepts)]
    rows = []
    for layer in names:
        products = Products.of(activations[layer], gradients[layer])
        chance = [
            products.asked(order[:size], _sets(rng, len(others), size, counterparts, order[:size]), regularization)
            for order in drawn
        ]
        null, null_scores = (np.array(values) for values in zip(*((c.rise, c.scores[0]) for c in chance), strict=True))
        for number, name in enumerate(sets):
            own = len(others) + number * size + np.arange(size)
            found = products.asked(own, _sets(rng, len(others), size, counterparts), regularization)
            p = (1 + (np.abs(null) >= abs(found.rise)).sum()) / (1 + len(null))
            row = ConceptTest(
                concept=name,
                layer=layer,
                score=float(found.scores.mean()),
                rise=found.rise,
                accuracy=found.accuracy,
                pvalue=float(p),
                corrected=float(p),
                published=_welch(found.scores, null_scores),
                scores=found.scores,
                null=null,
                null_scores=null_scores,
                resolution=able,
            )
            rows.append(row)
    corrected = corrections(np.array([row.pvalue for row in rows]), "holm")
    return tuple(
        dataclasses.replace(row, corrected=float(p), published=min(1.0, row.published * len(rows)))
        for row, p in zip(rows, corrected, strict=True)
    )


def _welch(scores: np.ndarray, null: np.ndarray) -> float:
    """Welch's two-sided t-test; where nothing varies, whether the two are the same."""
    if np.ptp(scores) == 0 and np.ptp(null) == 0:
        return float(scores[0] == null[0])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of scores that are all the same
        return float(stats.ttest_ind(scores, null, equal_var=False).pvalue)


def _sets(rng: np.random.Generator, count: int, size: int, sets: int, without: Any = ()) -> np.ndarray:
    """Random sets of pictures (sets, size), none with those of `without` in it."""
    left = np.setdiff1d(np.arange(count), without)
    return np.stack([rng.permutation(left)[:size] for _ in range(sets)])


def _some(images: np.ndarray, size: int, key: Any) -> np.ndarray:
    return images[np.sort(np.asarray(jax.random.permutation(key, len(images)))[:size])]


def _of_layers(
    inner: Any, model: Any, images: np.ndarray, target: Target, layers: tuple[str, ...], batch: int
) -> dict[str, np.ndarray]:
    """What an inner function says of each layer, flattened, (n, d)."""
    found: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    per_image = isinstance(target, Sequence | np.ndarray | jax.Array) and np.ndim(target) == 1
    targets = [part for part, _ in batches(np.asarray(target), batch)] if per_image else None
    for number, (part, count) in enumerate(batches(images, batch)):
        said = ask(inner, model, jnp.asarray(part), targets[number] if targets else target, layers=layers)
        for layer in layers:
            found[layer].append(np.asarray(said[layer])[:count].reshape(count, -1))
    return {layer: np.concatenate(parts) for layer, parts in found.items()}


def _activations(question: Question, x: Array, layers: tuple[str, ...]) -> dict[str, Array]:
    return tap(question.model, list(layers))(x)


def _gradients(question: Question, x: Array, layers: tuple[str, ...]) -> dict[str, Array]:
    exposed = expose(question.model, layers)
    return jax.grad(lambda d: jnp.sum(score(exposed(x, d)[0], question.target)))(exposed.zeros(x))


def _checked(x: Any, examples: Mapping[str, Any], others: Any) -> dict[str, np.ndarray]:
    if not examples:
        raise ValueError("no concepts to ask about; give pictures of each by its name")
    for images in (x, others, *examples.values()):
        check_images(images)
        if images.shape[1:] != x.shape[1:]:
            wanted, got = ("×".join(map(str, a.shape[1:])) for a in (x, images))
            raise ValueError(f"pictures of concepts are like the images, {wanted}; got {got}")
    for name, images in examples.items():
        if len(images) < FEWEST:
            raise ValueError(f"the concept {name!r} has {len(images)} pictures; at least {FEWEST} are needed")
    return {name: np.asarray(images) for name, images in examples.items()}


def _check_numbers(
    size: int, smallest: int, others: int, counterparts: int, random_concepts: int, regularization: float
) -> None:
    if others < 2 * FEWEST:
        raise ValueError(f"{others} random pictures are too few; at least {2 * FEWEST} are needed")
    if not FEWEST <= size <= smallest:
        raise ValueError(f"size is from {FEWEST} to {smallest}, the pictures of the smallest concept; got {size}")
    if others < 2 * size:
        raise ValueError(f"{size} pictures of a concept need {2 * size} random ones; got {others}")
    for name, number in {"counterparts": counterparts, "random_concepts": random_concepts}.items():
        check_count(number, name, 2)
    if not regularization > 0:
        raise ValueError(f"regularization is above 0; got {regularization}")

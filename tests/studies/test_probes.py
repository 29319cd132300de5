"""Concepts: probes as scikit-learn fits them, slopes as JAX differentiates them, and a class that was given stripes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial
from planted_nets import fit, forward, noisy_digits, untrained
from sklearn.linear_model import LogisticRegression

from jaxcam.program.exposure import above
from jaxcam.studies import concept_images, concepts, probes
from jaxcam.studies.probes import _gradients, _of_layers
from jaxcam.studies.probing import HELD, Products, fitted

KEY = jax.random.key(0)


def linear(weights):
    """A layer that is the image itself, flattened, and a linear score on it."""
    return Partial(
        forward_linear, {"dense0": jnp.eye(len(weights)), "dense1": jnp.asarray(weights, jnp.float32)[:, None]}
    )


def forward_linear(p, x):
    return (x.reshape(len(x), -1) @ p["dense0"]) @ p["dense1"]


@pytest.mark.slow
@pytest.mark.optimized
def test_stripes_matter_to_a_class_of_striped_images_and_random_pictures_do_not():
    digits, _ = noisy_digits("train", 600)
    stripes = concept_images("stripes", 700, 12, key=jax.random.key(1), channels=1)
    striped = np.arange(600) % 2
    model = fit(np.where(striped[:, None, None, None], 0.5 * digits + 0.5 * stripes[:600], digits), striped)
    others, _ = noisy_digits("test", 300)
    x = 0.5 * others[:40] + 0.5 * stripes[600:640]
    examples = {"stripes": stripes[650:], "random": others[40:90]}
    found = concepts(model, x, 1, examples, others[90:], layers=("conv0", "conv1"), key=KEY, random_concepts=99)
    rows = {(row.concept, row.layer): row for row in found}
    assert list(rows) == [(c, layer) for layer in ("conv0", "conv1") for c in examples]
    for layer in ("conv0", "conv1"):
        assert rows["stripes", layer].corrected < 0.05
        assert rows["stripes", layer].rise > 0
        assert rows["stripes", layer].score > 0.9
        assert rows["random", layer].corrected > 0.05
        assert rows["stripes", layer].accuracy > 0.9 > 0.75 > rows["random", layer].accuracy


def test_probes_by_inner_products_are_those_of_scikit_learn_on_the_activations():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 40, 60))
    rows[:, :20] += 0.3
    signs = np.repeat([1.0, -1.0], 20)
    weights, offsets = fitted(rows @ rows.transpose(0, 2, 1), signs, 0.05)
    for a, w, b in zip(rows, weights, offsets, strict=True):
        theirs = LogisticRegression(C=1 / (0.05 * 40), tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
            a, signs
        )
        np.testing.assert_allclose(w @ a, theirs.coef_[0], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(b, theirs.intercept_[0], rtol=1e-6, atol=1e-9)


def test_all_that_is_said_of_a_probe_is_what_its_normal_says_written_out():
    rng = np.random.default_rng(1)
    activations, gradients = rng.normal(size=(50, 30)) * 3, rng.normal(size=(7, 30))
    activations[:15, 0] += 4
    own, against = np.arange(15), np.stack([rng.permutation(np.arange(15, 50))[:15] for _ in range(4)])
    found = Products.of(activations, gradients).asked(own, against, 0.02)
    rows = (activations - activations.mean(0)) / np.sqrt(((activations - activations.mean(0)) ** 2).sum(1).mean())
    scores, rises, rights = [], [], []
    held = np.arange(15) % HELD == HELD - 1
    for others in against:
        known = np.concatenate([rows[own[~held]], rows[others[~held]]])
        signs = np.repeat([1, -1], len(known) // 2)
        probe = LogisticRegression(C=1 / (0.02 * len(known)), tol=1e-12, solver="newton-cholesky").fit(known, signs)
        v = probe.coef_[0] / np.linalg.norm(probe.coef_)
        slopes = gradients @ v
        way = activations[own[held]].mean(0) @ v - activations[others[held]].mean(0) @ v
        scores.append((slopes > 0).mean())
        rises.append(slopes.mean() * way)
        rights += [probe.predict(rows[own[held]]) == 1, probe.predict(rows[others[held]]) == -1]
    np.testing.assert_allclose(found.scores, scores)
    np.testing.assert_allclose(found.rise, np.mean(rises), rtol=1e-5)
    assert found.accuracy == pytest.approx(np.mean(rights))


def test_slopes_are_directional_derivatives_of_the_network_above_the_layer():
    model = Partial(forward, untrained(8, 1, 3, width=4))
    x = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
    gradients = _of_layers(_gradients, model, x, np.array([2, 0, 1]), ("conv1",), 2)
    for layer in ("conv1",):
        a, rest = above(model, jnp.asarray(x), layer)
        v = jnp.asarray(np.random.default_rng(1).normal(size=a.shape[1:]), jnp.float32)
        _, slopes = jax.jvp(rest, (a,), (jnp.broadcast_to(v, a.shape),))
        expected = slopes[np.arange(3), [2, 0, 1]]
        np.testing.assert_allclose(gradients[layer] @ v.ravel(), expected, rtol=1e-4, atol=1e-6)


def test_on_a_linear_model_the_score_rises_by_what_the_means_differ_along_the_weights():
    rng = np.random.default_rng(0)
    others = rng.random((80, 3, 3, 1), np.float32)
    brighter = others[:20] + np.float32(0.5)
    options = {"layers": "dense0", "key": KEY, "random_concepts": 39}
    (up,) = concepts(linear(np.ones(9)), others[:10], 0, {"bright": brighter}, others[20:], **options)
    (down,) = concepts(linear(-np.ones(9)), others[:10], 0, {"bright": brighter}, others[20:], **options)
    assert up.score == 1
    assert down.score == 0
    assert up.rise == pytest.approx(9 * 0.5, rel=0.2)
    assert down.rise == pytest.approx(-up.rise)
    assert up.pvalue == down.pvalue == 1 / 40


@pytest.mark.slow
@pytest.mark.optimized
def test_p_values_of_random_concepts_are_uniform_and_those_of_the_original_test_are_not():
    rng = np.random.default_rng(0)
    others = rng.random((400, 4, 4, 1), np.float32)
    model = linear(rng.normal(size=16))
    options = {"layers": "dense0", "key": KEY, "random_concepts": 99, "size": 15}
    examples = {str(number): rng.random((15, 4, 4, 1), np.float32) for number in range(200)}
    found = concepts(model, others[:10], 0, examples, others, **options)
    pvalues = np.array([row.pvalue for row in found])
    published = np.array([row.published / len(found) for row in found])
    assert np.quantile(pvalues, [0.05, 0.25, 0.5, 0.75]) == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.12)
    assert (pvalues < 0.05).mean() < 0.1
    assert (published < 0.05).mean() > 0.2


def test_the_same_key_draws_the_same_and_batches_do_not_matter():
    rng = np.random.default_rng(0)
    x, others, own = (rng.random((n, 3, 3, 1), np.float32) for n in (5, 30, 12))
    model = linear(rng.normal(size=9))
    options = {"layers": "dense0", "key": KEY, "random_concepts": 9}
    one, other = (concepts(model, x, 0, {"c": own}, others, batch=batch, **options)[0] for batch in (2, 32))
    assert one.pvalue == other.pvalue
    np.testing.assert_allclose(one.rise, other.rise, rtol=1e-5)


def test_concepts_that_ship_as_code_are_what_they_are_called():
    for kind in ("stripes", "dots"):
        pictures = concept_images(kind, 6, 24, key=KEY)
        assert pictures.dtype == np.float32
        assert 0 <= pictures.min() < pictures.max() <= 1
        assert (np.ptp(pictures.mean(-1), axis=(1, 2)) > 0.2).all()
        assert len(np.unique(pictures, axis=0)) == 6
        np.testing.assert_array_equal(pictures, concept_images(kind, 6, 24, key=KEY))
    red, green, blue = concept_images("red", 4, 8, key=KEY).mean((0, 1, 2))
    assert red > 2 * max(green, blue)
    stripes = concept_images("stripes", 30, 24, key=KEY, channels=1)[..., 0]
    spectra = np.abs(np.fft.fft2(stripes - stripes.mean((1, 2), keepdims=True))) ** 2
    spectra = np.sort(spectra.reshape(30, -1))
    dots = concept_images("dots", 30, 24, key=KEY, channels=1)[..., 0]
    others = np.sort(np.abs(np.fft.fft2(dots - dots.mean((1, 2), keepdims=True))).reshape(30, -1) ** 2)
    share = lambda s: (s[:, -2:].sum(1) / s.sum(1)).mean()  # stripes are one wave, dots are two
    assert share(spectra) > 1.5 * share(others)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"examples": {}}, "no concepts to ask about"),
        ({"examples": {"few": np.ones((9, 3, 3, 1), np.float32)}}, "the concept 'few' has 9 pictures; at least 10"),
        ({"examples": {"large": np.ones((10, 4, 3, 1), np.float32)}}, "like the images, 3×3×1; got 4×3×1"),
        ({"others": np.ones((19, 3, 3, 1), np.float32)}, "19 random pictures are too few; at least 20"),
        ({"size": 11}, "size is from 10 to 10"),
        ({"counterparts": 1}, "counterparts is a whole number from 2 up"),
        ({"regularization": 0.0}, "regularization is above 0"),
        ({"layers": "conv9"}, "conv9"),
        ({"key": 3}, "key=jax.random.key(seed)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(change, words):
    ones = np.ones((10, 3, 3, 1), np.float32)
    given = {
        "examples": {"c": ones},
        "others": np.ones((20, 3, 3, 1), np.float32),
        "layers": "dense0",
        "key": KEY,
    } | change
    examples, others = given.pop("examples"), given.pop("others")
    with pytest.raises((ValueError, TypeError)) as refused:
        concepts(linear(np.ones(9)), ones, 0, examples, others, **given)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("strips", 5, 8), "no concept 'strips'; did you mean 'stripes'?"),
        (("stripes", 0, 8), "at least 1 picture"),
    ],
)
def test_concepts_that_cannot_be_drawn_are_refused(given, words):
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        concept_images(*given, key=KEY)
    with pytest.raises(ValueError, match="grey pictures are never red"):
        concept_images("red", 5, 8, key=KEY, channels=1)


def test_scores_that_never_differ_are_the_same_number_or_another():
    one, two = np.ones(3), np.full(4, 2.0)
    assert probes._welch(one, np.ones(4)) == 1
    assert probes._welch(one, two) == 0
    # Where but one of them varies there is a test.
    varying = np.array([0.0, 1.0, 2.5])
    expected = scipy.stats.ttest_ind(varying, two, equal_var=False).pvalue
    np.testing.assert_allclose(probes._welch(varying, two), expected, rtol=1e-12)
    np.testing.assert_allclose(probes._welch(two, varying), expected, rtol=1e-12)
    assert 0 < probes._welch(np.array([0.0, 1.0]), np.array([5.0, 5.0])) < 1

"""Completeness, infidelity, max-sensitivity, sensitivity-n: exact on linear models, and against slow twins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quality_nets import images, linear_net, lit, small_net

import jaxcam as jc

KEY = jax.random.key(7)


def test_input_x_gradient_is_complete_on_a_linear_model():
    model, x = linear_net(), images()
    found = jc.quality.completeness(model, x, jc.input_x_gradient(model, x, 2), 2)
    assert_allclose(found.total, found.difference, rtol=1e-4)
    assert_allclose(found.difference, model(x)[:, 2], rtol=1e-5)
    assert jnp.all(found.relative < 1e-4)


def test_the_gap_is_what_the_map_has_too_much():
    maps = jnp.array([[[1.0, 2.0]], [[0.0, 0.0]]])
    x = jnp.ones((2, 1, 2, 1))
    found = jc.quality.completeness(lit, x, maps)
    assert_array_equal(found.total, [3, 0])
    assert_array_equal(found.gap, [1, -2])
    assert_array_equal(found.relative, [0.5, 1])


def test_the_gap_is_against_the_baseline_of_the_map():
    x, maps = 3 * jnp.ones((1, 1, 2, 1)), jnp.array([[[2.0, 2.0]]])
    assert_array_equal(jc.quality.completeness(lit, x, maps, baseline=1.0).gap, [0])
    biased = lambda x: lit(x) + 10
    assert_array_equal(jc.quality.completeness(biased, x, maps, baseline=None).difference, [6])
    assert_array_equal(jc.quality.completeness(biased, x, maps, baseline=False).difference, [16])


def test_a_gap_where_nothing_should_be_is_infinite_and_no_gap_is_none():
    x = jnp.zeros((2, 1, 2, 1))
    maps = jnp.array([[[1.0, 0.0]], [[1.0, -1.0]]])
    assert_array_equal(jc.quality.completeness(lit, x, maps).relative, [np.inf, 0])


def test_integrated_gradients_are_complete_on_a_network():
    model, x = small_net(), images()
    found = jc.quality.completeness(model, x, jc.integrated_gradients(model, x, 1, steps=200), 1)
    assert jnp.all(found.relative < 0.02)
    assert jnp.all(jc.quality.completeness(model, x, jc.saliency(model, x, 1), 1).relative > 0.02)


@pytest.mark.slow
@pytest.mark.parametrize("perturbation", ["noise", "square"])
def test_the_gradient_of_a_linear_model_has_no_infidelity(perturbation):
    model, x = linear_net(), images()
    maps = jc.saliency(model, x, 3)
    found = jc.quality.infidelity(model, x, maps, 3, key=KEY, perturbation=perturbation)
    assert found.shape == (2,)
    assert jnp.all(found < 1e-9)
    wrong = jc.quality.infidelity(model, x, 2 * maps, 3, key=KEY, perturbation=perturbation)
    assert jnp.all(wrong > 1e-3)
    right_up_to_a_factor = jc.quality.infidelity(model, x, 2 * maps, 3, key=KEY, perturbation=perturbation, scaled=True)
    assert jnp.all(right_up_to_a_factor < 1e-9)


def draws(samples, shape, sigma=0.2):
    """The noise that infidelity draws, (samples, h, w, c)."""
    return np.stack([sigma * jax.random.normal(jax.random.fold_in(KEY, i), shape) for i in range(samples)])


@pytest.mark.evidence("infidelity", kind="twin", source="the formula in numpy")
@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_is_its_formula(scaled):
    model, x, target = small_net(), images(), [4, 0]
    maps = np.asarray(jc.saliency(model, x, target), np.float64)
    taken = draws(12, x.shape[1:])
    expected = []
    for image, values, t in zip(x, maps, target, strict=True):
        said = (taken * values).sum((1, 2, 3))
        lost = np.array(
            [model(image[None])[0, t] - model(image[None] - i)[0, t] for i in jnp.asarray(taken)], np.float64
        )
        beta = (said * lost).mean() / (said**2).mean() if scaled else 1
        expected.append(((beta * said - lost) ** 2).mean())
    found = jc.quality.infidelity(model, x, jnp.asarray(maps), target, key=KEY, samples=12, scaled=scaled)
    assert_allclose(found, expected, rtol=1e-3)


def test_a_perturbation_of_your_own_is_asked():
    def first_row(key, image):
        return image * (jnp.arange(image.shape[0]) == 0)[:, None, None]

    x = images()
    maps = jnp.ones_like(x).at[:, 1:].set(99.0)  # wrong, but not where it is asked
    sums = lambda x: x.sum((1, 2, 3))
    assert jnp.all(jc.quality.infidelity(sums, x, maps, key=KEY, perturbation=first_row) < 1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 5])
def test_the_chunk_does_not_change_infidelity_or_sensitivity(chunk):
    model, x = small_net(), images()
    maps = jc.saliency(model, x, 1)
    infidelity = functools.partial(jc.quality.infidelity, model, x, maps, 1, key=KEY, samples=12)
    sensitivity = functools.partial(jc.quality.sensitivity_n, model, x, maps, 1, key=KEY, sizes=[2, 5], samples=6)
    assert_allclose(infidelity(chunk=chunk), infidelity(), rtol=1e-4)
    assert_allclose(sensitivity(chunk=chunk), sensitivity(), atol=1e-4)


@pytest.mark.slow
def test_a_batch_has_the_figures_of_its_images():
    model, x = small_net(), images(3)
    maps = jc.saliency(model, x, 1)
    for figure in (jc.quality.infidelity, jc.quality.sensitivity_n):
        together = figure(model, x, maps, 1, key=KEY, samples=5)
        alone = [figure(model, x[i : i + 1], maps[i : i + 1], 1, key=KEY, samples=5) for i in range(3)]
        assert_allclose(together, jnp.concatenate(alone), rtol=1e-3, atol=1e-5)
    together = jc.quality.max_sensitivity(model, x, jc.saliency, 1, key=KEY)
    alone = [jc.quality.max_sensitivity(model, x[i : i + 1], jc.saliency, 1, key=KEY) for i in range(3)]
    assert_allclose(together, jnp.concatenate(alone), rtol=1e-3)


def test_the_gradient_of_a_linear_model_has_no_sensitivity_and_input_x_gradient_has_that_of_the_input():
    model, x = linear_net(), images()
    assert_allclose(jc.quality.max_sensitivity(model, x, jc.saliency, 0, key=KEY), [0, 0], atol=1e-6)
    found = jc.quality.max_sensitivity(model, x, jc.input_x_gradient, 0, key=KEY, samples=4, radius=0.1)
    weights = np.asarray(jc.saliency(model, x, 0))
    worst = np.zeros(2)
    for i in range(4):
        draw = np.asarray(jax.random.uniform(jax.random.fold_in(KEY, i), x.shape[1:], x.dtype, -0.1, 0.1))
        worst = np.maximum(worst, np.linalg.norm((draw * weights).reshape(2, -1), axis=1))
    assert_allclose(found, worst / np.linalg.norm((np.asarray(x) * weights).reshape(2, -1), axis=1), rtol=1e-4)


def test_sensitivity_holds_on_to_the_class_predicted_for_the_image():
    tie = lambda x: jnp.stack([x.sum((1, 2, 3)), 1e-4 + 2 - x.sum((1, 2, 3))], -1)
    x = jnp.full((1, 1, 2, 1), 0.5 + 1e-4)  # predicted 0 by a hair; neighbors would be class 1, of gradient -1
    assert_array_equal(jc.quality.max_sensitivity(tie, x, jc.saliency, key=KEY, radius=0.2), [0])


def test_input_x_gradient_correlates_fully_on_a_linear_model():
    model, x = linear_net(), images()
    maps = jc.input_x_gradient(model, x, 2)
    found = jc.quality.sensitivity_n(model, x, maps, 2, key=KEY)
    assert found.shape == (2, 8)
    assert_allclose(found, np.ones((2, 8)), atol=1e-4)
    assert_allclose(jc.quality.sensitivity_n(model, x, -maps, 2, key=KEY), -np.ones((2, 8)), atol=1e-4)
    shuffled = jc.quality.sensitivity_n(model, x, maps[:, ::-1], 2, key=KEY)
    assert jnp.all(shuffled < 0.9)


@pytest.mark.evidence("sensitivity_n", kind="twin", source="the formula in numpy")
def test_sensitivity_n_is_its_formula():
    model, x = small_net(), images()
    maps = np.asarray(jc.input_x_gradient(model, x, 2), np.float64)
    samples, sizes = 20, [3, 10]
    found = jc.quality.sensitivity_n(model, x, jnp.asarray(maps), 2, key=KEY, sizes=sizes, samples=samples)
    for column, size in enumerate(sizes):
        said, lost = [], []
        for i in range(samples):
            order = jax.random.permutation(jax.random.fold_in(KEY, column * samples + i), 36)
            chosen = (np.asarray(order) < size).reshape(6, 6)
            assert chosen.sum() == size
            said.append((maps.sum(-1) * chosen).sum((1, 2)))
            lost.append(np.asarray(model(x)[:, 2] - model(x * ~chosen[None, :, :, None])[:, 2], np.float64))
        for image in range(2):
            expected = np.corrcoef(np.array(said)[:, image], np.array(lost)[:, image])[0, 1]
            assert_allclose(found[image, column], expected, atol=1e-3)


def test_sums_that_do_not_vary_do_not_correlate():
    model, x = linear_net(), images()
    assert_array_equal(jc.quality.sensitivity_n(model, x, jnp.ones((2, 6, 6)), 0, key=KEY, sizes=[4]), [[0], [0]])


@pytest.mark.slow
def test_figures_can_be_jitted():
    model, x = small_net(), images()

    def figures(model, x, key):
        maps = jc.saliency(model, x, 1)
        return (
            jc.quality.infidelity(model, x, maps, 1, key=key, samples=4),
            jc.quality.sensitivity_n(model, x, maps, 1, key=key, sizes=[3], samples=4),
            jc.quality.max_sensitivity(model, x, jc.saliency, 1, key=key, samples=2),
            jc.quality.completeness(model, x, maps, 1),
        )

    for jitted, plain in zip(
        jax.tree_util.tree_leaves(jax.jit(figures)(model, x, KEY)),
        jax.tree_util.tree_leaves(figures(model, x, KEY)),
        strict=True,
    ):
        assert_allclose(jitted, plain, rtol=1e-3, atol=1e-5)


MAPS = jnp.arange(216.0).reshape(2, 6, 6, 3)
BAD = {
    "another batch": ("infidelity", {"maps": MAPS[:1]}, ValueError, "2 images need 2 maps; got 1"),
    "maps of pixels": ("infidelity", {"maps": MAPS[..., 0]}, ValueError, r"maps like the images, \(2, 6, 6, 3\)"),
    "no samples": ("infidelity", {"samples": 0}, ValueError, "samples is a whole number from 1 up; got 0"),
    "no such draw": (
        "infidelity",
        {"perturbation": "nois"},
        ValueError,
        "no perturbation 'nois'; there are noise",
    ),
    "a draw unlike x": (
        "infidelity",
        {"perturbation": lambda k, x: x[0]},
        ValueError,
        "a perturbation is like its im",
    ),
    "a target too large": ("infidelity", {"target": 9}, ValueError, "target 9 is out of range"),
    "a seed": ("infidelity", {"key": jnp.ones(3)}, TypeError, "takes key=jax.random.key"),
    "one set": ("sensitivity_n", {"samples": 1}, ValueError, "samples is a whole number from 2 up"),
    "the whole image": ("sensitivity_n", {"sizes": [36]}, ValueError, "fewer pixels than the image, 36; got 36"),
    "no pixel": ("sensitivity_n", {"sizes": [0]}, ValueError, "each of sizes is a whole number from 1 up; got 0"),
    "no size": ("sensitivity_n", {"sizes": []}, ValueError, "at least one number of pixels"),
    "another batch, complete": ("completeness", {"maps": MAPS[:1]}, ValueError, "2 images need 2 maps"),
    "a method by name": (
        "max_sensitivity",
        {"maps": "saliency"},
        TypeError,
        "a method is a function .*'saliency'",
    ),
    "no radius": ("max_sensitivity", {"maps": jc.saliency, "radius": 0.0}, ValueError, "radius is a number above 0"),
    "a black map": (
        "max_sensitivity",
        {"maps": lambda model, x, target: 0 * x},
        ValueError,
        "map 0 is 0 everywhere: a change of it has no scale",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    name, wrong, kind, message = BAD[case]
    arguments = {"maps": MAPS, "target": 0, **({} if name == "completeness" else {"key": KEY}), **wrong}
    maps, target = arguments.pop("maps"), arguments.pop("target")
    with pytest.raises(kind, match=message) as error:
        getattr(jc.quality, name)(small_net(), images(), maps, target, **arguments)
    assert "\n" not in str(error.value)

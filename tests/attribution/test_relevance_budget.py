"""Where the score went: the account of a whole map, and the warning where nothing is left of it."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.attribution import rules
from jaxcam.attribution.composites import COMPOSITES, Composite
from jaxcam.attribution.relevance_budget import warn_where_lost

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(size=(3, 8, 8, 3)), jnp.float32)
# Of mean zero: a constant image gives nothing, so that a bias is all that an output is made of.
KERNELS = [kernel - kernel.mean((0, 1, 2)) for kernel in RNG.normal(size=(8, 3, 3, 3, 3)).astype(np.float32) / 16]
HEAD = RNG.normal(size=(3, 4)).astype(np.float32)


def convolve(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def net(bias, depth=2):
    def model(x):
        for kernel in KERNELS[:depth]:
            x = jax.nn.relu(convolve(x, kernel) + bias)
        return x.mean((1, 2)) @ HEAD

    return model


ORDINARY, SWALLOWING = net(0.1), net(5.0, 8)


def strongest(model):
    return np.asarray(jnp.argmax(jnp.abs(model(X)), -1))


@pytest.mark.parametrize("composite", COMPOSITES)
def test_the_account_of_a_map_is_that_of_its_equations(composite):
    target = strongest(ORDINARY)
    budget = jc.relevance_budget(ORDINARY, X, target, composite=composite)
    maps = jc.lrp(ORDINARY, X, target, composite=composite)
    balances = jc.conservation(ORDINARY, X, target, composite=composite)
    scores = ORDINARY(X)[np.arange(3), target]
    near = dict(rtol=1e-4, atol=1e-4 * float(jnp.abs(scores).max()))  # noqa: C408
    np.testing.assert_allclose(budget.score, scores, **near)
    np.testing.assert_allclose(budget.size, jnp.abs(scores), **near)
    np.testing.assert_allclose(budget.image, maps.sum((1, 2, 3)), **near)
    np.testing.assert_allclose(budget.mass, jnp.abs(maps).sum((1, 2, 3)), **near)
    np.testing.assert_allclose(budget.biases, sum(balance.biases for balance in balances), **near)
    kept = sum(balance.received - balance.passed - balance.biases for balance in balances)
    np.testing.assert_allclose(budget.rest, kept, **near)
    np.testing.assert_allclose(budget.share, budget.image / scores, rtol=1e-4)


def test_under_jit_the_account_is_the_same():
    plain = jc.relevance_budget(SWALLOWING, X, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jitted = jax.jit(lambda x: jc.relevance_budget(SWALLOWING, x, 1))(X)
        jax.jit(lambda x: jc.lrp(SWALLOWING, x, 1))(X)  # no numbers yet, and so no warning
    for name in ("score", "image", "biases", "rest"):
        np.testing.assert_allclose(getattr(jitted, name), getattr(plain, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("composite", [*COMPOSITES, "epsilon"])
def test_an_ordinary_network_is_no_reason_to_warn(composite):
    epsilon = rules.Epsilon()
    chosen = Composite(epsilon, epsilon) if composite == "epsilon" else composite
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jc.lrp(ORDINARY, X, strongest(ORDINARY), composite=chosen)


def test_what_biases_swallow_is_said_once_in_one_line():
    with pytest.warns(jc.RelevanceWarning) as caught:
        maps = jc.lrp(SWALLOWING, X, strongest(SWALLOWING))
    (warning,) = caught
    message = str(warning.message)
    assert warning.filename == __file__
    assert "\n" not in message
    assert "relevance is lost on 3 of 3 images" in message
    assert "composite.without_biases()" in message
    budget = jc.relevance_budget(SWALLOWING, X, strongest(SWALLOWING))
    assert np.all(budget.mass < 0.02 * budget.size)
    assert np.all(budget.biases / budget.score > 0.9)
    assert maps.shape == X.shape
    assert issubclass(jc.RelevanceWarning, UserWarning)


def test_what_epsilon_swallows_is_said_to_be_epsilons():
    large = Composite(conv=rules.Epsilon(1e4), dense=rules.Epsilon(1e4))
    with pytest.warns(jc.RelevanceWarning, match="smaller ε"):
        jc.lrp(ORDINARY, X, strongest(ORDINARY), composite=large)


def test_a_map_of_many_times_the_score_is_warned_of():
    """A sum that nearly cancels: what is left of both sides is many times as much as the score."""
    model = lambda x: (x.sum((1, 2, 3)) - 0.999 * jax.lax.stop_gradient(X).sum((1, 2, 3)))[:, None]
    epsilon = rules.Epsilon(1e-9)
    with pytest.warns(jc.RelevanceWarning, match="relevance is lost"):
        jc.lrp(model, X, 0, composite=Composite(epsilon, epsilon, scale=epsilon))


def test_what_works_instead_works():
    target = strongest(SWALLOWING)
    composite = jc.composites.epsilon_plus().without_biases()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = jc.lrp(SWALLOWING, X, target, composite=composite)
    np.testing.assert_allclose(jc.relevance_budget(SWALLOWING, X, target, composite=composite).biases, 0, atol=1e-5)
    assert np.all(np.asarray(maps.sum((1, 2, 3)) / SWALLOWING(X)[np.arange(3), target]) > 0.5)


@pytest.mark.parametrize(("kept", "warned"), [([1, 1, 0.001], False), ([1, 0.001, 0.001], True), ([0.03] * 3, False)])
def test_half_of_the_images_or_more_have_to_be_lost(kept, warned):
    score, image = jnp.ones(3), jnp.array(kept)
    budget = jc.RelevanceBudget(score, score, image, image, score - image)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_where_lost(budget, stacklevel=1)
    assert [each.category for each in caught] == [jc.RelevanceWarning] * warned

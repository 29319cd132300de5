"""Gradient methods in the cases where everybody knows the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jaxcam as jc

RNG = np.random.default_rng(0)
IMAGES = jnp.asarray(RNG.random((2, 4, 3, 2)), jnp.float32)
WEIGHTS = jnp.asarray(RNG.normal(size=(24, 5)), jnp.float32)
FIRST, LAST = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((24, 16), (16, 5)))


def linear(x):
    return x.reshape(len(x), -1) @ WEIGHTS


def rectified(x, first=FIRST, last=LAST):
    """Without biases: doubling the image doubles the outputs."""
    return jax.nn.relu(x.reshape(len(x), -1) @ first) @ last


def positive(x):
    """Nothing negative anywhere: no rectifier ever closes, no gradient is below zero."""
    return rectified(x, jnp.abs(FIRST), jnp.abs(LAST))


@pytest.mark.evidence("saliency", kind="axiom", source="a linear net has its weights")
def test_the_gradient_of_a_linear_net_is_its_weights():
    for k in range(5):
        assert_allclose(jc.saliency(linear, IMAGES, k), jnp.stack([WEIGHTS[:, k].reshape(4, 3, 2)] * 2), rtol=1e-6)


@pytest.mark.evidence("saliency", kind="axiom", source="linear in the score")
def test_the_gradient_of_a_contrast_is_the_contrast_of_gradients():
    both = jc.saliency(rectified, IMAGES, 3) - jc.saliency(rectified, IMAGES, 1)
    assert_allclose(jc.saliency(rectified, IMAGES, jc.contrast(3, 1)), both, atol=1e-5)


@pytest.mark.evidence("input_x_gradient", kind="axiom", source="without biases it sums to the score")
def test_input_x_gradient_sums_to_the_score_of_a_net_without_biases():
    maps = jc.input_x_gradient(rectified, IMAGES, 2)
    assert_allclose(maps.sum((1, 2, 3)), rectified(IMAGES)[:, 2], rtol=1e-5)


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
@pytest.mark.evidence("guided_backprop", "deconvnet", kind="axiom", source="nothing negative: the gradient")
def test_where_nothing_is_negative_the_rules_are_the_gradient(name):
    assert_allclose(getattr(jc, name)(positive, IMAGES, 2), jc.saliency(positive, IMAGES, 2), rtol=1e-6)


@pytest.mark.evidence("guided_backprop", kind="axiom", source="no path of positive evidence: nothing")
def test_guided_backprop_of_purely_negative_evidence_is_nothing():
    assert not jnp.any(jc.guided_backprop(lambda x: -positive(x), IMAGES, 2))


@pytest.mark.evidence("gradient_shap", kind="axiom", source="exact on a linear net from any draw")
def test_gradient_shap_of_a_linear_net_is_exact_for_one_baseline():
    maps = jc.gradient_shap(linear, IMAGES, 2, key=jax.random.key(0), samples=3)
    assert_allclose(maps, IMAGES * WEIGHTS[:, 2].reshape(4, 3, 2), rtol=1e-4, atol=1e-6)


@pytest.mark.evidence("smooth_grad", kind="axiom", source="a linear net has its weights under any noise")
def test_smooth_grad_of_a_linear_net_is_its_weights():
    maps = jc.smooth_grad(linear, IMAGES, 2, key=jax.random.key(0), samples=3, sigma=0.5)
    assert_allclose(maps, jnp.stack([WEIGHTS[:, 2].reshape(4, 3, 2)] * 2), rtol=1e-5)

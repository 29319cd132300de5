"""Which factor after a convolution is the scale of a normalization: found by the root (or the division) beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from program_nets import IMAGES, convolve, weights

import jaxcam as jc
from jaxcam.program.norms import normalization_scale

KERNEL = weights((3, 3, 3, 3))
MEAN, VARIANCE = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 4.0, 9.0])
SCALE, SHIFT, OTHER = jnp.array([2.0, -1.0, 0.5]), jnp.array([0.0, 1.0, 2.0]), jnp.array([3.0, 5.0, 7.0])
ROOT = lambda: jax.lax.rsqrt(VARIANCE)
ONES = jnp.ones(3)


def scale_after(norm):
    """γ of what follows a convolution, or None."""

    def model(x):
        return jc.tag(jnp.sin(norm(convolve(x, KERNEL))), "after").sum((1, 2))

    def direct(x):
        return jc.tag(norm(convolve(x, KERNEL)), "here").sum((1, 2))

    found = normalization_scale(direct, IMAGES, "here")
    after = normalization_scale(model, IMAGES, "after")
    np.testing.assert_array_equal(ONES if found is None else found, ONES if after is None else after)
    return found


SCALED = {
    "a root": (lambda y: y * ROOT(), ONES),
    "the root first": (lambda y: ROOT() * y, ONES),
    "divided by deviations": (lambda y: y / jnp.sqrt(VARIANCE), ONES),
    "divided by numbers of each unit": (lambda y: y / OTHER, ONES),
    "root, then scale": (lambda y: y * ROOT() * SCALE, SCALE),
    "scale, then root": (lambda y: y * SCALE * ROOT(), SCALE),
    "scale in the root's product": (lambda y: y * (ROOT() * SCALE), SCALE),
    "scale over the root": (lambda y: y * (SCALE / jnp.sqrt(VARIANCE)), SCALE),
    "two scales": (lambda y: SCALE * (y * ROOT()) * OTHER, SCALE * OTHER),
    "two scales in one product": (lambda y: y * (SCALE * (ROOT() * OTHER)), SCALE * OTHER),
    "a number": (lambda y: y * ROOT() * 3.0, 3 * ONES),
    "a number in the product": (lambda y: y * (ROOT() * 3.0), 3 * ONES),
    "a scale and a division by a number": (lambda y: y * ROOT() * SCALE / 2.0, SCALE),
    "shifts in between": (lambda y: ((y - MEAN) * ROOT() + SHIFT) * SCALE - 1, SCALE),
    "a shift from the other side": (lambda y: SHIFT - (MEAN - y) * ROOT() * SCALE, SCALE),
    "a power": (lambda y: y * VARIANCE**-0.5 * SCALE, SCALE),
    "a layout in between": (lambda y: ((y * ROOT()).reshape(2, 64, 3) * SCALE).reshape(2, 8, 8, 3), SCALE),
    "another precision in between": (
        lambda y: (y * ROOT()).astype(jnp.bfloat16).astype(jnp.float32) * SCALE,
        SCALE,
    ),
    "the image's own root": (lambda y: y * jax.lax.rsqrt(y.var((1, 2), keepdims=True)) * SCALE, SCALE),
    "the image's own root, scaled at once": (
        lambda y: y * (jax.lax.rsqrt(y.var((1, 2), keepdims=True)) * SCALE),
        SCALE,
    ),
    "the image's own root, scaled twice at once": (
        lambda y: (OTHER * (jax.lax.rsqrt(y.var((1, 2), keepdims=True)) * 2.0)) * y * SCALE,
        2 * SCALE * OTHER,
    ),
    "divided by the image's own deviation": (lambda y: y / jnp.sqrt(y.var((1, 2), keepdims=True)) * SCALE, SCALE),
}


@pytest.mark.parametrize("name", SCALED)
def test_the_scale_is_what_multiplies_and_is_no_statistic(name):
    norm, expected = SCALED[name]
    np.testing.assert_allclose(scale_after(norm), expected, rtol=1e-6)


UNSCALED = {
    "nothing": lambda y: y,
    "a bias": lambda y: y + SHIFT,
    "a scale alone": lambda y: y * SCALE,
    "a scale and a bias": lambda y: y * SCALE + SHIFT,
    "a number": lambda y: y * 3.0,
    "a division by a number": lambda y: y / 3.0,
    "a division of a number": lambda y: 3.0 / (y * y + 1),
    "deviations divided by it": lambda y: jnp.sqrt(VARIANCE) / (y * y + 1),
    "a root before something else": lambda y: jnp.tanh(y * ROOT()) * SCALE,
    "a scale for each row": lambda y: y * ROOT() * weights((8, 1, 1)),
    "its own mean": lambda y: y - y.mean((1, 2), keepdims=True),
    "times its own mean": lambda y: y * y.mean((1, 2), keepdims=True),
    "times its own root, scaled for each row": lambda y: (
        y * (jax.lax.rsqrt(y.var((1, 2), keepdims=True)) * weights((8, 1, 1)))
    ),
    "plus a root of its own": lambda y: y + jnp.sqrt(y.var((1, 2), keepdims=True)),
}


@pytest.mark.parametrize("name", UNSCALED)
def test_without_a_statistic_there_is_no_normalization(name):
    norm = UNSCALED[name]
    model = lambda x: jc.tag(norm(convolve(x, KERNEL)), "here").sum((1, 2))
    found = normalization_scale(model, IMAGES, "here")
    if name in {"a root before something else", "a scale for each row"}:  # the one before it is found
        np.testing.assert_array_equal(found, ONES)
    else:
        assert found is None


def test_a_normalization_before_the_convolution_is_none_of_its_own():
    def model(x):
        y = jc.tag(convolve(x, KERNEL) * ROOT() * SCALE, "first")
        return jc.tag(convolve(jax.nn.relu(y), KERNEL) + SHIFT, "second").sum((1, 2))

    assert normalization_scale(model, IMAGES, "second") is None
    np.testing.assert_allclose(normalization_scale(model, IMAGES, "first"), SCALE)


def test_of_the_images_themselves_there_is_no_normalization():
    model = lambda x: jc.tag((x - MEAN) * ROOT() * SCALE, "images").sum((1, 2))
    assert normalization_scale(model, IMAGES, "images") is None


def test_of_two_normalizations_the_last_counts():
    def model(x):
        y = jnp.tanh(convolve(x, KERNEL) * ROOT() * SCALE)
        return jc.tag((y - MEAN) * ROOT() * OTHER, "last").sum((1, 2))

    np.testing.assert_allclose(normalization_scale(model, IMAGES, "last"), OTHER)


@pytest.mark.parametrize("swapped", [False, True])
def test_of_a_sum_the_way_with_more_convolutions_counts(swapped):
    def model(x):
        short = convolve(x, KERNEL) * ROOT() * OTHER
        long = convolve(jnp.tanh(convolve(x, KERNEL)), KERNEL) * ROOT() * SCALE
        return jc.tag(short + long if swapped else long + short, "sum").sum((1, 2))

    np.testing.assert_allclose(normalization_scale(model, IMAGES, "sum"), SCALE)


@pytest.mark.parametrize("norm", [nnx.LayerNorm, lambda *a, **b: nnx.GroupNorm(*a, num_groups=3, **b), nnx.RMSNorm])
def test_the_scale_of_a_normalization_of_each_image_is_flax_s_parameter(norm):
    layer = norm(3, rngs=nnx.Rngs(0))
    layer.scale[...] = SCALE
    model = lambda x: jc.tag(jax.nn.relu(layer(convolve(x, KERNEL))), "here").sum((1, 2))
    np.testing.assert_allclose(normalization_scale(model, IMAGES, "here"), SCALE)

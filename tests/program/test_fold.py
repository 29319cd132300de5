"""Batch norm folded into its convolution: the same values, whoever wrote it, and never where it would be wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import HARDEST_FIRST, IMAGES, KINDS, weights

import jaxcam as jc
from jaxcam.program.fold import channelwise
from jaxcam.program.trace import trace


def convolve(x, kernel, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, jnp.asarray(kernel, x.dtype), (1, 1), "SAME", feature_group_count=groups, dimension_numbers=numbers
    )


KERNEL = np.asarray(weights((3, 3, 3, 6)))
MEAN, VARIANCE, SCALE, BIAS = np.random.default_rng(3).uniform(0.5, 2, (4, 6)).astype(np.float32)


def batch_norm(z):
    return (z - MEAN) * (jax.lax.rsqrt(jnp.asarray(VARIANCE + np.float32(1e-5))) * SCALE) + BIAS


def chains(function, x=IMAGES):
    program = trace(function, x)
    return channelwise(program, program.depending_on(program.inputs))


def check(function, x=IMAGES, steps=None):
    """The rewritten function against the plain one, both in float64, so that only a wrong formula can differ."""
    found = chains(function, x)
    assert steps is None or [len(chain.steps) for chain in found] == steps
    with jax.enable_x64(True):
        x = jnp.asarray(np.asarray(x), jnp.float64)
        plain, pull = jax.vjp(function, x)
        fast, pull_fast = jax.vjp(jc.accelerate(function), x)
        np.testing.assert_allclose(fast, plain, rtol=1e-10, atol=1e-10)
        cotangent = jnp.asarray(np.random.default_rng(0).normal(size=plain.shape))
        np.testing.assert_allclose(pull_fast(cotangent)[0], pull(cotangent)[0], rtol=1e-10, atol=1e-10)


def test_batch_norm_and_bias_are_one_convolution():
    check(lambda x: batch_norm(convolve(x, KERNEL) + BIAS), steps=[4])


def test_every_form_of_scale_and_shift_is_folded():
    check(lambda x: (3 - (convolve(x, KERNEL) / SCALE - MEAN)) * 2, steps=[4])


def test_groups_keep_their_channels():
    kernel = np.asarray(weights((3, 3, 1, 6)))
    check(lambda x: batch_norm(convolve(x, kernel, groups=3)), steps=[3])


def test_channels_first_are_folded_along_their_own_axis():
    def function(x):
        z = jax.lax.conv_general_dilated(
            jnp.moveaxis(x, -1, 1),
            jnp.asarray(KERNEL, x.dtype),
            (1, 1),
            "SAME",
            dimension_numbers=("NCHW", "HWIO", "NCHW"),
        )
        return (z - MEAN[:, None, None]) * SCALE[:, None, None] + BIAS[None, :, None, None]

    check(function, steps=[3])


def test_a_value_that_varies_over_space_ends_the_chain():
    place = np.random.default_rng(0).random((8, 8, 1)).astype(np.float32)
    check(lambda x: (convolve(x, KERNEL) * SCALE + place) * SCALE, steps=[1])


def test_a_value_that_varies_over_images_ends_the_chain():
    check(lambda x: convolve(x, KERNEL) * jnp.array([1.0, 2.0])[:, None, None, None], steps=[])


def test_a_value_read_twice_stays():
    def function(x):
        z = convolve(x, KERNEL)
        return z * SCALE + jnp.tanh(z)

    check(function, steps=[])


def test_a_scale_computed_from_the_image_is_no_constant():
    check(lambda x: convolve(x, KERNEL) * x.mean((1, 2, 3), keepdims=True), steps=[])


def test_a_number_divided_by_the_signal_is_not_linear():
    check(lambda x: 1 / (convolve(x, KERNEL) ** 2 + 1), steps=[])


def test_a_returned_value_is_still_there():
    def function(x):
        z = convolve(x, KERNEL)
        y = z + BIAS
        return jnp.concatenate([y, y * SCALE], -1)

    check(function, steps=[1])


def test_a_layer_inside_a_folded_chain_can_be_tapped():
    def function(x):
        z = jc.tag(convolve(x, KERNEL), "raw")
        return batch_norm(z)

    np.testing.assert_allclose(
        jc.accelerate(jc.tap(function, "raw"))(IMAGES), convolve(IMAGES, KERNEL), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", HARDEST_FIRST)
def test_every_library_s_batch_norm_gives_the_same_values(kind):
    model = KINDS[kind]()
    np.testing.assert_allclose(jc.accelerate(model)(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_flax_batch_norm_is_folded(kind):
    assert max(len(chain.steps) for chain in chains(KINDS[kind]())) >= 3


def test_half_precision_stays_half():
    half = lambda x: batch_norm(convolve(x, KERNEL)).astype(jnp.bfloat16)
    low = lambda x: convolve(x.astype(jnp.bfloat16), KERNEL) * jnp.bfloat16(2)
    for function in (half, low):
        assert jc.accelerate(function)(IMAGES).dtype == jnp.bfloat16

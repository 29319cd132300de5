"""Work and receptive fields of layers, against counts by hand and against what gradients reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import IMAGES, KINDS, convolve

import jaxcam as jc
from jaxcam.program.costs import costs


def test_the_work_of_vgg11_is_that_of_its_convolutions_and_matrices():
    model = jc.models.load("vgg11", classes=10, image_size=32)
    found = {cost.layer: cost.operations for cost in costs(model, jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))}
    assert found["features.conv0"] == 2 * 32 * 32 * 64 * 9 * 3
    assert found["features.conv7"] == 2 * 2 * 2 * 512 * 9 * 512
    assert list(found.values())[-1] == 2 * 512 * 10


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k == "equinox" else pytest.mark.slow) for k in KINDS])
def test_models_of_any_library_have_the_same_fields(kind):
    found = [cost.field for cost in costs(KINDS[kind](), IMAGES)]
    assert found == [(3, 3), (4, 4), (8, 8), (8, 8), None, None]


def test_a_field_is_what_a_unit_has_a_gradient_for():
    """Sums with positive weights, so that nothing cancels: windows, strides, dilation, padding, a shortcut, slices."""
    ones = lambda *shape: jnp.ones(shape, jnp.float32)

    def network(x):
        x = jc.tag(convolve(x, ones(3, 5, 1, 2), (2, 1)), "a")
        x = jc.tag(jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 3, 1), (1, 2, 2, 1), "SAME"), "b")
        dimensions = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, ones(3, 3, 2, 2), (1, 1), "SAME", rhs_dilation=(2, 1), dimension_numbers=dimensions
        )
        x = jc.tag(jnp.concatenate([x + y, x], -1), "c")
        x = jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))
        # Written out: x[:, ::2, 1:] is a gather in JAX 0.8 and 0.9.
        x = jc.tag(jax.lax.slice(x, (0, 0, 1, 0), x.shape, (1, 2, 1, 1)), "d")
        return jc.tag(x.mean((1, 2)), "e")

    x = jnp.ones((1, 64, 64, 1), jnp.float32)
    found = {cost.layer: cost.field for cost in costs(network, x)}
    assert found["e"] is None
    for name in "abcd":
        value = jc.tap(network, name)
        row, column = (size // 2 for size in jax.eval_shape(value, x).shape[1:3])
        slope = jax.jit(jax.grad(lambda z, f=value, r=row, c=column: f(z)[0, r, c, 0]))(x)[0, ..., 0]
        reached = tuple(int(np.ptp(np.flatnonzero(np.abs(slope).max(axis)))) + 1 for axis in (1, 0))
        assert found[name] == reached

"""Which scales and shifts fold into a convolution, with which sign, and along which axis; programs only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from program_nets import IMAGES, convolve, weights

from jaxcam.program.fold import channelwise
from jaxcam.program.trace import replay, trace

KERNEL = weights((3, 3, 3, 4))
FLAT = np.array([1.0, -2.0, 0.5, 4.0], np.float32).reshape(1, 1, 4)
A, B = jnp.array([1.0, -2.0, 0.5, 4.0]), jnp.array([3.0, 0.25, -1.0, 2.0])


def folded(function, x=IMAGES):
    """For each chain its steps' names, and a and b of z ↦ a·z + b."""
    program = trace(function, x)
    given = {program.inputs[0]: x}
    found = []
    for chain in channelwise(program, program.depending_on(program.inputs)):
        values = [atom for _, atom, _ in chain.steps if not isinstance(atom, core.Literal)]
        a, b = chain.scale_and_shift(replay(program, given, values), 4)
        found.append(([name for name, *_ in chain.steps], a.tolist(), b.tolist()))
        assert chain.sources == (*chain.convolution.operands, *values)
        assert chain.shape(program) == program.avals[chain.convolution.outputs[0]].shape
    return found


ONE, NONE = jnp.ones(4), jnp.zeros(4)
STEPS = {
    "times": (lambda z: z * A, "mul", A, NONE),
    "times, the factor first": (lambda z: A * z, "mul", A, NONE),
    "by": (lambda z: z / A, "div", 1 / A, NONE),
    "plus": (lambda z: z + B, "add", ONE, B),
    "plus, the shift first": (lambda z: B + z, "add", ONE, B),
    "minus": (lambda z: z - B, "sub", ONE, -B),
    "from": (lambda z: B - z, "sub", -ONE, B),
    "times a number": (lambda z: z * 3.0, "mul", 3 * ONE, NONE),
    "minus a number": (lambda z: z - 3.0, "sub", ONE, -3 * ONE),
    "from a number": (lambda z: 3.0 - z, "sub", -ONE, 3 * ONE),
    "by a number": (lambda z: z / 4.0, "div", ONE / 4, NONE),
    "times an array of one number": (lambda z: z * jnp.full((1,), 3.0), "mul", 3 * ONE, NONE),
    "times an array with all axes": (lambda z: z * A[None, None, None], "mul", A, NONE),
    "times one number a channel, repeated everywhere": (
        lambda z: z * jnp.broadcast_to(A.reshape(1, 1, 4), z.shape),
        "mul",
        A,
        NONE,
    ),
    "times a constant with axes of length one, repeated": (
        lambda z: z * jnp.broadcast_to(FLAT, z.shape),
        "mul",
        A,
        NONE,
    ),
    "times a scalar array": (lambda z: z * jnp.asarray(3.0), "mul", 3 * ONE, NONE),
}


@pytest.mark.parametrize("name", STEPS)
def test_one_step(name):
    function, operation, a, b = STEPS[name]
    ((names, scale, shift),) = folded(lambda x: function(convolve(x, KERNEL)))
    assert names == [operation]
    np.testing.assert_allclose(scale, a)
    np.testing.assert_allclose(shift, b)


def test_steps_are_taken_one_after_the_other():
    ((names, scale, shift),) = folded(lambda x: (B - (convolve(x, KERNEL) + 1) * A) / 2 - B)
    assert names == ["add", "mul", "sub", "div", "sub"]
    np.testing.assert_allclose(scale, -A / 2)
    np.testing.assert_allclose(shift, (B - A) / 2 - B)


@pytest.mark.parametrize(
    ("step", "count"),
    [
        (lambda z: z * jnp.ones((8, 1, 1)), 0),
        (lambda z: z + weights((8, 8, 1)), 0),
        (lambda z: z * weights((2, 1, 1, 1)), 0),
        (lambda z: z + weights((8, 8, 4)), 0),
        (lambda z: z + weights((2, 8, 8, 4)), 0),
        (lambda z: (z + B) * weights((2, 1, 1, 1)), 1),
        (lambda z: (z + B + weights((8, 8, 1))) * A, 1),
        (lambda z: jnp.tanh(z * A) * A, 1),
        (lambda z: 2 / (z * A), 1),
        (lambda z: -(z * A), 1),
        (lambda z: jnp.tanh(z) * A, 0),
        (lambda z: (z + B) * jnp.full(z.shape, 3.0), 1),
    ],
)
def test_what_differs_along_another_axis_or_is_no_step_ends_a_chain(step, count):
    assert [len(names) for names, *_ in folded(lambda x: step(convolve(x, KERNEL)))] == [count] * (count > 0)


def test_a_full_array_that_was_computed_is_not_looked_into():
    """Only what is seen to be one number a channel counts: broadcast directly, or of length 1 elsewhere."""
    wide = lambda x: jnp.cos(jnp.broadcast_to(A, (2, 8, 8, 4)))
    assert folded(lambda x: convolve(x, KERNEL) * wide(x)) == []


@pytest.mark.parametrize("axis", [1, 3])
def test_the_channels_are_where_the_convolution_has_them(axis):
    layout = ("NHWC", "HWIO", "NCHW" if axis == 1 else "NHWC")
    kernel = weights((3, 3, 3, 8))  # as many channels as rows

    def scaled(along):
        factor = jnp.arange(1.0, 9.0).reshape([8 if place == along else 1 for place in range(4)])
        return lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) * factor

    for along in (1, 2, 3):
        program = trace(scaled(along), IMAGES)
        chains = channelwise(program, program.depending_on(program.inputs))
        assert len(chains) == (along == axis)


def test_a_dense_layer_is_no_convolution():
    assert folded(lambda x: x.reshape(2, -1) @ weights((192, 4)) * A) == []


def test_what_follows_two_convolutions_goes_to_each():
    def function(x):
        return convolve(x, KERNEL) * A, convolve(x, KERNEL) + B, convolve(x, KERNEL)

    assert [names for names, *_ in folded(function)] == [["mul"], ["add"]]

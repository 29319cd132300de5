"""What stands before a kernel and is merged into it: how far it reaches, and that the map stays what it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import IMAGES, convolve, weights

from jaxcam.program import prescale
from jaxcam.program.affine import affine_maps
from jaxcam.program.trace import replay, trace_model

KERNEL, FACTOR, SHIFT = weights((3, 3, 3, 4)), weights((3,), 2), weights((3,), 3)
MASK = weights((8, 8, 1), 5)


def kernels_of(model, x=IMAGES):
    """The maps with a kernel: each with its source's value, its result and its other values."""
    program, arrays = trace_model(model, x)
    values = dict(zip(program.inputs, [*arrays, x], strict=True))
    maps = [a for a in affine_maps(program, program.depending_on([program.inputs[-1]])) if a.kind in {"conv", "dense"}]
    return [(a, *replay(program, values, [a.source, a.result]), replay(program, values, a.others)) for a in maps]


def before(a):
    return [] if a.prescale is None else [node.name for node in a.prescale.nodes]


def norm(x):
    return x * FACTOR + SHIFT


def every_other_column(x):
    """x[:, 1:, ::2], which is a gather in JAX 0.8 and 0.9."""
    return jax.lax.slice(x, (0, 1, 0, 0), x.shape, (1, 1, 2, 1))


def padded(x, *widths, value=0.0):
    return jax.lax.pad(x, jnp.asarray(value, x.dtype), widths)


NONE = (0, 0, 0)
# By name: a model, and the equations before its kernel that are part of the map.
REACH = {
    "a batch norm": (lambda x: convolve(norm(x), KERNEL), ["mul", "add"]),
    "a shift alone": (lambda x: convolve(x - SHIFT, KERNEL), ["sub"]),
    "turned around": (lambda x: convolve(-(SHIFT - x), KERNEL), ["sub", "neg"]),
    "a quotient": (lambda x: convolve((x - 0.5) / FACTOR, KERNEL), ["sub", "div"]),
    "a shift for each pixel": (lambda x: convolve((x - MASK) * FACTOR, KERNEL), ["sub", "mul"]),
    "a factor for each pixel ends it": (lambda x: convolve(x * MASK + SHIFT, KERNEL), ["add"]),
    "a factor for each pixel, next": (lambda x: convolve(norm(x) * MASK, KERNEL), []),
    "after an activation": (lambda x: convolve(jax.nn.relu(x) * 2 + 1, KERNEL), ["mul", "add"]),
    "before an activation": (lambda x: convolve(jax.nn.relu(norm(x)), KERNEL), []),
    "an activation's own parts": (lambda x: convolve(jax.nn.hard_swish(x), KERNEL), []),
    "padded": (lambda x: convolve(padded(norm(x), NONE, (1, 2, 0), (0, 1, 0), NONE), KERNEL), ["mul", "add", "pad"]),
    "padded with ones": (lambda x: convolve(padded(norm(x), NONE, (1, 1, 0), NONE, NONE, value=1), KERNEL), []),
    "padded inside": (lambda x: convolve(padded(norm(x), NONE, (0, 0, 1), NONE, NONE), KERNEL), []),
    "cut by padding": (lambda x: convolve(padded(norm(x), NONE, (-1, 0, 0), NONE, NONE), KERNEL), []),
    "padded channels": (
        lambda x: convolve(padded(x * FACTOR[:2].mean() + 1, NONE, NONE, NONE, (0, 1, 0)), weights((3, 3, 4, 4))),
        ["mul", "add", "pad"],
    ),
    "padded channels with factors of their own": (
        lambda x: convolve(padded(norm(x), NONE, NONE, NONE, (0, 1, 0)), weights((3, 3, 4, 4))),
        ["add", "pad"],
    ),
    "cropped": (lambda x: convolve(every_other_column(norm(x)), KERNEL), ["mul", "add", "slice"]),
    "channels left out": (lambda x: convolve(norm(x)[..., :2], KERNEL[:, :, :2]), ["add", "slice"]),
    "moved around": (
        lambda x: convolve(norm(x).transpose(0, 3, 2, 1)[:, None].squeeze(1).transpose(0, 3, 2, 1), KERNEL),
        ["mul", "add", "transpose", "broadcast_in_dim", "squeeze", "transpose"],
    ),
    "only moved": (lambda x: convolve(x.transpose(0, 2, 1, 3), KERNEL), []),
    "grouped": (
        lambda x: jax.lax.conv_general_dilated(
            norm(x),
            weights((3, 3, 1, 6)),
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=3,
        ),
        ["mul", "add"],
    ),
    "channels first": (
        lambda x: jax.lax.conv_general_dilated(
            jnp.moveaxis(norm(x), -1, 1),
            weights((4, 3, 3, 3)),
            (1, 1),
            "SAME",
            dimension_numbers=("NCHW", "OIHW", "NCHW"),
        ),
        ["mul", "add", "transpose"],
    ),
    "flattened": (lambda x: norm(x).reshape(2, -1) @ weights((192, 5)), ["mul", "add", "reshape"]),
    "flattened, a factor for each pixel": (
        lambda x: (x * MASK + 1).reshape(2, -1) @ weights((192, 5)),
        ["mul", "add", "reshape"],
    ),
    "channels into space": (
        lambda x: convolve((x * FACTOR + 1).reshape(2, 8, 24, 1), weights((3, 3, 1, 4))),
        ["add", "reshape"],
    ),
    "space and channels mixed": (
        lambda x: convolve(norm(x).reshape(2, 8, 4, 6), weights((3, 3, 6, 4))),
        ["add", "reshape"],
    ),
    "channels split in two": (
        lambda x: jnp.einsum(
            "nhgc,cd->nhgd", (jnp.tile(x, 2)[:, 0] * jnp.arange(1.0, 7) + 1).reshape(2, 8, 2, 3), weights((3, 5))
        ),
        ["add", "reshape"],
    ),
    "the kernel first": (lambda x: weights((5, 3)) @ norm(x)[:, 0].reshape(16, 3).T, None),
    "a product for each group": (
        lambda x: jnp.einsum("nwc,wcd->nwd", x[:, 0] * weights((8, 3)) + SHIFT, weights((8, 3, 5))),
        None,
    ),
    "a tag": (
        lambda x: convolve(jax.ad_checkpoint.checkpoint_name(norm(x), "normalized"), KERNEL),
        ["mul", "add", "name"],
    ),
}


@pytest.mark.parametrize("name", REACH)
def test_a_kernel_takes_what_stands_before_it(name):
    model, names = REACH[name]
    ((a, source, result, others),) = kernels_of(model)
    if names is not None:
        assert before(a) == names
    else:
        assert before(a)[:2] == ["mul", "add"]
    largest = np.abs(result).max()
    np.testing.assert_allclose(a(source, *others), result, atol=1e-6 * largest)
    again = a.apply(source, a.kernel(*others), a.bias(source, *others), *others)
    np.testing.assert_allclose(again, result, atol=1e-5 * largest)
    nothing = a.apply(jnp.zeros_like(source), a.kernel(*others), jnp.zeros_like(result), *others)
    np.testing.assert_array_equal(nothing, 0 * result)


def test_a_shift_before_a_padded_kernel_is_no_constant():
    ((a, source, _, others),) = kernels_of(lambda x: convolve(x + 1, KERNEL))
    bias = np.asarray(a.bias(source, *others))
    np.testing.assert_allclose(bias[0, 3, 3], np.asarray(KERNEL).sum((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(bias[0, 0, 0], np.asarray(KERNEL)[1:, 1:].sum((0, 1, 2)), rtol=1e-5)


def test_several_kernels_take_the_same_batch_norm():
    def model(x):
        z = norm(x)
        return convolve(z, KERNEL) + convolve(z, weights((3, 3, 3, 4), 7))

    found = kernels_of(model)
    assert [before(a) for a, *_ in found] == [["mul", "add"]] * 2
    assert len({a.source for a, *_ in found}) == 1


def test_what_follows_a_kernel_stays_with_it():
    """What is between two convolutions is the first one's; where another reads that as well, the second's."""
    after, second = kernels_of(lambda x: convolve(convolve(x, KERNEL) * 2 + 1, weights((3, 3, 4, 4))))
    assert [node.name for node in after[0].chain] == ["mul", "add"]
    assert before(second[0]) == []

    def model(x):
        z = convolve(x, KERNEL)
        return convolve(z * 2 + 1, weights((3, 3, 4, 4))) + z

    first, second = kernels_of(model)
    assert first[0].chain == ()
    assert before(second[0]) == ["mul", "add"]


def test_a_run_of_scales_is_cut_where_a_kernel_begins_to_take_it():
    program, _ = trace_model(lambda x: convolve(x * MASK * 2 + SHIFT, KERNEL), IMAGES)
    maps = affine_maps(program, program.depending_on([program.inputs[-1]]))
    names = [(a.kind, [node.name for node in a.nodes]) for a in maps]
    assert ("factor", ["mul"]) in names
    assert ("conv", ["mul", "add", "conv_general_dilated"]) in names


@pytest.mark.parametrize(
    ("old", "new", "axes", "expected"),
    [
        ((2, 3), (6,), {0}, {0, 1}),
        ((2, 1, 3), (6,), {0}, {0, 2}),
        ((2, 1, 3), (2, 3, 1), {1}, {2}),
        ((6,), (2, 3), {1}, set()),
        ((6,), (2, 3), {0, 1}, {0}),
        ((4, 5, 3), (20, 3), {1}, {2}),
        ((4, 5, 3), (20, 3), {0}, {0, 1}),
        ((4, 6), (2, 2, 3, 2), {2, 3}, {1}),
        ((4, 6), (8, 3), {1}, set()),
        ((4, 6), (8, 3), {0, 1}, {0, 1}),
        ((1, 1), (1,), {0}, set()),
    ],
)
def test_axes_before_a_reshape_are_those_whose_numbers_lie_in_some_after_it(old, new, axes, expected):
    assert prescale._before_reshape(old, new, frozenset(axes)) == expected

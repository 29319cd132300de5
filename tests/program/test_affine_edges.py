"""Affine maps at their edges: where one ends, which axis its units have, signs of scales, orders of operands."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import IMAGES, convolve, weights

from jaxcam.program.affine import affine_maps
from jaxcam.program.trace import replay, trace

KERNEL, FACTOR, SHIFT = weights((3, 3, 3, 4)), weights((4,), 2), weights((4,), 3)
VECTORS = weights((2, 3), 4)


def maps_of(function, x=IMAGES):
    """The affine maps of a function of images, each with its source, result and other values."""
    program = trace(function, x)
    found = affine_maps(program, program.depending_on(program.inputs))
    at = {program.inputs[0]: x}
    return [(a, *replay(program, at, [a.source, a.result]), replay(program, at, a.others)) for a in found]


def names(function, x=IMAGES):
    return [(a.kind, [node.name for node in a.nodes]) for a, *_ in maps_of(function, x)]


def check(function, x=IMAGES, *, kernel=None, bias=None):
    """The one map with a kernel: y = W·x + b, with the W and b that are expected."""
    ((a, source, result, others),) = maps_of(function, x)
    found, shift = a.kernel(*others), a.bias(source, *others)
    np.testing.assert_allclose(a(source, *others), result, rtol=1e-6)
    np.testing.assert_allclose(a.apply(source, found, shift, *others), result, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(a.apply(source, found, 0 * shift, *others) + shift, result, rtol=1e-5, atol=1e-5)
    assert found.shape == others[0].shape
    assert shift.shape == result.shape
    if kernel is not None:
        np.testing.assert_allclose(found, kernel, rtol=1e-5, atol=1e-6)
    if bias is not None:
        np.testing.assert_allclose(shift, np.broadcast_to(bias, result.shape), rtol=1e-5, atol=1e-6)
    return a


STEPS = {
    "plus": (lambda z: z + SHIFT, 1, SHIFT),
    "plus, the shift first": (lambda z: SHIFT + z, 1, SHIFT),
    "minus": (lambda z: z - SHIFT, 1, -SHIFT),
    "from a number": (lambda z: SHIFT - z, -1, SHIFT),
    "times": (lambda z: z * FACTOR, FACTOR, 0),
    "times, the factor first": (lambda z: FACTOR * z, FACTOR, 0),
    "by": (lambda z: z / FACTOR, 1 / FACTOR, 0),
    "negated": (lambda z: -z, -1, 0),
    "times a number": (lambda z: 3 * z, 3, 0),
    "several": (lambda z: (2 - z * FACTOR) / 4 + SHIFT, -FACTOR / 4, 0.5 + SHIFT),
    "shifted, then scaled": (lambda z: (z - SHIFT) * FACTOR, FACTOR, -SHIFT * FACTOR),
}


@pytest.mark.parametrize("step", STEPS)
def test_scales_go_into_the_kernel_and_shifts_into_the_bias(step):
    function, scale, shift = STEPS[step]
    a = check(lambda x: function(convolve(x, KERNEL)), kernel=KERNEL * scale, bias=shift)
    assert (a.kind, a.units, a.kernel_units) == ("conv", 3, 3)
    dense = weights((3, 4), 5)
    a = check(lambda x: function(x @ dense), VECTORS, kernel=dense * scale, bias=shift)
    assert (a.kind, a.units, a.kernel_units) == ("dense", 1, 1)


def test_a_map_without_more_has_its_kernel_and_no_bias():
    a = check(lambda x: convolve(x, KERNEL), kernel=KERNEL, bias=0)
    assert a.chain == ()
    check(lambda x: x @ weights((3, 4)), VECTORS, kernel=weights((3, 4)), bias=0)


def test_the_units_of_a_kernel_with_several_axes_are_its_last():
    kernel, factor = weights((3, 4, 5)), weights((5,), 2)
    a = check(lambda x: jnp.einsum("ni,ijk->njk", x, kernel) * factor, VECTORS, kernel=kernel * factor)
    assert (a.units, a.kernel_units) == (2, 2)
    # A factor for each place of another axis is no unit's.
    other = weights((4, 1), 2)
    kinds = [kind for kind, _ in names(lambda x: jnp.einsum("ni,ijk->njk", x, kernel) * other, VECTORS)]
    assert kinds == ["dense", "factor"]


def test_a_kernel_may_stand_on_the_left():
    kernel, factor = weights((4, 3)), weights((4, 1), 2)
    a = check(lambda x: (kernel @ x.T) * factor, VECTORS, kernel=kernel * factor)
    assert (a.units, a.kernel_units) == (0, 0)
    assert a.others[0] == a.node.operands[0]


def test_a_kernel_that_is_summed_up_has_no_units_and_takes_one_number():
    kernel, number = weights((3,)), jnp.float32(-2.5)
    a = check(lambda x: 1 - (x @ kernel) * number, VECTORS, kernel=kernel * 2.5, bias=1)
    assert (a.units, a.kernel_units) == (None, None)
    several = weights((2,), 2)
    assert [kind for kind, _ in names(lambda x: (x @ kernel) * several, VECTORS)] == ["dense", "factor"]


def test_an_axis_of_the_batch_is_no_unit():
    kernel = weights((2, 3, 4))
    a = check(lambda x: jnp.einsum("ni,nij->nj", x, kernel) * FACTOR, VECTORS, kernel=kernel * FACTOR)
    assert a.kernel_units == 2
    # Summed over all but the batch there is no unit left.
    rows = weights((2, 3), 5)
    a = check(lambda x: jnp.einsum("ni,ni->n", x, rows) * 2, VECTORS, kernel=2 * rows)
    assert a.kernel_units is None


def test_channels_first_have_their_units_first():
    def function(x):
        layout = ("NCHW", "OIHW", "NCHW")
        kernel = jnp.transpose(KERNEL, (3, 2, 0, 1))
        z = jax.lax.conv_general_dilated(jnp.moveaxis(x, -1, 1), kernel, (1, 1), "SAME", dimension_numbers=layout)
        return z * FACTOR[:, None, None] + SHIFT[:, None, None]

    a = check(function, kernel=jnp.transpose(KERNEL * FACTOR, (3, 2, 0, 1)), bias=SHIFT[:, None, None])
    assert (a.units, a.kernel_units) == (1, 0)


def test_a_change_of_layout_belongs_to_a_map_only_if_a_step_follows():
    flat = lambda z: z.reshape(2, 64, 4)
    assert names(lambda x: flat(convolve(x, KERNEL))) == [("conv", ["conv_general_dilated"])]
    a = check(lambda x: jnp.tanh(flat(convolve(x, KERNEL)) * FACTOR), kernel=KERNEL * FACTOR)
    assert [node.name for node in a.chain] == ["reshape", "mul"]
    a = check(lambda x: jnp.moveaxis(flat(convolve(x, KERNEL) + SHIFT), -1, 1), kernel=KERNEL)
    assert [node.name for node in a.chain] == ["add"]
    a = check(lambda x: jnp.moveaxis(convolve(x, KERNEL), -1, 1)[:, :, None] / FACTOR[:, None, None, None])
    assert [node.name for node in a.chain] == ["transpose", "broadcast_in_dim", "div"]


def test_after_a_change_of_layout_the_factor_is_looked_for_along_the_units_new_axis():
    first = lambda x: jnp.moveaxis(convolve(x, KERNEL), -1, 1)
    wrong = weights((8,), 6)
    assert names(lambda x: first(x) * wrong) == [("conv", ["conv_general_dilated"]), ("factor", ["mul"])]
    # Merged with an axis of space, the units have none of their own, and take one number.
    merged = lambda x: convolve(x, KERNEL).reshape(2, 8, 32)
    assert [kind for kind, _ in names(lambda x: merged(x) * weights((32,), 6))] == ["conv", "factor"]
    check(lambda x: merged(x) * 2 - 1, kernel=2 * KERNEL, bias=-1)


def test_repeating_a_value_ends_its_map():
    repeated = lambda x: jnp.broadcast_to(convolve(x, KERNEL)[:, :, :, None], (2, 8, 8, 5, 4)) * FACTOR
    assert names(repeated) == [("conv", ["conv_general_dilated"]), ("factor", ["mul"])]


def test_a_change_of_precision_is_kept_and_counting_ends_a_map():
    half = lambda x: convolve(x, KERNEL).astype(jnp.bfloat16) * jnp.bfloat16(2)
    assert names(half) == [("conv", ["conv_general_dilated", "convert_element_type", "mul"])]
    counted = lambda x: convolve(x, KERNEL).astype(jnp.int32) * 2
    assert names(counted) == [("conv", ["conv_general_dilated"])]
    assert names(lambda x: (x > 0).astype(jnp.float32) * 2 + 1) == [("scale", ["mul", "add"])]


def test_a_step_depends_on_one_value_and_does_not_divide_by_it():
    assert names(lambda x: x + x) == []
    assert names(lambda x: x / x) == []
    assert names(lambda x: FACTOR[:3] / x) == []
    assert names(lambda x: x / FACTOR[:3]) == [("factor", ["div"])]
    assert names(lambda x: -x) == [("factor", ["neg"])]
    assert names(lambda x: FACTOR[:3] - x) == [("scale", ["sub"])]
    assert names(lambda x: convolve(x, KERNEL) + x.mean()) == [
        ("conv", ["conv_general_dilated"]),
        ("mean", ["reduce_sum", "div"]),
    ]
    assert names(lambda x: jnp.maximum(x, 0.5) + 1) == [("scale", ["add"])]
    assert names(lambda x: jnp.tanh(x[..., :1]) * FACTOR) == []  # one number becomes four
    assert names(lambda x: jnp.tanh(x[..., :1]) + weights((8, 8, 4))) == []


def test_a_number_divided_by_a_convolution_ends_the_map():
    assert names(lambda x: 2 / convolve(x, KERNEL)) == [("conv", ["conv_general_dilated"])]


def test_factors_that_may_vary_elsewhere_than_along_the_units_are_no_part():
    def factor(how):
        return names(lambda x: convolve(x, KERNEL) * how(x))[0][1]

    row, number = weights((8, 1, 1), 5), weights((1,), 5)
    assert factor(lambda x: row) == ["conv_general_dilated"]
    assert factor(lambda x: number) == ["conv_general_dilated", "mul"]
    assert factor(lambda x: FACTOR * number) == ["conv_general_dilated", "mul"]
    assert factor(lambda x: FACTOR * row) == ["conv_general_dilated"]
    assert factor(lambda x: FACTOR / number - SHIFT) == ["conv_general_dilated", "mul"]
    assert factor(lambda x: jax.lax.rsqrt(FACTOR**2 + 1)) == ["conv_general_dilated", "mul"]
    wide = lambda x: jnp.broadcast_to(FACTOR, (8, 8, 4))
    rows = lambda x: jnp.broadcast_to(row, (8, 8, 4))
    assert factor(wide) == ["conv_general_dilated", "mul"]
    assert factor(lambda x: wide(x) + wide(x)) == ["conv_general_dilated", "mul"]
    assert factor(lambda x: wide(x) + rows(x)) == ["conv_general_dilated"]
    assert factor(lambda x: rows(x) * wide(x)) == ["conv_general_dilated"]
    assert factor(lambda x: jnp.sin(wide(x))) == ["conv_general_dilated"]  # not followed: it could vary anywhere
    images = weights((2, 1, 1, 1), 5)
    assert factor(lambda x: images) == ["conv_general_dilated"]


def test_a_kernel_made_of_the_input_is_none():
    def function(x):
        return jax.lax.conv_general_dilated(
            jnp.ones((1, 8, 8, 3)), x[0, :3, :3, :, None], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert [kind for kind, _ in names(function)] == []


SUMS = {
    "of an axis": (lambda x: x.sum(1), ["reduce_sum"]),
    "with a division": (lambda x: x.sum((1, 2)) / 7, ["reduce_sum", "div"]),
    "with a factor": (lambda x: 0.5 * x.sum((1, 2)), ["reduce_sum", "mul"]),
    "with a layout and a division": (
        lambda x: x.sum((1, 2)).reshape(2, 1, 3) / 7,
        ["reduce_sum", "reshape", "div"],
    ),
    "with a layout alone": (lambda x: x.sum((1, 2)).reshape(2, 1, 3), ["reduce_sum"]),
    "with a layout and a shift": (lambda x: jnp.tanh(x.sum((1, 2)).reshape(2, 1, 3) + 7), ["reduce_sum"]),
    "with a shift": (lambda x: x.sum((1, 2)) + 7, ["reduce_sum"]),
    "as a divisor": (lambda x: 7 / x.sum((1, 2)), ["reduce_sum"]),
    "times itself": (lambda x: (lambda s: s * s)(x.sum((1, 2))), ["reduce_sum"]),
    "times another": (lambda x: x.sum((1, 2)) * jnp.tanh(x[:, 0, 0]), ["reduce_sum"]),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_takes_the_factor_that_follows_it(name):
    function, expected = SUMS[name]
    (first, *_) = maps_of(function)
    a, source, result, others = first
    assert (a.kind, [node.name for node in a.nodes]) == ("mean", expected)
    np.testing.assert_allclose(a(source, *others), result, rtol=1e-6)


def test_a_sum_of_constants_is_no_map():
    assert names(lambda x: jnp.tanh(x) * jnp.ones((3, 3)).sum(0) ** 2) == [("factor", ["mul"])]


def test_maps_stand_in_the_order_of_evaluation_and_share_no_equation():
    def function(x):
        x = (x - 0.5) / 2
        x = jax.nn.relu(convolve(x, KERNEL) + SHIFT)
        return (x.mean((1, 2)) * FACTOR - 1) @ weights((4, 2))

    found = maps_of(function)
    assert [a.kind for a, *_ in found] == ["scale", "conv", "mean", "scale", "dense"]
    # But for a scale before a kernel, which is a map for others who read it, too.
    nodes = [id(node) for a, *_ in found for node in (a.node, *a.chain)]
    assert len(nodes) == len(set(nodes))
    assert [a.prescale is not None for a, *_ in found] == [False, True, False, False, True]


def test_a_run_of_steps_ends_before_a_kernel_s_own_and_where_somebody_else_reads():
    def between(x):
        y = jnp.tanh(x) * 2
        return (y + 1) * 3, y.sum()

    assert names(between)[0] == ("factor", ["mul"])
    assert ("scale", ["add", "mul"]) in names(between)
    returned = lambda x: (lambda y: (y, y + 1))(jnp.tanh(x) * 2)
    assert names(returned) == [("factor", ["mul"]), ("scale", ["add"])]


def test_other_values_are_named_once_the_kernel_first():
    a, *_ = maps_of(lambda x: (convolve(x, KERNEL) * FACTOR + SHIFT) * FACTOR)[0]
    assert a.others[0] == a.node.operands[1]
    assert len(a.others) == len(set(a.others))
    assert a.source == a.node.operands[0]

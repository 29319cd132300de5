"""Affine maps: one convolution or matrix product with all that shifts and scales it, by what the equations compute."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import IMAGES, KINDS, convolve, weights

from jaxcam.program.affine import affine_maps
from jaxcam.program.trace import replay, trace_model


def maps_of(model, x=IMAGES):
    """The program's affine maps, each with its source, result and other values."""
    program, arrays = trace_model(model, x)
    found = affine_maps(program, program.depending_on([program.inputs[-1]]))
    given = dict(zip(program.inputs, [*arrays, x], strict=True))
    return [(a, *replay(program, given, [a.source, a.result]), replay(program, given, a.others)) for a in found]


def kinds_of(model, x=IMAGES):
    return [(a.kind, [node.name for node in a.nodes]) for a, *_ in maps_of(model, x)]


KERNEL, FACTOR, SHIFT = weights((3, 3, 3, 4)), weights((4,), 2), weights((4,), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_kernel_and_bias_give_the_maps_own_result(kind):
    found = maps_of(KINDS[kind]())
    assert [a.kind for a, *_ in found] == ["conv", "conv", "mean", "dense"]
    for a, source, result, others in found:
        np.testing.assert_allclose(a(source, *others), result, rtol=1e-6, atol=1e-7)
        if a.kind != "mean":
            again = a.apply(source, a.kernel(*others), a.bias(source, *others), *others)
            np.testing.assert_allclose(again, result, rtol=1e-5, atol=1e-6)


def test_batch_norm_and_bias_belong_to_the_convolution_before_them():
    names = kinds_of(KINDS["nnx"]())[1][1]
    assert names == ["conv_general_dilated", "add", "sub", "mul", "add"]
    assert kinds_of(KINDS["equinox"]())[0][1] == ["conv_general_dilated", "reshape", "squeeze", "add"]


def test_a_value_that_somebody_else_reads_ends_the_map():
    def model(x):
        z = convolve(x, KERNEL)
        return z + SHIFT, jnp.tanh(z)

    assert kinds_of(model) == [("conv", ["conv_general_dilated"]), ("scale", ["add"])]


def test_a_value_that_is_returned_ends_the_map():
    def model(x):
        z = convolve(x, KERNEL)
        return z, z * FACTOR

    assert kinds_of(model) == [("conv", ["conv_general_dilated"]), ("factor", ["mul"])]


def test_a_factor_that_varies_over_space_is_no_part_of_a_kernel():
    mask = weights((8, 8, 1), 5)
    assert kinds_of(lambda x: convolve(x, KERNEL) * mask) == [("conv", ["conv_general_dilated"]), ("factor", ["mul"])]
    assert kinds_of(lambda x: convolve(x, KERNEL) * FACTOR) == [("conv", ["conv_general_dilated", "mul"])]


def test_a_shift_may_vary_over_space():
    found = maps_of(lambda x: (convolve(x, KERNEL) + weights((8, 8, 4), 5)) * FACTOR)
    (a, source, result, others) = found[0]
    assert [node.name for node in a.chain] == ["add", "mul"]
    np.testing.assert_allclose(
        a.apply(source, a.kernel(*others), a.bias(source, *others), *others), result, rtol=1e-5, atol=1e-5
    )


def test_a_batch_norm_beside_no_kernel_stands_alone():
    names = kinds_of(lambda x: jax.nn.relu((jax.nn.relu(x) - 0.5) / 2.0 * jnp.arange(3.0)))
    assert names == [("scale", ["sub", "div", "mul"])]


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"feature_group_count": 3}, (3, 3, 1, 6)),
        ({"rhs_dilation": (2, 2)}, (3, 3, 3, 4)),
        ({"lhs_dilation": (2, 2)}, (3, 3, 3, 4)),
    ],
    ids=["grouped", "dilated", "transposed"],
)
def test_grouped_dilated_and_transposed_convolutions_fold_their_scales(options, shape):
    kernel, factor = weights(shape), weights((shape[-1],), 2)

    def model(x):
        layout = ("NHWC", "HWIO", "NHWC")
        z = jax.lax.conv_general_dilated(x, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=layout, **options)
        return 3 - factor * z

    ((a, source, result, others),) = maps_of(model)
    assert [node.name for node in a.chain] == ["mul", "sub"]
    np.testing.assert_allclose(
        a.apply(source, a.kernel(*others), a.bias(source, *others), *others), result, rtol=1e-5, atol=1e-5
    )


def test_average_pooling_is_a_sum_with_its_division():
    def flax_pool(x):
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4

    assert kinds_of(flax_pool) == [("mean", ["reduce_window_sum", "div"])]
    assert kinds_of(lambda x: x.mean((1, 2))) == [("mean", ["reduce_sum", "div"])]
    kept = kinds_of(lambda x: x.mean((1, 2), keepdims=True))
    assert kept[0][1][0] == "reduce_sum"
    assert kept[0][1][-1] == "div"
    equinox = eqx.nn.AvgPool2d(2, 2)
    assert kinds_of(lambda x: jax.vmap(equinox)(x))[0][0] == "mean"


def test_a_product_of_two_values_of_the_input_is_no_affine_map():
    assert kinds_of(lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x)) == []
    assert kinds_of(lambda x: x * x) == []

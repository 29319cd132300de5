"""Which convolutions and pools are computed otherwise, to the pixel; programs only, nothing runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.program.rewrite import _needs_help, first_maximum, folds, rewrites, windows
from jaxcam.program.trace import replay, trace


def operations(image, kernel, strides=(1, 1), padding="SAME", dilation=(1, 1)):
    """The operations that a convolution becomes on a CPU, in order."""

    def function(x, k):
        return jax.lax.conv_general_dilated(
            x, k, strides, padding, rhs_dilation=dilation, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, *image, 3), (*kernel, 3, 4))]
    program = trace(function, *arguments)

    def replayed(*given):
        found = rewrites(program, "cpu")
        return replay(program, dict(zip(program.inputs, given, strict=True)), program.outputs, found)[0]

    return [node.name for node in trace(replayed, *arguments).nodes]


def is_product(*arguments, **options):
    names = operations(*arguments, **options)
    assert ("dot_general" in names) != ("custom_jvp_call" in names)  # which is a convolution in XLA's order of axes
    return "dot_general" in names


def test_a_convolution_is_a_product_where_its_kernel_is_larger_than_the_image_before_or_after():
    assert is_product((2, 9), (3, 3))
    assert is_product((9, 2), (3, 3))
    assert not is_product((3, 3), (3, 3))  # as large before and after
    assert is_product((3, 3), (3, 3), padding="VALID")  # one pixel after
    assert not is_product((5, 5), (3, 3), padding="VALID")
    assert is_product((4, 9), (3, 3), padding="VALID")
    assert is_product((5, 9), (3, 3), strides=(2, 1), padding="VALID")
    assert not is_product((5, 9), (3, 3), strides=(2, 1), padding=[(1, 1), (1, 1)])
    assert not is_product((7, 9), (3, 3), strides=(2, 1), padding="VALID")
    assert is_product((6, 9), (3, 3), strides=(2, 1), padding="VALID")


def test_the_holes_of_a_kernel_count():
    assert is_product((4, 9), (3, 3), dilation=(2, 1))
    assert not is_product((5, 9), (3, 3), dilation=(2, 1))
    assert is_product((9, 6), (3, 3), dilation=(1, 3))
    assert not is_product((9, 7), (3, 3), dilation=(1, 3))
    assert is_product((9, 9), (1, 1), dilation=(3, 3))  # of one place there are no holes


def test_a_kernel_of_one_place_is_a_product_wherever_it_stands():
    assert is_product((9, 9), (1, 1))
    assert is_product((9, 9), (1, 1), strides=(2, 3))
    assert not is_product((9, 9), (1, 2))
    assert not is_product((9, 9), (2, 1))


def pool_of(x, dtype=jnp.float32, **options):
    window, strides = (1, 2, 2, 1), (1, 2, 2, 1)
    low = -jnp.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min
    return jax.lax.reduce_window(
        x, np.array(low, dtype), jax.lax.max, window, strides, options.pop("padding", "VALID"), **options
    )


def is_saved(shape=(2, 6, 6, 3), dtype=jnp.float32, **options):
    program = trace(lambda x: pool_of(x, dtype, **options), jax.ShapeDtypeStruct(shape, dtype))
    return len(rewrites(program, "cpu")) == 1


def test_plain_pools_of_numbers_with_a_point_save_the_place_of_their_maximum():
    assert is_saved()
    assert is_saved(dtype=jnp.bfloat16)
    assert is_saved(padding="SAME", shape=(2, 5, 5, 3))
    assert not is_saved(dtype=jnp.int32)
    assert not is_saved(base_dilation=(1, 2, 2, 1))
    assert not is_saved(window_dilation=(1, 2, 1, 1))
    assert not is_saved(shape=(2, 1, 1, 3))  # no window fits


def test_only_cpus_need_help():
    assert _needs_help("cpu")
    assert not _needs_help("gpu")
    assert not _needs_help("tpu")
    assert _needs_help(None) == (jax.default_backend() == "cpu")
    program = trace(
        lambda x: pool_of(
            jax.lax.conv_general_dilated(
                x, jnp.ones((3, 3, 3, 4)), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            * 2
        ),
        jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32),
    )
    for platform in ("gpu", "tpu"):
        assert rewrites(program, platform) == folds(program, platform) == {}
    assert len(folds(program, "cpu")) == 1
    assert len(rewrites(program, "cpu")) == 2


def test_windows_are_read_row_by_row_and_of_equal_places_the_first_wins():
    x = jnp.arange(12.0).reshape(1, 3, 4, 1)
    params = {"window_dimensions": (1, 2, 2, 1), "window_strides": (1, 1, 2, 1), "padding": ((0, 0),) * 4}
    found = windows(x, params)
    assert [place[0, ..., 0].tolist() for place in found] == [
        [[0, 2], [4, 6]],
        [[1, 3], [5, 7]],
        [[4, 6], [8, 10]],
        [[5, 7], [9, 11]],
    ]
    padded = windows(x, {**params, "padding": ((0, 0), (1, 0), (0, 0), (0, 0))})
    assert np.isneginf(padded[0][0, 0]).all()
    assert padded[2][0, 0, :, 0].tolist() == [0, 2]
    places = [jnp.array([1.0, 5.0, 7.0]), jnp.array([4.0, 5.0, 7.0]), jnp.array([4.0, 2.0, 7.0])]
    masks = first_maximum(places, jnp.array([4.0, 5.0, 7.0]))
    assert [mask.tolist() for mask in masks] == [[False, True, True], [True, False, False], [False, False, False]]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_precision_that_was_asked_for_is_kept(dtype):
    for size in (2, 9):

        def function(x, k):
            return jax.lax.conv_general_dilated(
                x,
                k,
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
                precision="highest",
                preferred_element_type=jnp.float32,
            )

        arguments = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((2, size, size, 3), (3, 3, 3, 4))]
        program = trace(function, *arguments)

        def replayed(*given, program=program):
            values = dict(zip(program.inputs, given, strict=True))
            return replay(program, values, program.outputs, rewrites(program, "cpu"))[0]

        result = jax.eval_shape(replayed, *arguments)
        assert result.dtype == jnp.float32
        product = next(
            node
            for node in trace(replayed, *arguments).nodes
            if node.name in {"dot_general", "conv_general_dilated", "custom_jvp_call"}
        )
        if product.name != "custom_jvp_call":
            assert "HIGHEST" in str(product.params["precision"])

"""`accelerate` changes how a program is computed, never what: every rewrite against the plain program."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from program_nets import HARDEST_FIRST, IMAGES, KINDS, flax_nnx, max_pool, weights

from jaxcam.program import accelerate, guided, tap
from jaxcam.program.rewrite import rewrites
from jaxcam.program.trace import trace

ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="programs are rewritten on CPUs only")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def same(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), found, expected)
    jax.tree.map(lambda a, b: np.testing.assert_equal(a.dtype, b.dtype), found, expected)


def operations(function, *arguments):
    return [node.name for node in trace(accelerate(function), *arguments).nodes]


def convolution(strides=(1, 1), padding="SAME", dilation=(1, 1), groups=1, numbers=("NHWC", "HWIO", "NHWC")):
    def function(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            feature_group_count=groups,
            dimension_numbers=numbers,
        )

    return function


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def agrees(function, *arguments, forward=True):
    """Values, reverse-mode and forward-mode derivatives, alone and under vmap, of a function and of its faster twin."""

    def everything(function, arguments):
        outputs, pull = jax.vjp(function, *arguments)
        found = [outputs, pull(normal(*outputs.shape, seed=1))]
        if forward:
            tangents = tuple(normal(*argument.shape, seed=2) for argument in arguments)
            found.append(jax.jvp(function, arguments, tangents)[1])
        stacked = tuple(jnp.stack([argument, -argument]) for argument in arguments)
        found.append(jax.vmap(function)(*stacked))
        return found

    # Arguments, not constants: an old XLA folds the derivative of a constant's convolution to wrong numbers.
    found, expected = (jax.jit(functools.partial(everything, f))(arguments) for f in (accelerate(function), function))
    same(found, expected)


SIZES = [(1, 1), (2, 2), (1, 3), (3, 2)]
LAYOUTS = {
    "same": {},
    "valid": {"padding": "VALID"},
    "strided": {"strides": (2, 2)},
    "strided in one direction": {"strides": (1, 3), "padding": [(1, 1), (1, 1)]},
    "one row of padding": {"padding": [(1, 1), (1, 1)]},
    "uneven padding": {"padding": [(2, 0), (0, 3)]},
    "wide padding": {"padding": [(5, 4), (4, 5)], "strides": (2, 3)},
    "dilated": {"dilation": (2, 1)},
    "dilated and strided": {"dilation": (2, 3), "strides": (2, 1), "padding": [(4, 4), (6, 6)]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 1)])
def test_convolutions_of_small_images_keep_their_values(kernel, layout):
    function = convolution(**LAYOUTS[layout])

    def all_sizes(function, arguments):
        return [function(*one) for one in arguments]

    arguments = [(normal(2, *size, 3), normal(*kernel, 3, 4, seed=1)) for size in SIZES]
    same(
        jax.jit(lambda a: all_sizes(accelerate(function), a))(arguments),
        jax.jit(lambda a: all_sizes(function, a))(arguments),
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_convolutions_of_small_images_keep_their_derivatives(layout):
    agrees(convolution(**LAYOUTS[layout]), normal(2, 2, 2, 3), normal(3, 3, 3, 4, seed=1))


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", ["VALID", [(1, 0), (0, 2)]])
def test_pointwise_convolutions_keep_values_and_derivatives(strides, padding):
    agrees(convolution(strides, padding), normal(2, 5, 6, 3), normal(1, 1, 3, 4, seed=1))


@pytest.mark.parametrize(
    "numbers",
    [("NCHW", "OIHW", "NCHW"), ("HWNC", "HWIO", "NHWC"), ("NHWC", "OHWI", "NCHW"), ("CNHW", "IOHW", "HWCN")],
    ids="-".join,
)
def test_the_order_of_dimensions_is_kept(numbers):
    sides = {"N": 2, "C": 3, "H": 2, "W": 3, "I": 3, "O": 4}
    image = normal(*(sides[letter] for letter in numbers[0]))
    kernel = normal(*({**sides, "H": 3, "W": 5}[letter] for letter in numbers[1]), seed=1)
    agrees(convolution(numbers=numbers), image, kernel)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "wide padding"])
def test_convolutions_of_large_images_keep_values_and_derivatives(layout):
    agrees(convolution(**LAYOUTS[layout]), normal(2, 9, 8, 3), normal(3, 3, 3, 4, seed=1))


@pytest.mark.parametrize("numbers", [("NCHW", "OIHW", "NCHW"), ("NHWC", "OHWI", "NCHW")], ids="-".join)
def test_the_order_of_dimensions_is_kept_for_large_images_too(numbers):
    sides = {"N": 2, "C": 3, "H": 8, "W": 7, "I": 3, "O": 4}
    image = normal(*(sides[letter] for letter in numbers[0]))
    kernel = normal(*({**sides, "H": 3, "W": 5}[letter] for letter in numbers[1]), seed=1)
    agrees(convolution((2, 1), numbers=numbers), image, kernel)


def test_second_derivatives_of_large_convolutions_are_kept():
    def twice(convolve):
        def gradient(x, kernel):
            return jax.grad(lambda x, kernel: jnp.sum(jnp.tanh(convolve(x, kernel))), (0, 1))(x, kernel)

        return jax.vjp(gradient, normal(1, 6, 6, 2), normal(3, 3, 2, 3))[1](
            (normal(1, 6, 6, 2, seed=1), normal(3, 3, 2, 3, seed=2))
        )

    same(twice(accelerate(convolution())), twice(convolution()))


@ON_CPU
@pytest.mark.optimized
@pytest.mark.parametrize("numbers", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")], ids="-".join)
def test_in_a_loop_convolutions_and_their_way_back_are_in_the_order_xla_is_fast_at(numbers):
    image = normal(2, 16, 16, 4) if numbers[0] == "NHWC" else normal(2, 4, 16, 16)
    kernel = normal(*(4 if letter in "IO" else 3 for letter in numbers[1]))

    def looped(function):
        gradient = jax.grad(lambda x: jnp.sum(jnp.tanh(function(x, kernel))))

        def steps(x):
            return jax.lax.scan(lambda total, scale: (total + gradient(scale * x), None), x, jnp.arange(3.0))[0]

        text = jax.jit(steps).lower(image).compile().as_text()
        return set(re.findall(r"dim_labels=(\w+->\w+)", text))

    assert looped(accelerate(convolution(numbers=numbers))) == {"b01f_01io->b01f"}
    assert looped(convolution(numbers=numbers)) != {"b01f_01io->b01f"}


def test_a_kernel_that_meets_only_padding_gives_zero():
    # One pixel, every second place of a border of one: each place of the 1×1 kernel is in the padding.
    function = convolution((2, 2), [(1, 1), (1, 1)])
    arguments = normal(1, 1, 1, 3), normal(1, 1, 3, 4)
    np.testing.assert_array_equal(accelerate(function)(*arguments), jnp.zeros((1, 2, 2, 4)))
    agrees(function, *arguments)


def test_results_without_elements_are_left_alone():
    empty = accelerate(convolution(padding="VALID"))(normal(2, 1, 1, 3), normal(3, 3, 3, 4))
    assert empty.shape == (2, 0, 0, 4)
    assert accelerate(lambda x: max_pool(x, 3))(normal(2, 2, 2, 3)).shape == (2, 0, 0, 3)


def test_cropping_by_negative_padding_is_cropping():
    # Against a crop written out: XLA's own convolution on CPUs has been seen to read past the image here.
    image, kernel = normal(2, 5, 5, 3), normal(5, 5, 3, 4)
    found = accelerate(convolution(padding=[(-1, 1), (0, 0)]))(image, kernel)
    expected = convolution(padding="VALID")(jnp.pad(image[:, 1:], ((0, 0), (0, 1), (0, 0), (0, 0))), kernel)
    np.testing.assert_allclose(found, expected, **TOLERANCE)


LEFT_ALONE = {
    "grouped": (convolution(groups=3), (2, 2, 2, 3), (3, 3, 1, 6)),
    "with one axis": (convolution((1,), "SAME", (1,), 1, ("NHC", "HIO", "NHC")), (2, 2, 3), (3, 3, 4)),
    "with three axes": (
        convolution((1,) * 3, "SAME", (1,) * 3, 1, ("NDHWC", "DHWIO", "NDHWC")),
        (2, 2, 2, 2, 3),
        (3, 3, 3, 3, 4),
    ),
    "transposed": (lambda x, kernel: jax.lax.conv_transpose(x, kernel, (2, 2), "SAME"), (2, 2, 2, 3), (3, 3, 3, 4)),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_other_convolutions_are_left_alone_and_keep_their_values(kind):
    function, image, kernel = LEFT_ALONE[kind]
    arguments = normal(*image), normal(*kernel)
    assert "conv_general_dilated" in operations(function, *arguments)
    same(accelerate(function)(*arguments), function(*arguments))


@ON_CPU
@pytest.mark.parametrize(("size", "kernel"), list(itertools.product([(1, 1), (2, 2)], [(3, 3), (5, 5)])))
def test_no_small_convolution_is_left_in_the_program(size, kernel):
    arguments = normal(2, *size, 3), normal(*kernel, 3, 4)
    assert "conv_general_dilated" in [node.name for node in trace(convolution(), *arguments).nodes]
    assert "conv_general_dilated" not in operations(convolution(), *arguments)
    gradient = jax.grad(lambda x, kernel: accelerate(convolution())(x, kernel).sum(), (0, 1))
    assert "conv_general_dilated" not in [node.name for node in trace(gradient, *arguments).nodes]


@ON_CPU
def test_only_the_taps_that_meet_the_image_remain():
    program = trace(accelerate(convolution()), normal(2, 1, 1, 3), normal(3, 3, 3, 4))
    (product,) = [node for node in program.nodes if node.name == "dot_general"]
    # On a 1×1 image the middle of the kernel is all there is: a 3 × 4 matrix, not 27 × 4.
    assert program.avals[product.operands[1]].shape == (3, 4)


POOLS = {
    "2 by 2": (lambda x: max_pool(x), (2, 4, 6, 3)),
    "with a remainder": (lambda x: max_pool(x), (2, 5, 7, 3)),
    "overlapping": (lambda x: max_pool(x, 3, 2), (2, 7, 7, 3)),
    "overlapping, over the edge": (lambda x: max_pool(x, 3, 2, "SAME"), (2, 6, 5, 3)),
    "dense": (lambda x: max_pool(x, 3, 1, "SAME"), (2, 4, 4, 3)),
    "with gaps": (lambda x: max_pool(x, 2, 3), (2, 5, 8, 3)),
    "padded": (lambda x: max_pool(x, 2, 2, [(0, 0), (1, 1), (1, 1), (0, 0)]), (2, 3, 3, 3)),
    "of one pixel": (lambda x: max_pool(x, 3, 1, "SAME"), (2, 1, 1, 3)),
    "over all of it": (lambda x: max_pool(x, 4, 4), (2, 4, 4, 3)),
    "over channels": (
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 1, 3), (1, 1, 1, 3), "VALID"),
        (2, 2, 2, 6),
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_max_pools_keep_values_and_derivatives(name):
    pool, shape = POOLS[name]
    agrees(pool, normal(*shape))


@pytest.mark.parametrize("name", ["2 by 2", "overlapping, over the edge", "padded"])
def test_on_ties_the_first_maximum_takes_the_gradient_as_in_xla(name):
    pool, shape = POOLS[name]
    # Zeros and ones: nearly every window ties. Forward mode is left out: there XLA breaks ties otherwise than in its
    # own reverse mode, and the saved argmax is the reverse mode's.
    x = jnp.asarray(np.random.default_rng(3).integers(0, 2, shape), jnp.float32)
    agrees(pool, x, forward=False)
    seed, tangent = normal(*jax.eval_shape(pool, x).shape, seed=4), normal(*shape, seed=5)
    _, forward = jax.jvp(accelerate(pool), (x,), (tangent,))
    (backward,) = jax.vjp(accelerate(pool), x)[1](seed)
    np.testing.assert_allclose(jnp.vdot(forward, seed), jnp.vdot(tangent, backward), rtol=1e-4)


@ON_CPU
def test_no_scalar_loop_is_left_in_the_gradient_of_a_pool():
    gradient = lambda function: [n.name for n in trace(jax.grad(lambda x: function(x).sum()), normal(2, 4, 4, 3)).nodes]
    assert any("select_and" in name for name in gradient(max_pool))
    assert not any("select_and" in name for name in gradient(accelerate(max_pool)))


def test_pools_of_integers_and_second_derivatives_are_kept():
    pool = lambda x: jax.lax.reduce_window(
        x, jnp.iinfo(jnp.int32).min, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    integers = jnp.arange(32).reshape(1, 4, 4, 2)
    np.testing.assert_array_equal(accelerate(pool)(integers), pool(integers))
    x = normal(1, 4, 4, 2)
    curve = lambda function: jax.jit(jax.hessian(lambda x: (function(x) ** 2).sum()))(x)
    same(curve(accelerate(max_pool)), curve(max_pool))


@pytest.mark.parametrize("kind", HARDEST_FIRST)
def test_a_whole_model_keeps_values_and_gradients(kind):
    model, x = KINDS[kind](), IMAGES[:, :4, :4]
    score = lambda function: jax.jit(jax.value_and_grad(lambda x: function(x)[:, 1].sum()))(x)
    same(score(accelerate(model)), score(model))


def test_weights_get_the_same_gradients_in_training():
    model = flax_nnx()
    structure, parameters, rest = nnx.split(model, nnx.Param, ...)

    def loss(parameters, x):
        return (nnx.merge(structure, parameters, rest)(x) ** 2).sum()

    found, expected = (jax.jit(jax.grad(f))(parameters, IMAGES[:, :2, :2]) for f in (accelerate(loss), loss))
    same(found, expected)


def test_rewrites_go_with_taps_and_rules():
    model = flax_nnx()
    x = IMAGES[:, :2, :2]
    gradient = lambda function: jax.jit(jax.grad(lambda x: function(x).sum()))(x)
    same(gradient(accelerate(guided(tap(model, "add_0")))), gradient(guided(tap(model, "add_0"))))


def test_arguments_and_results_of_any_structure_are_kept():
    def function(batch, scale, nothing):
        assert nothing is None
        return {"sum": batch["x"].sum() * scale, "shapes": (batch["x"] * 2, None)}

    found = accelerate(function)({"x": jnp.arange(3.0)}, 2.0, None)
    assert found["sum"] == 6
    assert found["shapes"][1] is None
    np.testing.assert_array_equal(found["shapes"][0], [0, 2, 4])


def test_a_function_keeps_its_name_and_a_model_needs_none():
    def loss(x):
        return x

    assert accelerate(loss).__name__ == "loss"
    assert accelerate(Partial(loss))(jnp.ones(2)).shape == (2,)


def test_random_numbers_stay_the_same():
    function = lambda key: jax.random.normal(key, (3,))
    np.testing.assert_array_equal(accelerate(function)(jax.random.key(0)), function(jax.random.key(0)))


def test_half_precision_stays_half_precision():
    arguments = normal(2, 2, 2, 3).astype(jnp.bfloat16), normal(3, 3, 3, 4).astype(jnp.bfloat16)
    found = accelerate(convolution())(*arguments)
    assert found.dtype == jnp.bfloat16
    exact = convolution()(*(argument.astype(jnp.float32) for argument in arguments))
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=0.05, atol=0.1)


def test_devices_that_need_no_help_get_the_program_as_it_is():
    program = trace(lambda x: max_pool(convolution()(x, weights((3, 3, 3, 4)))), normal(2, 2, 2, 3))
    assert rewrites(program, "gpu") == rewrites(program, "tpu") == {}
    assert len(rewrites(program, "cpu")) == 2

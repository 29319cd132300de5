"""Where the images and the units of a value are, and whether images meet, equation by equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import weights

from jaxcam.program.axes import follow_axes
from jaxcam.program.batch import batch_dependence
from jaxcam.program.trace import split, trace

X = jnp.ones((2, 4, 5, 3))
Y = weights((2, 4, 5, 3))


def axes_of(function, x=X):
    """The image and the unit axis of what a function of images gives."""
    program = trace(function, x)
    live = program.depending_on(program.inputs)
    return tuple(follow_axes(program, program.inputs[0], live)[program.outputs[0]])


KEPT = {
    "channels first": (lambda x: jnp.moveaxis(x, -1, 1), (0, 1)),
    "all axes turned": (lambda x: x.transpose(3, 2, 1, 0), (3, 0)),
    "rows and columns exchanged": (lambda x: x.transpose(0, 2, 1, 3), (0, 3)),
    "summed over space": (lambda x: x.sum((1, 2)), (0, 1)),
    "summed over rows": (lambda x: x.sum(1), (0, 2)),
    "summed over images": (lambda x: x.sum(0), (None, 2)),
    "summed over units": (lambda x: x.sum(3), (0, None)),
    "largest over space": (lambda x: x.max((1, 2)), (0, 1)),
    "an axis in front": (lambda x: x[None], (1, 4)),
    "an axis at the end": (lambda x: x[..., None], (0, 3)),
    "an axis in the middle": (lambda x: x[:, :, None], (0, 4)),
    "an axis taken away": (lambda x: x[:, :, :1].squeeze(2), (0, 2)),
    "two axes taken away": (lambda x: x[:, :1, :1].squeeze((1, 2)), (0, 1)),
    "the axis of one image taken away": (lambda x: x[:1].squeeze(0), (None, 2)),
    "space flat": (lambda x: x.reshape(2, 20, 3), (0, 2)),
    "as long an axis, but another one": (lambda x: x.reshape(3, 2, 20), (None, None)),
    "a longer one of the same length": (lambda x: x[:, :, :3].reshape(2, 3, 4, 3), (0, 3)),
    "all flat": (lambda x: x.reshape(2, 60), (0, None)),
    "images and rows flat": (lambda x: x.reshape(8, 5, 3), (None, 2)),
    "units cut in two": (lambda x: x[..., :2].reshape(2, 4, 5, 2, 1), (0, 3)),
    "space cut": (lambda x: x.reshape(2, 2, 2, 5, 3), (0, 4)),
    "one image repeated": (lambda x: jnp.broadcast_to(x[:1], (2, 4, 5, 3)), (None, 3)),
    "one unit repeated": (lambda x: jnp.broadcast_to(x[..., :1], (2, 4, 5, 3)), (0, None)),
    "stacked in front": (lambda x: jnp.stack([x, x]), (1, 4)),
    "stacked before units": (lambda x: jnp.stack([x, x], 3), (0, 4)),
    "stacked after units": (lambda x: jnp.stack([x, x], 4), (0, 3)),
    "unstacked rows": (lambda x: jnp.unstack(x, axis=1)[1], (0, 2)),
    "unstacked units": (lambda x: jnp.unstack(x, axis=3)[1], (0, None)),
    "unstacked images": (lambda x: jnp.unstack(x, axis=0)[1], (None, 2)),
    "split": (lambda x: jnp.split(x, 2, 1)[1], (0, 3)),
    "concatenated": (lambda x: jnp.concatenate([x, x], -1), (0, 3)),
    "sorted": (lambda x: jnp.sort(x, 1), (0, 3)),
    "times a mean of all": (lambda x: x.mean() * x, (0, 3)),
    "a mean of all times it": (lambda x: x * x.mean(), (0, 3)),
    "a mean of all": (lambda x: x.mean(), (None, None)),
    "a running sum": (lambda x: jnp.cumsum(x, 1), (0, 3)),
    "places of the largest": (lambda x: jnp.argmax(x, -1), (None, None)),
    "rows of a matrix product": (lambda x: x @ weights((3, 7)), (0, 3)),
    "a kernel in front": (lambda x: jnp.einsum("ij,nhwj->inhw", weights((7, 3)), x), (1, 0)),
    "a kernel of one unit": (lambda x: jnp.einsum("nhwc,c->nhw", x, weights((3,))), (0, None)),
    "a kernel with two axes of units": (lambda x: jnp.tensordot(x, weights((3, 5, 7)), 1), (0, 4)),
    "a kernel for each image": (lambda x: jnp.einsum("nhwc,ncd->nhwd", x, weights((2, 3, 7))), (0, 3)),
    "a kernel for each column": (lambda x: jnp.einsum("nhwc,wcd->wnhd", x, weights((5, 3, 7))), (1, 3)),
    "a kernel over images": (lambda x: jnp.einsum("nhwc,nd->hwcd", x, weights((2, 7))), (None, 3)),
    "a kernel over space": (lambda x: jnp.einsum("nhwc,hwd->ncd", x, weights((4, 5, 7))), (0, 2)),
    "images times images": (lambda x: jnp.einsum("nhwc,mhwc->nm", x, x), (None, None)),
    "under vmap, images last": (lambda x: jax.vmap(lambda image: image.sum(0), 0, -1)(x), (2, 1)),
}


@pytest.mark.parametrize("name", KEPT)
def test_axes_are_followed(name):
    function, expected = KEPT[name]
    assert axes_of(function) == expected


def test_a_convolution_says_itself_where_its_axes_are():
    for layout, expected in (("NHWC", (0, 3)), ("NCHW", (0, 1)), ("CHWN", (3, 0)), ("HWNC", (2, 3))):

        def convolve(x, layout=layout):
            numbers = ("NHWC", "HWIO", layout)
            return jax.lax.conv_general_dilated(x, weights((3, 3, 3, 7)), (1, 1), "SAME", dimension_numbers=numbers)

        assert axes_of(convolve) == expected


def test_axes_of_length_one_are_told_apart_by_their_order():
    assert axes_of(lambda x: x.reshape(1, 1), jnp.ones((1, 1, 1, 1))) == (0, 1)
    assert axes_of(lambda x: x.reshape(1), jnp.ones((1, 1, 1, 1))) == (0, None)
    assert axes_of(lambda x: x.reshape(1, 1, 1, 1, 1), jnp.ones((1, 1, 1, 1))) == (0, 4)
    assert axes_of(lambda x: x.reshape(2, 1), jnp.ones((2, 1, 1, 1))) == (0, 1)
    assert axes_of(lambda x: x.reshape(1, 3), jnp.ones((1, 1, 1, 3))) == (0, 1)


def test_of_several_results_each_has_the_axes_of_its_own_operand():
    def sorted_together(x, which):
        first, second = jax.lax.sort((x, jnp.moveaxis(x, -1, 0).reshape(x.shape)), dimension=1, num_keys=1)
        return (first, second)[which]

    assert axes_of(lambda x: sorted_together(x, 0)) == (0, 3)
    barrier = lambda x, which: jax.lax.optimization_barrier((x.sum((1, 2)), jnp.moveaxis(x, -1, 1)))[which]
    assert axes_of(lambda x: barrier(x, 0)) == (0, 1)
    assert axes_of(lambda x: barrier(x, 1)) == (0, 1)
    turned = lambda x, which: jax.lax.optimization_barrier((x, jnp.moveaxis(x, -1, 1)))[which]
    assert [axes_of(lambda x, i=i: turned(x, i)) for i in range(2)] == [(0, 3), (0, 1)]


def complaint(model, shape=(4, 6, 5, 3)):
    arrays, static = split(model)
    return batch_dependence(static, arrays, jax.ShapeDtypeStruct(shape, jnp.float32))


def pool(x, window):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, (1, 1, 1, 1), "VALID")


MIXING = {
    "a window over images": (lambda x: pool(x, (2, 1, 1, 1)), "reduce_window_max"),
    "the place of the largest image": (lambda x: jnp.argmax(x, 0), "argmax"),
    "images and space summed": (lambda x: x.sum((0, 1, 2)), "reduce_sum"),
    "images last, summed": (lambda x: jnp.moveaxis(x, 0, -1).sum(-1), "reduce_sum"),
    "images in a product, on the left": (lambda x: x.mean((1, 2)).T @ weights((4, 2)), "dot_general"),
    "images in a product, on the right": (lambda x: weights((2, 4)) @ x.mean((1, 2)), "dot_general"),
    "images with themselves": (lambda x: jnp.einsum("ni,nj->ij", x.mean((1, 2)), x.mean((1, 2))), "dot_general"),
    "the largest two images": (lambda x: jax.lax.top_k(x.mean((1, 2)).T, 2)[0], "top_k"),
    "a running maximum": (lambda x: jax.lax.cummax(x, 0), "cummax"),
    "sorted": (lambda x: jnp.sort(x, 0), "sort"),
}
APART = {
    "a window over rows": lambda x: pool(x, (1, 2, 1, 1)),
    "a window over all but images": lambda x: pool(x, (1, 6, 5, 3)),
    "the place of the largest unit": lambda x: jnp.argmax(x, -1),
    "space summed": lambda x: x.sum((1, 2)),
    "units in a product": lambda x: x.mean((1, 2)) @ weights((3, 2)),
    "units in a product, on the right": lambda x: weights((2, 3)) @ x.mean((1, 2)).T,
    "images side by side in a product": lambda x: jnp.einsum("ni,nj->nij", x.mean((1, 2)), x.mean((1, 2))),
    "the largest two units": lambda x: jax.lax.top_k(x.mean((1, 2)), 2)[0],
    "a running maximum of rows": lambda x: jax.lax.cummax(x, 1),
    "sorted rows": lambda x: jnp.sort(x, 1),
    "a gather": lambda x: x[:, jnp.array([0, 2])],
}


@pytest.mark.parametrize("name", MIXING)
def test_images_that_meet_are_named_with_the_equation(name):
    function, operation = MIXING[name]
    found = complaint(function)
    assert f", '{operation}' after " in found
    assert " works along the images" in found
    index = int(found.split("equation ")[1].split(",")[0])
    assert trace(function, jax.ShapeDtypeStruct((4, 6, 5, 3), jnp.float32)).nodes[index].name == operation


@pytest.mark.parametrize("name", APART)
def test_images_that_do_not_meet_pass(name):
    assert complaint(APART[name]) is None


def test_what_does_not_reach_the_outputs_does_not_count():
    assert complaint(lambda x: (x.sum(0), x.mean((1, 2)))[1]) is None
    drawn = lambda x: (jax.random.normal(jax.random.key(0), x.shape), x.mean((1, 2)))[1]
    assert complaint(drawn) is None
    assert "works along the images" in complaint(lambda x: (x.mean((1, 2)), x.sum(0)))


def test_chance_is_named_before_what_comes_of_it():
    found = complaint(lambda x: x.mean((1, 2)) + jax.random.normal(jax.random.key(0), (4, 3)))
    assert found.startswith("the model draws random numbers: equation ")
    assert any(f"'{name}'" in found for name in ("random_bits", "random_fold_in", "random_split", "threefry2x32"))


def test_for_one_image_the_model_is_looked_at_with_two():
    """With one, an axis of length 1 could be any; a model that takes but one is looked at with that one."""
    assert "works along the images" in complaint(lambda x: x.mean((1, 2)) - x.mean((0, 1, 2)), (1, 6, 5, 3))
    centered = lambda x: x.mean((1, 2)) - (x.mean((0, 1, 2)) if len(x) > 1 else 0)
    assert "works along the images" in complaint(centered, (1, 6, 5, 3))
    assert complaint(lambda x: x.mean((1, 2)), (1, 1, 1, 1)) is None
    assert complaint(lambda x: x.reshape(1, -1) @ jnp.ones((90, 2)), (1, 6, 5, 3)) is None
    assert complaint(lambda x: x.sum((1, 2)) / np.float32(x.shape[0]), (1, 6, 5, 3)) is None

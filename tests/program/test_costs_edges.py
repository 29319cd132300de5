"""Receptive fields to the pixel, work to the operation, and who reads whom: against gradients and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import weights

import jaxcam as jc
from jaxcam.program.costs import View, _follow, _joined, _operations, costs, edges
from jaxcam.program.trace import trace

X = jnp.ones((1, 14, 11, 1))


def convolve(x, kernel, strides=(1, 1), padding="VALID", **options):
    layout = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.ones(kernel)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=layout, **options)


def pooled(x, window, strides, padding="VALID"):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *window, 1), (1, *strides, 1), padding)


def views_of(function):
    program = trace(function, X)
    return _follow(program, program.inputs[0], program.depending_on(program.inputs))[program.outputs[0]]


SEEN = {
    "a window": lambda x: convolve(x, (3, 2, 1, 1)),
    "strides": lambda x: convolve(x, (3, 2, 1, 1), (2, 3)),
    "padding before and after": lambda x: convolve(x, (3, 4, 1, 1), padding=[(2, 0), (1, 3)]),
    "dilation": lambda x: convolve(x, (3, 2, 1, 1), rhs_dilation=(2, 4)),
    "two windows": lambda x: convolve(convolve(x, (2, 3, 1, 1), (2, 1), [(1, 0), (0, 2)]), (3, 2, 1, 1), (1, 2)),
    "pooled": lambda x: pooled(x, (3, 2), (2, 2), ((0, 0), (1, 0), (0, 1), (0, 0))),
    "pooled after strides": lambda x: pooled(convolve(x, (1, 2, 1, 1), (2, 1)), (2, 3), (2, 1)),
    "sliced": lambda x: x[:, 3:, 2:9],
    # Written out: x[:, 1::2, ::3] is a gather in JAX 0.8 and 0.9.
    "sliced by steps": lambda x: convolve(jax.lax.slice(x, (0, 1, 0, 0), x.shape, (1, 2, 3, 1)), (2, 2, 1, 1)),
    "padded": lambda x: convolve(jnp.pad(x, ((0, 0), (2, 1), (3, 0), (0, 0))), (3, 3, 1, 1)),
    "padded after strides": lambda x: jnp.pad(convolve(x, (2, 2, 1, 1), (2, 2)), ((0, 0), (1, 1), (2, 0), (0, 0))),
    "the second half": lambda x: convolve(jnp.split(x, [5], 1)[1], (2, 1, 1, 1)),
    "the last of three": lambda x: jnp.split(convolve(x, (2, 1, 1, 1), (2, 1)), [2, 3], 1)[2],
    "split along columns": lambda x: jnp.split(x, [3, 7], 2)[1],
    "turned": lambda x: jnp.swapaxes(convolve(jnp.swapaxes(x, 1, 2), (3, 1, 1, 1), (2, 1)), 1, 2),
    "one row taken out": lambda x: jnp.unstack(convolve(x, (3, 3, 1, 1)), axis=3)[0][..., None],
    "an axis more and less": lambda x: convolve(x, (3, 3, 1, 1))[:, :, :, None].squeeze(3),
    "a kernel of one place": lambda x: convolve(x, (3, 2, 1, 1), (2, 1)) @ jnp.ones((1, 1)),
    "a kernel in front": lambda x: jnp.einsum("ij,nhwj->nhwi", jnp.ones((1, 1)), convolve(x, (3, 2, 1, 1), (2, 1))),
    "a sum of two": lambda x: x[:, 2:-1] + convolve(x, (4, 1, 1, 1)),
    "a sum of two windows": lambda x: (
        convolve(x, (3, 3, 1, 1), padding=[(2, 0), (0, 2)]) + convolve(x, (2, 1, 1, 1), padding=[(0, 1), (0, 0)])
    ),
    "side by side": lambda x: jnp.concatenate([x, convolve(x, (3, 1, 1, 1), padding="SAME")], 3).sum(3, keepdims=True),
    "behind a barrier": lambda x: jax.lax.optimization_barrier((convolve(x, (5, 5, 1, 1)), convolve(x, (3, 1, 1, 1))))[
        1
    ],
}


@pytest.mark.parametrize("name", SEEN)
def test_a_view_is_what_a_gradient_reaches(name):
    """Each place of the value: the pixels from start + i·step on, as far as they are in the image."""
    function = SEEN[name]
    views = views_of(function)
    value = jax.eval_shape(function, X)
    assert set(views) >= {1, 2}
    assert (views[1].axis, views[2].axis) == (1, 2)
    reached = np.asarray(jax.jit(jax.jacrev(lambda x: function(x)[0, ..., 0]))(X))[..., 0, :, :, 0] != 0
    for i, j in np.ndindex(value.shape[1:3]):
        for axis, place, pixels in ((1, i, reached[i, j].any(1)), (2, j, reached[i, j].any(0))):
            view = views[axis]
            start = view.start + place * view.step
            seen = range(max(start, 0), min(start + view.size, len(pixels)))
            there = np.flatnonzero(pixels)
            if len(there) == 0:  # only padding
                continue
            assert there.min() == (seen[0] if view.size == len(seen) else there.min())
            assert set(there) <= set(seen)
            if start >= 0 and start + view.size <= len(pixels):
                assert (there.min(), there.max() + 1) == (start, start + view.size), (name, i, j)


GONE = {
    "summed": lambda x: x.sum((1, 2)),
    "rows summed": lambda x: x.sum(1),
    "turned around": lambda x: jnp.flip(x, 1),
    "sorted": lambda x: jnp.sort(x, 1),
    "a running sum": lambda x: jnp.cumsum(x, 1),
    "flat": lambda x: x.reshape(1, -1),
    "a dense layer over rows": lambda x: jnp.einsum("nhwc,hk->nkwc", x, weights((14, 3))),
    "holes in between": lambda x: convolve(x, (3, 3, 1, 1), padding=[(1, 1), (1, 1)], lhs_dilation=(2, 1)),
    "joined along rows": lambda x: jnp.concatenate([x, x], 1),
    "repeated rows": lambda x: jnp.broadcast_to(x[:, :1], x.shape),
    "places by a number": lambda x: x[:, jnp.array([3, 1])],
    "times a value without places": lambda x: x * x.sum((1, 2, 3)),
}


@pytest.mark.parametrize("name", GONE)
def test_what_has_no_place_along_rows_sees_all_of_them(name):
    views = views_of(GONE[name])
    assert not any(view.axis == 1 for view in views.values())
    (cost, *_) = costs(lambda x: jc.tag(GONE[name](x), "here"), X) or [None]
    assert cost is None or cost.field is None


def test_columns_keep_their_places_where_rows_lose_theirs():
    assert views_of(lambda x: x.sum(1)) == {1: View(2)}
    assert views_of(lambda x: convolve(x, (3, 3, 1, 1), (2, 2), [(1, 1), (1, 1)], lhs_dilation=(2, 1))) == {
        2: View(2, 3, 2, -1)
    }
    assert views_of(lambda x: jnp.concatenate([x, x], 1)) == {2: View(2)}
    assert views_of(lambda x: x.reshape(2, 7, 11, 1)) == {2: View(2)}
    assert views_of(lambda x: x.reshape(1, 2, 7, 11)) == {3: View(2)}


def test_together_several_views_reach_from_the_first_to_the_last_pixel():
    assert _joined([View(1, 3, 2, -1), View(1, 2, 1, 4)]) == View(1, 7, 2, -1)
    assert _joined([View(2, 5, 1, 0), View(2, 1, 4, 1)]) == View(2, 5, 4, 0)


LAYERS = {
    "a matrix": (lambda x: x.reshape(1, -1) @ weights((154, 5)), 2 * 154 * 5),
    "a matrix in front": (lambda x: weights((5, 154)) @ x.reshape(-1, 1), 2 * 154 * 5),
    "at every place": (lambda x: x @ weights((1, 5)), 2 * 14 * 11 * 5),
    "a convolution": (lambda x: convolve(x, (3, 2, 1, 4)), 2 * 12 * 10 * 4 * 6),
    "with strides": (lambda x: convolve(x, (3, 2, 1, 4), (2, 5)), 2 * 6 * 2 * 4 * 6),
    "in groups": (
        lambda x: convolve(jnp.tile(x, (1, 1, 1, 6)), (3, 2, 2, 9), feature_group_count=3),
        2 * 12 * 10 * 9 * 12,
    ),
    "no kernel": (lambda x: x + jnp.tanh(x), 0),
    "a product of two values": (lambda x: x[..., 0] @ jnp.swapaxes(x[..., 0], 1, 2), 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_work_is_two_operations_for_each_weight_at_each_place(name):
    function, expected = LAYERS[name]
    program = trace(function, X)
    live = program.depending_on(program.inputs)
    assert sum(_operations(node, program, live) for node in program.nodes if node.outputs[0] is not None) == expected


def test_work_is_counted_for_one_image():
    model = lambda x: x.reshape(x.shape[0], -1) @ weights((12, 5))
    for n in (1, 2, 7):
        (cost,) = costs(model, jax.ShapeDtypeStruct((n, 2, 2, 3), jnp.float32))
        assert (cost.layer, cost.operations) == ("dense_0", 2 * 12 * 5)


def test_layers_read_the_last_layers_before_them_in_order():
    def model(x):
        a = jc.tag(jnp.tanh(x), "a")
        b = jc.tag(jnp.tanh(a) * a, "b")
        c = jc.tag(jnp.sin(b), "c")
        unread = jc.tag(jnp.cos(a), "d")
        both = jc.tag(jnp.concatenate([c, a, x], -1), "e")
        return jc.tag(jnp.sin(both), "f"), unread

    assert edges(model, X) == [
        ("", "a"),
        ("a", "b"),
        ("b", "c"),
        ("a", "d"),
        ("", "concat_0"),
        ("a", "concat_0"),
        ("c", "concat_0"),
        ("concat_0", "e"),
        ("e", "f"),
    ]

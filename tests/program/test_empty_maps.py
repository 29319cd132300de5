"""Images too small for a model: what is made of an empty feature map is refused, with the smallest size that works."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import jaxcam as jc
from jaxcam.program.empty_maps import check_size

HEAD = jnp.ones((4, 3))
REDUCTIONS = {
    "mean": lambda y: y.mean((1, 2)) @ HEAD,
    "sum": lambda y: y.sum((1, 2)) @ HEAD + jnp.arange(3),
    "max": lambda y: y.max((1, 2), initial=0) @ HEAD,
    "flattened": lambda y: y.reshape(len(y), -1) @ jnp.ones((y[0].size, 3)) + jnp.arange(3),
    "pooled": lambda y: jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 1, 1, 1), "SAME").sum((1, 2)),
    "padded": lambda y: jnp.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0))).mean((1, 2)) @ HEAD,
    "nothing": lambda y: y,
}


def shrinking(reduce, convolutions=3):
    """Convolutions without padding, each of stride 2: 15 pixels become 7, 3 and 1, and 14 become 6, 2 and 0."""

    def net(kernels, x):
        for kernel in kernels.values():
            x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return reduce(x)

    shapes = [(3, 3, 2, 4), *[(3, 3, 4, 4)] * (convolutions - 1)]
    drawn = (np.random.default_rng(0).normal(size=shape) for shape in shapes)
    return Partial(net, {f"conv{index}": jnp.asarray(kernel, jnp.float32) for index, kernel in enumerate(drawn)})


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_numbers_made_of_nothing_are_refused_and_the_smallest_size_is_named(reduction):
    net = shrinking(REDUCTIONS[reduction])
    for size in (8, 14):
        line = (
            f"^images of {size}×{size} are too small for the model: layer 'conv2' gives 0×0×4, a feature "
            "map of nothing; 15×15 is the smallest that works$"
        )
        with pytest.raises(ValueError, match=line):
            jc.saliency(net, jnp.ones((2, size, size, 2)), 1)
    assert jc.saliency(net, jnp.ones((2, 15, 15, 2)), 1).shape == (2, 15, 15, 2)


def test_an_image_too_low_or_too_narrow_is_refused_as_well():
    net = shrinking(REDUCTIONS["sum"])
    for shape, found in (((14, 40), "0×4"), ((40, 14), "4×0")):
        line = f"images of {shape[0]}×{shape[1]} are too small for the model: layer 'conv2' gives {found}×4"
        with pytest.raises(ValueError, match=line):
            jc.saliency(net, jnp.ones((1, *shape, 2)), 1)


@pytest.mark.parametrize(
    "ask",
    [
        lambda net, x: jc.grad_cam(net, x, 1),
        lambda net, x: jc.lrp(net, x, 1),
        lambda net, x: jc.occlusion(net, x, 1, window=2),
        lambda net, x: jc.neurons.similarity(net, x),
        lambda net, x: jc.neurons.confidences(net, x),
        lambda net, x: jc.quality.deletion(net, x, x.sum(-1), 1),
        lambda net, x: jc.studies.linear_piece(net, x),
        lambda net, x: jc.studies.maximize(net, x.shape[1:], 1, key=jax.random.key(0), steps=1),
        lambda net, x: jc.saliency(jc.tap(net, "conv2"), x, 1),
    ],
)
def test_every_question_about_the_network_is_refused(ask):
    x = jnp.asarray(np.random.default_rng(1).random((2, 9, 9, 2)), jnp.float32)
    with pytest.raises(
        ValueError, match="layer 'conv2' gives 0×0×4, a feature map of nothing; 15×15 is the smallest that"
    ):
        ask(shrinking(REDUCTIONS["sum"]), x)


def test_layers_before_the_empty_one_can_be_asked_about():
    net, x = shrinking(REDUCTIONS["sum"]), jnp.ones((1, 9, 9, 2))
    assert [layer.shape for layer in jc.layers(net, x)][:3] == [(4, 4, 4), (1, 1, 4), (0, 0, 4)]
    assert jc.saliency(jc.tap(net, "conv1"), x, 1).shape == x.shape
    assert set(jc.neurons.similarity(net, x, ["conv0", "conv1"])) == {"conv0", "conv1"}


def test_a_model_that_takes_one_size_only_is_refused_without_a_size():
    def net(x):
        y = shrinking(lambda y: y)(x)
        return y.reshape(len(y), -1) @ jnp.ones((0, 3)) + jnp.arange(3)

    with pytest.raises(ValueError, match="a feature map of nothing; give larger ones"):
        check_size(net, (1, 9, 9, 2))


def test_a_size_beyond_those_tried_is_not_named():
    def net(x):
        return x[:, 2000:].sum((1, 2))

    with pytest.raises(
        ValueError, match=r"what follows the input is 0×9×2, a feature map of nothing; give larger ones"
    ):
        check_size(net, (1, 9, 9, 2))


@pytest.mark.parametrize(
    "net",
    [
        lambda x: jnp.concatenate([x[:, :0], x], 1).mean((1, 2)),  # a sequence without prefix tokens
        lambda x: (x.mean((1, 2)), x[:, :0].sum((1, 2)))[0],  # what nobody reads
        lambda x: jnp.split(x, [0], axis=1)[1].mean((1, 2)),
        lambda x: x.mean((1, 2)) + jnp.zeros((0, 2)).sum(0),  # no image in it
        lambda x: jax.lax.dynamic_update_slice(x, x[:, :0], (0, 0, 0, 0)).mean((1, 2)),
    ],
)
def test_what_is_empty_and_adds_nothing_is_no_feature_map(net):
    check_size(net, (2, 9, 9, 2))
    assert jc.saliency(net, jnp.ones((2, 9, 9, 2)), 1).shape == (2, 9, 9, 2)

"""Where a layer ends, what it is called and what is no layer, at the edges; programs only, nothing runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from program_nets import IMAGES, convolve, max_pool, weights

import jaxcam as jc
from jaxcam.program import layers, tag
from jaxcam.program.layers import path_name, study, unknown_layer

KERNEL, FACTOR, SHIFT = weights((3, 3, 3, 4)), weights((4,), 2), weights((4,), 3)
X = jax.ShapeDtypeStruct(IMAGES.shape, IMAGES.dtype)


def found(model, x=X):
    return [(layer.name, layer.shape) for layer in layers(model, x)]


def names(model, x=X):
    return [name for name, _ in found(model, x)]


def made_by(model, name="conv_0"):
    """The operation that gives a layer's value."""
    anatomy, _ = study(model, X)
    value = anatomy.find(name).value
    return next(node.name for node in anatomy.program.nodes if value in node.outputs)


@pytest.mark.parametrize(
    ("after", "last"),
    [
        (lambda z: z, "conv_general_dilated"),
        (lambda z: z + SHIFT, "add"),
        (lambda z: z - SHIFT, "sub"),
        (lambda z: z * FACTOR, "mul"),
        (lambda z: z / FACTOR, "div"),
        (lambda z: z.astype(jnp.bfloat16), "convert_element_type"),
        (lambda z: jnp.tanh(z + SHIFT), "add"),
        (lambda z: jnp.maximum((z - SHIFT) * FACTOR, 0) + 1, "max"),
        (lambda z: jnp.maximum(z, 0.25 * z), "max"),
        (lambda z: jnp.minimum(jnp.maximum(z, 0), 6) * 2, "min"),
        (lambda z: z.reshape(2, 64, 4), "conv_general_dilated"),
        (lambda z: jnp.tanh(z.reshape(2, 64, 4)), "conv_general_dilated"),
        (lambda z: z.reshape(2, 64, 4) + SHIFT, "conv_general_dilated"),
        (lambda z: z.reshape(2, 8, 8, 1, 4) + SHIFT, "add"),
        (lambda z: jnp.moveaxis(z, -1, 1) + SHIFT[:, None, None], "add"),
        (lambda z: jnp.moveaxis(z, -1, 1).reshape(2, 4, 64).transpose(0, 2, 1) * FACTOR, "conv_general_dilated"),
        (lambda z: -z, "conv_general_dilated"),
        (lambda z: z[:, 1:] + SHIFT, "conv_general_dilated"),
        (lambda z: z + z, "conv_general_dilated"),
        (lambda z: z + z.mean(), "conv_general_dilated"),
        (lambda z: z.reshape(2, 256) + 1, "conv_general_dilated"),
        (lambda z: jnp.broadcast_to(z[:, :, :, None], (2, 8, 8, 5, 4)) + SHIFT, "conv_general_dilated"),
    ],
)
def test_a_layer_ends_with_its_last_shift_scale_or_rectifier(after, last):
    assert made_by(lambda x: after(convolve(x, KERNEL))) == last


def test_a_value_that_is_returned_or_read_elsewhere_ends_a_layer():
    def returned(x):
        z = convolve(x, KERNEL)
        return z, z + SHIFT

    def half_way(x):
        z = convolve(x, KERNEL) + SHIFT
        return z * FACTOR + jnp.tanh(z)

    def inside_the_rectifier(x):
        z = convolve(x, KERNEL)
        mask = z > 0
        return jax.lax.select(mask, z, jnp.zeros_like(z)) + jnp.where(mask, 1, 2)

    assert made_by(returned) == "conv_general_dilated"
    assert made_by(half_way) == "add"
    assert made_by(inside_the_rectifier) == "conv_general_dilated"
    assert names(inside_the_rectifier) == ["conv_0", "relu_0", "add_0"]


KINDS = {
    "a sum of two": (lambda x: x + jnp.tanh(x), ["add_0"]),
    "a sum with itself": (lambda x: jnp.tanh(x) + jnp.sin(x) + 1, ["add_0"]),
    "a sum with a number": (lambda x: jnp.tanh(x) + 1, []),
    "a difference": (lambda x: x - jnp.tanh(x), []),
    "a concatenation": (lambda x: jnp.concatenate([x, jnp.tanh(x)], -1), ["concat_0"]),
    "a concatenation with numbers": (lambda x: jnp.concatenate([x, jnp.ones((2, 8, 8, 1))], -1), []),
    "a maximum over space": (lambda x: x.max((1, 2)), ["pool_0"]),
    "a sum over space": (lambda x: x.sum((1, 2)), ["pool_0"]),
    "a sum over rows": (lambda x: x.sum(1), ["pool_0"]),
    "a sum over units": (lambda x: x.sum(-1), []),
    "a sum over images": (lambda x: x.sum(0), []),
    "a sum over all": (lambda x: x.sum(), []),
    "a sum of logits": (lambda x: (x.mean((1, 2)) @ weights((3, 4))).sum(-1), ["pool_0", "dense_0"]),
    "a max pool": (max_pool, ["pool_0"]),
    "a minimum over windows": (
        lambda x: jax.lax.reduce_window(x, jnp.inf, jax.lax.min, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        [],
    ),
    "a product of two": (lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x), []),
    "a rectifier": (lambda x: jnp.maximum(x, 0), ["relu_0"]),
    "a rectifier of a sum": (lambda x: jax.nn.relu(x + jnp.tanh(x)), ["add_0"]),
    "a rectifier of a pool": (lambda x: jax.nn.relu(max_pool(x)), ["pool_0"]),
    "a rectifier of a concatenation": (lambda x: jax.nn.relu(jnp.concatenate([x, -x], -1)), ["concat_0", "relu_0"]),
    "units merged with space": (lambda x: x.reshape(2, -1) @ weights((192, 4)), ["dense_0"]),
    "a kernel of no unit": (lambda x: jnp.einsum("nhwc,c->nhw", x, weights((3,))), []),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_a_layer(name):
    model, expected = KINDS[name]
    assert names(model) == expected


def test_what_does_not_depend_on_the_images_is_no_layer():
    model = lambda x: x.mean((1, 2)) + (convolve(jnp.ones((1, 8, 8, 3)), weights((3, 3, 3, 3))).mean((1, 2)))
    assert names(model) == ["pool_0"]


def test_the_shape_of_a_layer_has_its_units_last():
    assert found(lambda x: jnp.moveaxis(convolve(x, KERNEL), -1, 1)) == [("conv_0", (8, 8, 4))]

    def first(x):
        layout = ("NHWC", "HWIO", "NCHW")
        return jax.lax.conv_general_dilated(x, weights((3, 5, 3, 4)), (1, 2), "VALID", dimension_numbers=layout)

    assert found(first) == [("conv_0", (6, 2, 4))]
    (layer,) = layers(first, X)
    assert (layer.kind, layer.units) == ("conv", 4)


def test_names_go_before_aliases_and_the_first_alias_counts():
    def model(x):
        a = tag(jax.nn.relu(convolve(x, KERNEL)), "conv_1")
        return jax.nn.relu(convolve(a, weights((3, 3, 4, 5)))).mean((1, 2))

    anatomy, _ = study(model, X)
    assert [place.name for place in anatomy.places] == ["conv_0", "conv_1", "conv_1@2", "pool_0"]
    assert anatomy.find("conv_1").kind == "tag"
    assert anatomy.find("relu_0").name == "conv_0"
    assert anatomy.find("relu_1").name == "conv_1@2"
    with pytest.raises(ValueError, match="no layer 'relu_2'"):
        anatomy.find("relu_2")


def test_the_list_of_layers_is_told_if_short_and_the_closest_name_instead_of_it():
    eight, nine = list("abcdefgh"), list("abcdefghi")
    assert unknown_layer("zz", eight) == (
        "no layer 'zz'; there are a, b, c, d, e, f, g, h. jc.layers(model, x), or jaxcam layers MODEL, lists all 8."
    )
    assert unknown_layer("zz", nine) == "no layer 'zz'. jc.layers(model, x), or jaxcam layers MODEL, lists all 9."
    assert "did you mean 'conv_0'?" in unknown_layer("conv0", ["conv_0", "dense_0"])
    assert "did you mean 'layer4'?" in unknown_layer("l4", ["layer4", *nine])
    assert "did you mean" not in unknown_layer("l9", ["layer4"])


def test_the_owner_of_a_value_is_the_last_layer_before_it():
    def model(x):
        a = jax.nn.relu(convolve(jnp.tanh(x), KERNEL))
        return jnp.sin(max_pool(a)).mean((1, 2))

    anatomy, _ = study(model, X)
    made = {node.name: node.outputs[0] for node in anatomy.program.nodes}
    assert anatomy.owner(made["tanh"]) == "the input"
    assert anatomy.owner(made["conv_general_dilated"]) == "the input"
    assert anatomy.owner(anatomy.find("conv_0").value) == "layer 'conv_0'"
    assert anatomy.owner(made["sin"]) == "layer 'pool_0'"
    assert anatomy.is_input(made["tanh"])
    assert not anatomy.is_input(made["sin"])


def test_a_kernel_made_of_parameters_is_named_by_what_they_share():
    def normed(p, x):
        kernel = p["block"]["conv"]["g"] * p["block"]["conv"]["v"]
        return jax.nn.relu(convolve(x, kernel)).mean((1, 2)) @ (p["a"]["head"] + p["b"]["head"])

    parameters = {
        "block": {"conv": {"g": jnp.ones(4), "v": KERNEL}},
        "a": {"head": weights((4, 5))},
        "b": {"head": weights((4, 5), 2)},
    }
    assert names(Partial(normed, parameters)) == ["block.conv", "pool_0", "dense_0"]


def test_paths_are_names_at_their_edges():
    attribute, entry, index = jax.tree_util.GetAttrKey, jax.tree_util.DictKey, jax.tree_util.SequenceKey
    assert path_name([]) == ""
    assert path_name([index(0)]) == ""
    assert path_name([entry("kernel")]) == ""
    assert path_name([entry("params"), entry("params"), entry("a"), entry("kernel")]) == "a"
    assert path_name([entry("a"), entry("params"), entry("kernel")]) == "a.params"
    assert path_name([attribute("transformed_model"), attribute("a"), attribute("w")]) == "a"
    assert path_name([entry("value")]) == "value"
    assert path_name([entry("a"), entry("kernel"), entry("raw_value"), entry("value")]) == "a"
    assert path_name([entry("a"), entry("kernel"), entry("kernel")]) == "a.kernel"
    assert path_name([entry("a"), index(3), entry("bias")]) == "a.3.bias"
    assert path_name([entry(7), entry("kernel")]) == "7"


def test_an_axis_of_length_one_in_front_goes_with_its_pool():
    def pooled(x):
        one = lambda image: jax.lax.reduce_window(
            image[None], -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
        return jax.vmap(lambda image: one(image).squeeze(0))(x)

    model = lambda x: jnp.sin(pooled(x))
    assert found(model) == [("pool_0", (4, 4, 3))]
    np.testing.assert_array_equal(jc.tap(model, "pool_0")(IMAGES), max_pool(IMAGES))

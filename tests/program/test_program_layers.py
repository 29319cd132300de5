"""What `layers` finds and how it names it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from program_nets import IMAGES, KINDS, NAMES, convolve, flax_nnx, max_pool, parameters_in_a_dict, weights

import jaxcam as jc
from jaxcam.program import Layer, layers, tag, tap
from jaxcam.program.layers import path_name


def names(model, x=IMAGES):
    return [layer.name for layer in layers(model, x)]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_named_by_their_parameters_or_by_kind_and_order(kind):
    assert names(KINDS[kind]()) == NAMES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_tell_kind_shape_and_units_with_units_last(kind):
    found = [(layer.kind, layer.shape, layer.units) for layer in layers(KINDS[kind](), IMAGES)]
    assert found == [
        ("conv", (8, 8, 4), 4),
        ("pool", (4, 4, 4), 4),
        ("conv", (4, 4, 4), 4),
        ("add", (4, 4, 4), 4),
        ("pool", (4,), 4),
        ("dense", (5,), 5),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_need_only_the_shape_of_the_images(kind):
    model = KINDS[kind]()
    assert layers(model, jax.ShapeDtypeStruct((7, 8, 8, 3), jnp.float32)) == layers(model, IMAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_one_image_are_those_of_many(kind):
    model = KINDS[kind]()
    assert layers(model, IMAGES[:1]) == layers(model, IMAGES)


def test_layers_of_one_image_of_one_pixel_and_one_channel_have_both_axes():
    kernels = {"conv": weights((1, 1, 1, 1)), "head": weights((1, 1))}

    def apply(p, x):
        x = jax.nn.relu(convolve(x, p["conv"]))
        return x.mean((1, 2), keepdims=True).reshape(x.shape[0], -1) @ p["head"]

    model, x = Partial(apply, kernels), jnp.ones((1, 1, 1, 1))
    assert [layer.shape for layer in layers(model, x)] == [(1, 1, 1), (1,), (1,)]
    assert tap(model, "head")(x).shape == (1, 1)


def test_a_module_used_twice_gives_two_layers():
    conv = nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0))

    class Twice(nnx.Module):
        def __init__(self):
            self.conv = conv

        def __call__(self, x):
            return nnx.relu(self.conv(nnx.relu(self.conv(x))))

    model = Twice()
    assert names(model) == ["conv", "conv@2"]
    first = nnx.relu(conv(IMAGES))
    np.testing.assert_allclose(tap(model, "conv")(IMAGES), first, atol=1e-6)
    np.testing.assert_allclose(tap(model, "conv@2")(IMAGES), nnx.relu(conv(first)), atol=1e-6)


def test_two_names_of_one_parameter_give_its_first():
    shared = nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0))

    class Shared(nnx.Module):
        def __init__(self):
            self.encoder, self.decoder = shared, shared

        def __call__(self, x):
            return self.decoder(nnx.relu(self.encoder(x)))

    found = names(Shared())
    assert len(found) == 2
    assert len(set(found)) == 2


def test_the_value_of_a_convolution_includes_bias_batch_norm_and_relu():
    model = flax_nnx()
    np.testing.assert_allclose(tap(model, "stem")(IMAGES), nnx.relu(model.stem(IMAGES)), atol=1e-6)
    pooled = tap(model, "pool_0")(IMAGES)
    block = model.block
    np.testing.assert_allclose(tap(model, "block.conv")(IMAGES), block.norm(block.conv(pooled)), atol=1e-5)
    np.testing.assert_allclose(tap(model, "add_0")(IMAGES), block(pooled), atol=1e-5)


def test_a_value_read_twice_ends_its_layer():
    # The sum before the ReLU is read by another reader as well, so the layer cannot be the rectified value alone.
    def apply(p, x):
        z = convolve(x, p["conv"])
        return jax.nn.relu(z) + z

    model = Partial(apply, {"conv": weights((3, 3, 3, 4))})
    np.testing.assert_array_equal(tap(model, "conv")(IMAGES), convolve(IMAGES, model.args[0]["conv"]))
    assert names(model) == ["conv", "relu_0", "add_0"]


def test_a_free_standing_relu_is_a_layer():
    assert names(lambda x: max_pool(jax.nn.relu(x))) == ["relu_0", "pool_0"]


def test_a_concatenation_is_a_layer():
    model = lambda x: jnp.concatenate([jax.nn.relu(x), jax.nn.relu(-x)], -1)
    assert layers(model, IMAGES)[-1] == Layer("concat_0", "concat", (8, 8, 6), 6)


def test_other_names_by_kind_and_order_work_too():
    model = flax_nnx()
    np.testing.assert_array_equal(tap(model, "conv_1")(IMAGES), tap(model, "block.conv")(IMAGES))
    np.testing.assert_array_equal(tap(model, "relu_1")(IMAGES), tap(model, "add_0")(IMAGES))


def test_a_tag_names_a_value_and_changes_nothing():
    model = lambda x: tag(3 * x, "thrice") + 1
    assert layers(model, IMAGES) == [Layer("thrice", "tag", (8, 8, 3), 3)]
    np.testing.assert_array_equal(model(IMAGES), 3 * IMAGES + 1)
    np.testing.assert_array_equal(tap(model, "thrice")(IMAGES), 3 * IMAGES)


def test_a_tag_used_twice_is_numbered():
    assert names(lambda x: tag(tag(x, "a") + 1, "a")) == ["a", "a@2"]


def test_a_tag_of_a_constant_is_no_layer():
    assert names(lambda x: x + tag(jnp.ones(3), "constant").sum()) == []


def test_a_tag_holds_under_jit_vmap_grad_and_checkpoint():
    inner = jax.checkpoint(jax.jit(lambda x: tag(2 * x, "double").sum()))
    model = lambda x: jax.vmap(jax.grad(inner))(x)
    np.testing.assert_array_equal(model(IMAGES), jnp.full_like(IMAGES, 2))
    assert names(lambda x: jax.vmap(lambda image: inner(image))(x)) == ["double"]


def test_layers_inside_nested_jit_and_checkpoint_are_found():
    def apply(p, x):
        block = jax.jit(jax.checkpoint(jax.jit(lambda x: jax.nn.relu(convolve(x, p["inside"])))))
        return block(x).mean((1, 2))

    assert names(Partial(apply, {"inside": weights((3, 3, 3, 4))})) == ["inside", "pool_0"]


@pytest.mark.parametrize("loop", ["scan", "scan backwards", "fori_loop"])
def test_a_scan_over_layers_is_unrolled(loop):
    stack = weights((3, 3, 3, 3, 3))

    def apply(p, x):
        step = lambda x, kernel: (jax.nn.relu(convolve(x, kernel)), x.mean((1, 2)))
        if loop == "fori_loop":
            return jax.lax.fori_loop(0, 3, lambda i, x: step(x, p["blocks"][i])[0], x)
        return jax.lax.scan(step, x, p["blocks"], reverse=loop != "scan")[0]

    model = Partial(apply, {"blocks": stack})
    assert [name for name in names(model) if name.startswith("blocks")] == ["blocks", "blocks@2", "blocks@3"]
    x = IMAGES
    for i, name in zip([2, 1, 0] if "back" in loop else [0, 1, 2], ["blocks", "blocks@2", "blocks@3"], strict=True):
        x = jax.nn.relu(convolve(x, stack[i]))
        np.testing.assert_allclose(tap(model, name)(IMAGES), x, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_rows_of_an_unrolled_scan_keep_their_order(reverse):
    def rows(x):
        return jax.lax.scan(lambda carry, row: (carry + row, carry * row + x), x, jnp.arange(4.0), reverse=reverse)[1]

    np.testing.assert_allclose(
        tap(lambda x: tag(rows(x).mean(0), "mean"), "mean")(IMAGES), rows(IMAGES).mean(0), rtol=1e-6
    )


def test_a_scan_of_no_steps_and_a_scan_over_time_stay_whole():
    empty = lambda x: jax.lax.scan(lambda c, r: (jax.nn.relu(c), c), x, jnp.zeros(0))[0].mean((1, 2))
    long = lambda x: jax.lax.scan(lambda c, r: (jax.nn.relu(c), None), x, jnp.zeros(1000))[0].mean((1, 2))
    assert names(empty) == names(long) == ["pool_0"]
    np.testing.assert_array_equal(tap(long, "pool_0")(IMAGES), long(IMAGES))


def test_dropout_in_inference_mode_and_a_constant_mask_are_no_layers():
    mask = np.arange(3) % 2
    assert names(lambda x: jnp.where(mask > 0, x, 0)) == []


def test_an_unknown_layer_names_the_closest_and_the_command():
    with pytest.raises(ValueError, match=r"no layer 'hed'; did you mean 'head'\?.*jaxcam layers.*6") as error:
        tap(flax_nnx(), "hed")(IMAGES)
    assert "\n" not in str(error.value)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(ValueError, match=r"no layer 'zzz'; there are stem, pool_0, block.conv, add_0, pool_1, head"):
        tap(flax_nnx(), "zzz")(IMAGES)


@pytest.mark.parametrize("model", [3, "resnet50", {"kernel": 1}, None])
def test_a_model_that_cannot_be_called_is_refused(model):
    for transformation in (lambda: layers(model, IMAGES), lambda: tap(model, "a")):
        with pytest.raises(TypeError, match=f"a model is a callable.*got {type(model).__name__}"):
            transformation()


def test_images_that_are_no_array_are_refused():
    with pytest.raises(TypeError, match=r"images are an array .* got list"):
        layers(parameters_in_a_dict(), IMAGES.tolist())


def test_a_layer_that_is_no_name_is_refused():
    with pytest.raises(TypeError, match=r"layer"):
        tap(parameters_in_a_dict(), 0)


def test_paths_become_names_whoever_wrote_them():
    attribute, entry, index = jax.tree_util.GetAttrKey, jax.tree_util.DictKey, jax.tree_util.SequenceKey
    assert (
        path_name([attribute("features"), entry("conv3"), attribute("kernel"), attribute("value")]) == "features.conv3"
    )
    assert path_name([index(0), entry("params"), entry("Conv_0"), entry("kernel")]) == "Conv_0"
    assert path_name([attribute("layers"), index(2), attribute("weight")]) == "layers.2"
    assert path_name([index(0), attribute("weight")]) == ""


def test_one_image_without_a_batch_axis_is_told_where_the_model_fails():
    def model(x):
        return jax.nn.relu(x @ jnp.ones((3, 4))).mean((1, 2)) @ jnp.ones((4, 2))

    with pytest.raises(
        ValueError, match=r"fails on an array of shape \(8, 8, 3\): .*; one image needs a batch axis, x\[None\]$"
    ):
        layers(model, jnp.ones((8, 8, 3)))
    assert [layer.kind for layer in layers(lambda x: x @ jnp.ones((3, 4)), jnp.ones((2, 5, 3)))] == ["dense"]


def _in_a_while_loop(x):
    step = lambda state: (state[0] + 1, convolve(state[1], weights((3, 3, 3, 3))))
    return jax.lax.while_loop(lambda state: state[0] < 2, step, (0, x))[1]


def _in_a_branch(x):
    return jax.lax.cond(jnp.asarray(True), lambda x: convolve(x, weights((3, 3, 3, 3))), lambda x: x, x)


def _in_a_long_loop(x):
    return jax.lax.scan(lambda c, _: (convolve(c, weights((3, 3, 3, 3))), None), x, length=1000)[0]


@jax.custom_vjp
def _with_a_derivative_of_its_own(x):
    return convolve(x, weights((3, 3, 3, 3)))


_with_a_derivative_of_its_own.defvjp(lambda x: (_with_a_derivative_of_its_own(x), None), lambda _, c: (c,))


@pytest.mark.parametrize(
    ("block", "operation"),
    [
        (_in_a_while_loop, "while"),
        (_in_a_branch, "cond"),
        (_in_a_long_loop, "scan"),
        (_with_a_derivative_of_its_own, "custom_vjp_call"),
    ],
)
def test_layers_that_stay_inside_one_equation_are_never_left_out_in_silence(block, operation):
    sentence = rf"1 convolution stands inside '{operation}' after the input, which stays whole: "
    alone = lambda x: block(x).mean((1, 2))
    with pytest.raises(ValueError, match=rf"no layer can be named: {sentence}"):
        layers(alone, IMAGES)
    with pytest.raises(ValueError, match=rf"which layer is the last cannot be told: {sentence}.*name a layer"):
        jc.grad_cam(alone, IMAGES, 0)
    with pytest.raises(ValueError, match=rf"not all units can be measured: {sentence}.*name the layers"):
        jc.neurons.similarity(alone, IMAGES)
    beside = lambda x: convolve(block(x), weights((3, 3, 3, 4))).mean((1, 2))
    with pytest.warns(UserWarning, match=rf"not all layers can be named: {sentence}"):
        assert [layer.name for layer in layers(beside, IMAGES)] == ["conv_0", "pool_0"]
    np.testing.assert_allclose(tap(beside, "pool_0")(IMAGES), beside(IMAGES), rtol=1e-6)

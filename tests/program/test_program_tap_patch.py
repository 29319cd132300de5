"""`tap` and `patch`: values, identities and derivatives, on every kind of model and under every transformation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from program_nets import IMAGES, KINDS, NAMES, NnxNet, convolve, flax_nnx, max_pool, parameters_in_a_dict, weights

from jaxcam.program import deconv, guided, layers, patch, tap

# Where a kind's model can be an argument of `jax.jit` itself; Equinox keeps functions among its leaves and has its own.
JIT = {kind: eqx.filter_jit if kind == "equinox" else jax.jit for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return KINDS[kind]()


def test_patching_the_tapped_value_back_gives_exactly_the_outputs(kind, model):
    for name in NAMES[kind]:
        np.testing.assert_array_equal(patch(model, name)(IMAGES, tap(model, name)(IMAGES)), model(IMAGES))


def test_the_output_depends_on_the_images_only_through_what_is_patched(kind, model):
    # Every path leads through the stem, so with its value patched other images make no difference.
    stem = NAMES[kind][0]
    value = tap(model, stem)(IMAGES)
    np.testing.assert_array_equal(patch(model, stem)(jnp.zeros_like(IMAGES), value), model(IMAGES))


def test_the_head_patched_is_the_output(kind, model):
    outputs = jnp.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(patch(model, NAMES[kind][-1])(IMAGES, outputs), outputs)


def test_several_layers_come_as_a_dict_of_the_same_values(kind, model):
    together = tap(model, NAMES[kind])(IMAGES)
    assert list(together) == NAMES[kind]
    for name, value in together.items():
        np.testing.assert_array_equal(value, tap(model, name)(IMAGES))
    assert tap(model, [])(IMAGES) == {}


def test_a_batch_gives_what_its_images_give_one_by_one(kind, model):
    taps = jax.jit(tap(model, NAMES[kind]))
    alone = [taps(image[None]) for image in IMAGES]
    for name, value in taps(IMAGES).items():
        np.testing.assert_allclose(value, jnp.concatenate([one[name] for one in alone]), atol=1e-5)


def test_jit_changes_no_value(kind, model):
    together = jax.jit(tap(model, NAMES[kind]))(IMAGES)
    for name, value in together.items():
        np.testing.assert_allclose(value, tap(model, name)(IMAGES), atol=1e-5)
    name = NAMES[kind][2]
    np.testing.assert_allclose(jax.jit(patch(model, name))(IMAGES, together[name]), model(IMAGES), atol=1e-5)


def test_the_model_can_be_an_argument_of_jit(kind, model):
    if kind == "closure":
        pytest.skip("a bare function is no argument of jit; what is made of it is, and that is tested below")
    name = NAMES[kind][2]
    inside = JIT[kind](lambda model, x: tap(model, name)(x))(model, IMAGES)
    np.testing.assert_allclose(inside, tap(model, name)(IMAGES), atol=1e-5)


def test_what_is_made_of_a_model_can_be_an_argument_of_jit(kind, model):
    name = NAMES[kind][2]
    value = tap(model, name)(IMAGES)
    call = JIT[kind](lambda function, *arguments: function(*arguments))
    np.testing.assert_allclose(call(tap(model, name), IMAGES), value, atol=1e-5)
    np.testing.assert_allclose(call(patch(model, name), IMAGES, value), model(IMAGES), atol=1e-5)
    np.testing.assert_allclose(call(guided(model), IMAGES), model(IMAGES), atol=1e-5)
    np.testing.assert_allclose(call(deconv(model), IMAGES), model(IMAGES), atol=1e-5)


def test_other_weights_need_no_second_compilation():
    count = 0

    def function(tapped, x):
        nonlocal count
        count += 1
        return tapped(x)

    compiled = jax.jit(function)
    model = parameters_in_a_dict()
    for scale in (1.0, 2.0):
        scaled = jax.tree.map(lambda kernel, scale=scale: scale * kernel, model)
        np.testing.assert_allclose(compiled(tap(scaled, "stem"), IMAGES), scale * tap(model, "stem")(IMAGES), rtol=1e-5)
    assert count == 1


def test_weights_changed_in_place_are_seen_after_jit():
    model = flax_nnx()
    before = jax.jit(tap(model, "stem"))(IMAGES)
    model.stem.kernel[...] *= 2
    model.stem.bias[...] *= 2
    np.testing.assert_allclose(jax.jit(tap(model, "stem"))(IMAGES), 2 * before, rtol=1e-5)


def test_vmap_over_images_gives_the_batch(kind, model):
    one = jax.jit(jax.vmap(lambda image: tap(model, NAMES[kind])(image[None])))(IMAGES)
    for name, value in tap(model, NAMES[kind])(IMAGES).items():
        np.testing.assert_allclose(one[name][:, 0], value, atol=1e-5)


def test_vmap_over_patched_values_gives_one_output_each(kind, model):
    name = NAMES[kind][2]
    value = tap(model, name)(IMAGES)
    many = jnp.stack([value, 0 * value, 2 * value])
    outputs = jax.jit(jax.vmap(patch(model, name), (None, 0)))(IMAGES, many)
    for output, one in zip(outputs, many, strict=True):
        np.testing.assert_allclose(output, patch(model, name)(IMAGES, one), atol=1e-5)


def test_the_gradient_of_a_tap_is_that_of_the_model_for_its_last_layer(kind, model):
    through_tap = jax.jit(jax.grad(lambda x: tap(model, NAMES[kind][-1])(x)[:, 2].sum()))(IMAGES)
    np.testing.assert_allclose(through_tap, jax.jit(jax.grad(lambda x: model(x)[:, 2].sum()))(IMAGES), atol=1e-6)


def test_the_chain_rule_holds_across_a_layer(kind, model):
    # With the stem's value in between: d f/d x = d f/d a · d a/d x, since every path leads through the stem.
    stem = NAMES[kind][0]

    def in_two_steps(x):
        value, pull = jax.vjp(tap(model, stem), x)
        return pull(jax.grad(lambda a: patch(model, stem)(x, a)[:, 1].sum())(value))[0]

    at_once = jax.grad(lambda x: model(x)[:, 1].sum())
    np.testing.assert_allclose(jax.jit(in_two_steps)(IMAGES), jax.jit(at_once)(IMAGES), atol=1e-6)


def test_weights_get_their_gradients_through_a_tap():
    model = parameters_in_a_dict()
    gradient = jax.grad(lambda model: tap(model, "stem")(IMAGES).sum())(model).args[0]
    by_hand = lambda kernel: jax.nn.relu(convolve(IMAGES, kernel) + model.args[0]["stem"]["bias"]).sum()
    np.testing.assert_allclose(
        gradient["stem"]["kernel"], jax.grad(by_hand)(model.args[0]["stem"]["kernel"]), rtol=1e-4, atol=1e-5
    )
    assert not gradient["head"]["kernel"].any()


def test_nnx_transformations_take_a_tap():
    model = flax_nnx()
    value = nnx.jit(lambda model, x: tap(model, "block.conv")(x))(model, IMAGES)
    np.testing.assert_allclose(value, tap(model, "block.conv")(IMAGES), atol=1e-5)
    gradient = nnx.grad(lambda model: tap(model, "stem")(IMAGES).sum())(model)
    assert np.abs(gradient["stem"]["kernel"][...]).max() > 0


def split_by_hand(p):
    """The network of `test_the_gradient_with_respect_to_…`, cut at every layer: (before, after) by name."""
    stem = lambda x: jnp.maximum(convolve(x, p["stem"]), 0)
    conv = lambda pooled: convolve(pooled, p["conv"])
    total = lambda pooled, y: jnp.maximum(pooled + y, 0)
    head = lambda x: x.reshape(x.shape[0], -1) @ p["head"]
    whole = lambda x: max_pool(stem(x))
    return {
        "stem": (stem, lambda x, a: head(total(max_pool(a), conv(max_pool(a))))),
        "pool_0": (whole, lambda x, a: head(total(a, conv(a)))),
        "conv": (lambda x: conv(whole(x)), lambda x, a: head(total(whole(x), a))),
        "add_0": (lambda x: total(whole(x), conv(whole(x))), lambda x, a: head(a)),
    }


def test_the_gradient_with_respect_to_a_patched_value_is_that_of_the_network_split_by_hand_and_of_differences():
    with jax.enable_x64(True):
        rng = np.random.default_rng(5)
        shapes = {"stem": (3, 3, 3, 4), "conv": (3, 3, 4, 4), "head": (4 * 16, 5)}
        p = {name: jnp.asarray(rng.normal(size=shape)) / 5 for name, shape in shapes.items()}
        x = jnp.asarray(rng.normal(size=(2, 8, 8, 3)))
        parts = split_by_hand(p)
        model = Partial(lambda p, x: split_by_hand(p)["pool_0"][1](x, split_by_hand(p)["pool_0"][0](x)), p)
        assert [layer.name for layer in layers(model, x)] == [*parts, "head"]
        for name, (before, after) in parts.items():
            value = tap(model, name)(x)
            assert value.dtype == jnp.float64
            np.testing.assert_allclose(value, before(x), atol=1e-12)
            score = lambda a, name=name: patch(model, name)(x, a)[:, 3].sum()
            gradient = jax.grad(score)(value)
            np.testing.assert_allclose(gradient, jax.grad(lambda a, f=after: f(x, a)[:, 3].sum())(value), atol=1e-12)
            # Away from zero, so that no step crosses the corner of a ReLU.
            apart = jnp.where(jnp.abs(value) < 0.01, 0.02, value) + jnp.asarray(rng.random(value.shape)) * 1e-3
            step = jnp.asarray(rng.normal(size=value.shape)) * 1e-6
            slope = (score(apart + step) - score(apart - step)) / 2
            np.testing.assert_allclose(slope, jnp.vdot(jax.grad(score)(apart), step), rtol=1e-6)


def test_a_patched_value_of_another_shape_is_refused():
    model = parameters_in_a_dict()
    with pytest.raises(ValueError, match=r"layer 'stem' has activations of shape \(2, 8, 8, 4\); got \(1, 8, 8, 4\)"):
        patch(model, "stem")(IMAGES, jnp.zeros((1, 8, 8, 4)))


@pytest.mark.parametrize("dtype", [np.int32, np.float16, np.float64, bool])
def test_a_patched_value_takes_the_type_of_its_layer(dtype):
    model = parameters_in_a_dict()
    zeros = jnp.asarray(np.zeros((2, 8, 8, 4), dtype))
    assert patch(model, "stem")(IMAGES, zeros).dtype == jnp.float32


def test_units_come_last_wherever_the_model_keeps_them():
    kernel = weights((3, 3, 3, 4))

    def channels_first(x):
        y = jax.lax.conv_general_dilated(
            jnp.moveaxis(x, -1, 1), kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW")
        )
        return jax.nn.relu(y).mean((2, 3))

    value = tap(channels_first, "conv_0")(IMAGES)
    np.testing.assert_allclose(value, jax.nn.relu(convolve(IMAGES, kernel)), atol=1e-5)
    np.testing.assert_array_equal(patch(channels_first, "conv_0")(IMAGES, value), channels_first(IMAGES))


def test_outputs_of_any_structure_are_kept():
    model = lambda x: {"logits": (jax.nn.relu(x).sum(), None), "constant": 3.0}
    for outputs in (patch(model, "relu_0")(IMAGES, IMAGES), guided(model)(IMAGES)):
        assert set(outputs) == {"logits", "constant"}
        assert outputs["constant"] == 3
        np.testing.assert_allclose(outputs["logits"][0], IMAGES.sum(), rtol=1e-5)


def test_a_transformed_model_can_be_transformed_again(kind, model):
    names = NAMES[kind]
    assert [layer.name for layer in layers(guided(model), IMAGES)] == names
    np.testing.assert_array_equal(tap(guided(model), names[2])(IMAGES), tap(model, names[2])(IMAGES))
    inner = tap(tap(model, names[2]), names[0])(IMAGES)
    np.testing.assert_array_equal(inner, tap(model, names[0])(IMAGES))


def test_dropout_and_batch_norm_in_inference_mode_change_nothing_from_call_to_call():
    model = flax_nnx()
    first = tap(model, ["block.conv", "head"])(IMAGES)
    again = tap(model, ["block.conv", "head"])(IMAGES)
    jax.tree.map(np.testing.assert_array_equal, first, again)
    statistics = nnx.state(model, nnx.BatchStat)
    guided(model)(IMAGES)
    jax.tree.map(np.testing.assert_array_equal, statistics, nnx.state(model, nnx.BatchStat))


def test_the_model_itself_is_left_as_it_was():
    model = NnxNet()
    model.eval()
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
    jax.grad(lambda x: guided(tap(model, "add_0"))(x).sum())(IMAGES)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model, nnx.Param))


def test_a_model_in_half_precision_gives_half_precision():
    model = jax.tree.map(lambda kernel: kernel.astype(jnp.bfloat16), parameters_in_a_dict())
    assert tap(model, "stem")(IMAGES.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_numbers_handed_to_nested_calls_are_replayed():
    # jnp.where and jnp.clip are jitted inside JAX and are handed their zero as a literal number.
    model = lambda x: jnp.clip(jnp.where(x > 0.5, x, 0.25), 0.3, 0.8).sum((1, 2))
    np.testing.assert_array_equal(tap(model, "pool_0")(IMAGES), model(IMAGES))

"""Layers laid open: activations and gradients together equal those taken one at a time."""

import jax
import jax.numpy as jnp
import program_nets as nets
import pytest
from flax import nnx
from numpy.testing import assert_allclose

import jaxcam as jc
from jaxcam.program.exposure import above, expose, first_nonlinear, pooled_then_affine, spatial_layers
from jaxcam.program.layers import study
from jaxcam.program.norms import normalization_scale


def both(model, names, accelerated=False):
    """Activations and gradients of some layers for the sum of the outputs of class 1."""
    exposed = expose(model, names)
    function = jc.accelerate(exposed) if accelerated else exposed

    @jax.jit
    def run(x):
        def total(deltas):
            outputs, activations = function(x, deltas)
            return outputs[..., 1].sum(), activations

        return jax.grad(total, has_aux=True)(exposed.zeros(x))

    gradients, activations = run(nets.IMAGES)
    return activations, gradients


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("kind", nets.HARDEST_FIRST)
def test_activations_and_gradients_of_all_layers_are_those_of_tap_and_patch(kind, accelerated):
    model = nets.KINDS[kind]()
    names = tuple(layer.name for layer in jc.layers(model, nets.IMAGES))
    activations, gradients = both(model, names, accelerated)
    for name in names:
        expected = jc.tap(model, name)(nets.IMAGES)
        assert_allclose(activations[name], expected, atol=1e-6)
        slope = jax.grad(lambda a, name=name: jc.patch(model, name)(nets.IMAGES, a)[:, 1].sum())(expected)
        assert_allclose(gradients[name], slope, atol=1e-6)


def test_a_delta_is_added_to_the_layer():
    model, delta = nets.parameters_in_a_dict(), {"stem": jnp.ones((2, 8, 8, 4))}
    outputs, activations = expose(model, ("stem",))(nets.IMAGES, delta)
    shifted = jc.tap(model, "stem")(nets.IMAGES) + 1
    assert_allclose(activations["stem"], shifted, rtol=1e-6)
    assert_allclose(outputs, jc.patch(model, "stem")(nets.IMAGES, shifted), rtol=1e-6)


def test_a_model_with_another_backward_pass_keeps_it():
    model = nets.flax_nnx()
    _, plain = both(model, ("stem",))
    _, guided = both(jc.guided(model), ("stem",))
    slope = jax.grad(lambda a: jc.patch(jc.guided(model), "stem")(nets.IMAGES, a)[:, 1].sum())
    assert_allclose(guided["stem"], slope(jc.tap(model, "stem")(nets.IMAGES)), atol=1e-6)
    assert jnp.abs(guided["stem"] - plain["stem"]).max() > 1e-3


def test_a_model_that_ends_at_a_layer_is_laid_open_as_well():
    model = jc.tap(nets.flax_linen(), "conv")
    activations, gradients = both(model, ("stem", "conv"))
    assert_allclose(activations["conv"], model(nets.IMAGES), atol=1e-6)
    assert_allclose(gradients["conv"], jnp.zeros_like(gradients["conv"]).at[..., 1].set(1))


def test_two_names_of_one_value_both_count():
    model = nets.closure()
    exposed = expose(model, ("conv_0", "relu_0"))
    ones = jax.tree.map(jnp.ones_like, exposed.zeros(nets.IMAGES))
    _, activations = exposed(nets.IMAGES, ones)
    assert_allclose(activations["conv_0"], jc.tap(model, "conv_0")(nets.IMAGES) + 2, rtol=1e-6)


def test_a_module_used_twice_is_laid_open_at_each_use():
    kernel = nets.weights((3, 3, 3, 3))

    def model(x):
        for _ in range(2):
            x = jax.nn.relu(nets.convolve(x, kernel))
        return x.mean((1, 2))

    activations, gradients = both(model, ("conv_0", "conv_1"))
    assert_allclose(activations["conv_1"], jax.nn.relu(nets.convolve(activations["conv_0"], kernel)), atol=1e-6)
    assert jnp.abs(gradients["conv_0"] - gradients["conv_1"]).max() > 0


def test_the_part_above_a_layer_computes_what_goes_past_it_once():
    def model(x):
        beside = jnp.tanh(nets.convolve(x, nets.weights((3, 3, 3, 3), 4)))
        return (beside + jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 3))))).sum((1, 2))

    activations, rest = above(model, nets.IMAGES, "conv_1")
    assert_allclose(rest(activations), model(nets.IMAGES), rtol=1e-5)
    assert_allclose(rest(2 * activations), jc.patch(model, "conv_1")(nets.IMAGES, 2 * activations), rtol=1e-5)
    assert "convolution" not in jax.jit(rest).lower(activations).as_text()


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no layer 'stm'; did you mean 'stem'"):
        expose(nets.flax_nnx(), ("stm",)).zeros(nets.IMAGES)
    with pytest.raises(ValueError, match="no layer 'stm'; did you mean 'stem'"):
        above(nets.flax_nnx(), nets.IMAGES, "stm")


def test_layers_with_space_are_those_from_the_first_convolution_on_with_more_than_one_place():
    def model(x):
        x = jc.tag(jax.nn.relu(x), "before")
        x = nets.max_pool(jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4)))))
        squeezed = jax.nn.relu(nets.convolve(x.mean((1, 2), keepdims=True), nets.weights((1, 1, 4, 4))))
        return (x * squeezed).mean((1, 2))

    anatomy, _ = study(model, nets.IMAGES)
    assert [place.name for place in spatial_layers(anatomy)] == ["conv_0"]
    assert [place.name for place in spatial_layers(anatomy, pools=True)] == ["conv_0", "pool_0"]


POOLS = {
    "mean": lambda a: a.mean((1, 2)),
    "mean of rows, then of columns": lambda a: a.mean(1).mean(1),
    "flat": lambda a: a.reshape(a.shape[0], -1, a.shape[-1]).mean(1),
    "channels first": lambda a: jnp.moveaxis(a, -1, 1).mean((2, 3)),
    "scaled before": lambda a: (a * 0.5).sum((1, 2)),
    "window": lambda a: nnx.avg_pool(a, (8, 8)).reshape(a.shape[0], -1),
    "in two steps": lambda a: a.reshape(a.shape[0], 2, 4, 2, 4, -1).mean((2, 4)).mean((1, 2)),
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_global_average_pool_is_known_however_it_is_written(pool):
    def model(x):
        return POOLS[pool](jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4))))) @ jnp.ones((4, 2)) + 1.0

    anatomy, _ = study(model, nets.IMAGES)
    assert pooled_then_affine(anatomy, anatomy.find("conv_0")) is None


NO_POOLS = {
    "maximum": (lambda a: a.max((1, 2)), "reduce_max"),
    "windows of a quarter": (lambda a: nnx.avg_pool(a, (4, 4), (4, 4)).reshape(a.shape[0], -1)[:, :4], "reduce_window"),
    "a place is left out": (lambda a: a[:, 1:].mean((1, 2)), "slice"),
    "places weigh more": (lambda a: (a * jnp.arange(8.0)[:, None]).mean((1, 2)), "mul"),
    "squares": (lambda a: (a**2).mean((1, 2)), "integer_pow|square|mul"),
}


@pytest.mark.parametrize("pool", NO_POOLS)
def test_what_is_no_global_average_pool_is_named(pool):
    function, why = NO_POOLS[pool]

    def model(x):
        return function(jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4))))) @ jnp.ones((4, 2))

    anatomy, _ = study(model, nets.IMAGES)
    complaint = pooled_then_affine(anatomy, anatomy.find("conv_0"))
    assert complaint is not None
    assert any(name in complaint for name in why.split("|"))


def test_the_first_operation_that_is_not_affine_is_named():
    x = jnp.ones((2, 3))
    assert first_nonlinear(lambda z: 2 * z[:, 0] - z[:, 1] + 1, x) is None
    assert first_nonlinear(lambda z: z[:, 0] * z[:, 1], x) == "mul"
    assert first_nonlinear(lambda z: z.max(-1), x) == "reduce_max"


MEAN, VARIANCE = jnp.array([0.1, 0.2, 0.3]), jnp.array([1.0, 4.0, 9.0])
SCALE, SHIFT = jnp.array([2.0, -1.0, 0.5]), jnp.array([0.0, 1.0, 2.0])
NORMS = {
    "scale into the root": lambda y: (y - MEAN) * (SCALE * jax.lax.rsqrt(VARIANCE + 1e-5)) + SHIFT,
    "scale last": lambda y: (y - MEAN) / jnp.sqrt(VARIANCE + 1e-5) * SCALE + SHIFT,
    "one scale, one shift": lambda y: (
        y * (SCALE / jnp.sqrt(VARIANCE + 1e-5)) + (SHIFT - MEAN * SCALE / jnp.sqrt(VARIANCE + 1e-5))
    ),
    "deviations as they are": lambda y: SCALE * ((y - MEAN) / VARIANCE) + SHIFT,
    "a power": lambda y: (y - MEAN) * (VARIANCE + 1e-5) ** -0.5 * SCALE,
    "the image's own": lambda y: (
        (y - y.mean((1, 2), keepdims=True)) * jax.lax.rsqrt(y.var((1, 2), keepdims=True) + 1e-5) * SCALE + SHIFT
    ),
}


@pytest.mark.parametrize("norm", NORMS)
def test_the_scale_of_a_normalization_is_found_however_it_is_written(norm):
    def model(x):
        return jc.tag(jax.nn.relu(NORMS[norm](nets.convolve(x, nets.weights((3, 3, 3, 3))))), "out").sum((1, 2))

    assert_allclose(normalization_scale(model, nets.IMAGES, "out"), SCALE)


def test_a_normalization_without_a_scale_has_the_scale_one():
    def model(x):
        y = nets.convolve(x, nets.weights((3, 3, 3, 3)))
        return jax.nn.relu((y - MEAN) * jax.lax.rsqrt(VARIANCE)).sum((1, 2))

    assert_allclose(normalization_scale(model, nets.IMAGES, "conv_0"), jnp.ones(3))


def test_the_scale_is_that_of_the_longer_way_into_a_residual_sum():
    def model(x):
        y = jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 3))))
        y = NORMS["scale last"](nets.convolve(y, nets.weights((3, 3, 3, 3))))
        way = (nets.convolve(x, nets.weights((1, 1, 3, 3))) - MEAN) / jnp.sqrt(VARIANCE) * 7.0
        return jax.nn.relu(y + way).sum((1, 2))

    assert_allclose(normalization_scale(model, nets.IMAGES, "add_0"), SCALE)


def test_the_scale_of_flax_modules_is_their_parameter():
    assert_allclose(normalization_scale(nets.flax_nnx(), nets.IMAGES, "block.conv"), [1.0, -0.5, 2.0, 0.7])
    assert_allclose(normalization_scale(nets.flax_nnx(), nets.IMAGES, "add_0"), [1.0, -0.5, 2.0, 0.7])
    assert_allclose(normalization_scale(nets.flax_linen(), nets.IMAGES, "add_0"), jnp.ones(4))


def test_where_there_is_no_normalization_there_is_no_scale():
    assert normalization_scale(nets.flax_nnx(), nets.IMAGES, "stem") is None  # a bias is none

    def scaled_input(x):
        return nets.convolve(x / jnp.array([1.0, 2.0, 3.0]), nets.weights((3, 3, 3, 4)))

    assert normalization_scale(scaled_input, nets.IMAGES, "conv_0") is None

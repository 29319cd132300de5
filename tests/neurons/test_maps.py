"""What `maps` promises beyond its numbers: axioms, limit cases, batches, chunks, `jit`, and a message for bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from neurons_nets import chain, convolve, images, max_pool, net, parameters
from neurons_twins import close, compilations, definition

import jaxcam as jc
from jaxcam.neurons import maps
from jaxcam.neurons.passes import maps_in_chunks, prepare


@pytest.fixture(scope="module")
def small():
    """A chain whose last layer has 6 units, 1 of them dead, and three images."""
    return chain()


@pytest.fixture(scope="module")
def batch():
    return jnp.concatenate([images((8, 7, 2), seed) for seed in (1, 2, 3)])


def two_convolutions(between, bias=True, seed=0):
    """Two convolutions with a function between them and none behind: the layer "b" is affine in what it gives."""
    rng = np.random.default_rng(seed)
    p = {"a": parameters(rng, 2, 4, bias=bias), "b": parameters(rng, 4, 3, bias=bias)}

    def function(p, x):
        return convolve(between(convolve(x, p["a"])), p["b"]).mean((1, 2))

    return net(function, p, names=("b",))


def sums(model, layer, x):
    """Σ aᵤ, (u,)."""
    return np.asarray(jc.tap(model, layer)(x)).sum((0, 1, 2))


def test_integrated_maps_sum_to_what_the_unit_gained_from_black():
    smooth = two_convolutions(jnp.tanh)
    gained = sums(smooth.model, "b", smooth.x) - sums(smooth.model, "b", 0 * smooth.x)
    errors = []
    for steps in (2, 4, 8):
        found = np.asarray(maps(smooth.model, smooth.x, "b", rule="integrated", steps=steps)).sum((1, 2, 3, 4))
        errors.append(np.abs(found - gained).max() / np.abs(gained).max())
    # The midpoint rule's error falls with the square of the number of steps.
    assert errors[0] / errors[1] > 3.5
    assert errors[1] / errors[2] > 3.5
    assert errors[2] < 2e-3


def test_integrated_maps_of_a_rectified_network_are_complete_where_the_units_live(small):
    found = np.asarray(maps(small.model, small.x, "conv2", rule="integrated", steps=64)).sum((1, 2, 3, 4))
    now, black = sums(small.model, "conv2", small.x), sums(small.model, "conv2", 0 * small.x)
    live = now > 0
    assert live.sum() == 5
    # Between two of the path's kinks the midpoint rule is exact; at each kink it is off by less than one step.
    np.testing.assert_allclose(found[live], (now - black)[live], atol=0.03 * np.abs(now).max())
    assert (found[~live] == 0).all()


@pytest.mark.parametrize("steps", [1, 5])
def test_integrated_maps_of_a_linear_network_are_exact_in_any_number_of_steps(steps):
    linear = two_convolutions(lambda z: 2 * z)
    found = np.asarray(maps(linear.model, linear.x, "b", rule="integrated", steps=steps)).sum((1, 2, 3, 4))
    gained = sums(linear.model, "b", linear.x) - sums(linear.model, "b", 0 * linear.x)
    np.testing.assert_allclose(found, gained, rtol=1e-5)


def test_in_one_step_integrated_maps_are_the_image_times_the_gradient_halfway(small):
    found = np.asarray(maps(small.model, small.x, "conv2", rule="integrated", steps=1))
    halfway = definition(small.model, small.x / 2, ["conv2"], "gradient")["conv2"]
    live = sums(small.model, "conv2", small.x) > 0
    close(found[live], (np.asarray(small.x) * halfway)[live])


def test_without_biases_integrated_maps_are_the_image_times_the_gradient():
    # A network without biases is linear on the whole ray from black to the image.
    bare = two_convolutions(lambda z: max_pool(jax.nn.relu(z)), bias=False)
    found = maps(bare.model, bare.x, "b", rule="integrated", steps=3)
    close(found, bare.x * maps(bare.model, bare.x, "b", rule="gradient"))


def test_on_a_linear_network_all_rules_are_the_gradient():
    linear = two_convolutions(lambda z: z)
    gradient = maps(linear.model, linear.x, "b", rule="gradient")
    for rule in ("guided", "deconv"):
        close(maps(linear.model, linear.x, "b", rule=rule), gradient)


def test_the_gradient_of_the_first_layer_is_a_sum_of_its_own_kernels():
    one = net(lambda p, x: convolve(x, p["a"]), {"a": parameters(np.random.default_rng(0), 2, 3)})
    found = np.asarray(maps(one.model, one.x, "a", rule="gradient"))
    kernel = np.asarray(one.model.args[0]["a"]["kernel"])
    # Away from the edge each pixel is met by every place of the kernel once.
    close(found[:, 0, 4, 3], kernel.sum((0, 1)).T)


@pytest.mark.parametrize("rule", ["deconv", "integrated"])
def test_a_dead_unit_is_black_even_where_the_rule_alone_would_draw_something(rule):
    # Unit 0 sees brightness less 0.9: dead on the image. On the path it is dead too, unless the path starts above.
    p = {"kernel": jnp.array([[[[1.0, -1.0]]]]), "bias": jnp.array([-0.9, 0.3])}
    model = Partial(lambda p, x: jax.nn.relu(convolve(x, {"kernel": p["kernel"]}) + p["bias"]).mean((1, 2)), p)
    x = jnp.full((1, 4, 4, 1), 0.5)
    alone = (
        jax.grad(lambda x: jc.tap(jc.deconv(model), "conv_0")(x)[..., 0].sum())(x)
        if rule == "deconv"
        else x * jax.grad(lambda x: jc.tap(model, "conv_0")(x)[..., 1].sum())(x / 4)
    )
    assert np.abs(alone).min() > 0
    name = jc.layers(model, x)[0].name
    np.testing.assert_array_equal(maps(model, x, name, rule=rule), np.zeros((2, *x.shape)))


@pytest.mark.parametrize("rule", ["guided", "integrated"])
def test_a_batch_gives_what_its_images_give_one_by_one(small, batch, rule):
    found = maps(small.model, batch, "conv2", rule=rule, steps=2)
    assert found.shape == (6, *batch.shape)
    for i in range(3):
        np.testing.assert_array_equal(
            found[:, i : i + 1], maps(small.model, batch[i : i + 1], "conv2", rule=rule, steps=2)
        )


def test_units_are_those_asked_for_in_that_order(small):
    whole = np.asarray(maps(small.model, small.x, "conv2"))
    close(maps(small.model, small.x, "conv2", [5, 0, 5]), whole[[5, 0, 5]], 1e-6)
    close(maps(small.model, small.x, "conv2", np.array([3], np.int8)), whole[[3]], 1e-6)


def test_memory_changes_nothing_but_the_chunks(small):
    whole = maps(small.model, small.x, "conv2", rule="deconv")
    for memory in (1, 10_000):
        close(maps(small.model, small.x, "conv2", rule="deconv", memory=memory), whole, 1e-6)


@pytest.mark.parametrize("chunk", [4, 7])
def test_chunks_under_jit_need_not_divide_the_units(small, chunk):
    def found(model, x):
        return maps_in_chunks(prepare(model, x, "conv2", "guided"), jnp.arange(6), chunk)

    close(jax.jit(found)(small.model, small.x), maps(small.model, small.x, "conv2"), 1e-6)


@pytest.mark.parametrize("rule", ["guided", "integrated"])
def test_under_jit_with_the_model_as_an_argument_maps_are_the_same(small, rule):
    compiled = jax.jit(lambda model, x: maps(model, x, "conv2", [4, 1], rule, steps=2))
    close(compiled(small.model, small.x), maps(small.model, small.x, "conv2", [4, 1], rule, steps=2), 1e-6)


def test_a_closure_over_traced_weights_is_traced_as_well(small):
    found = jax.jit(lambda model: maps(lambda x: model(x), small.x, "conv_2"))(small.model)
    close(found, maps(small.model, small.x, "conv2"), 1e-6)


def test_images_stay_as_they_are_and_may_be_numpy(small):
    x = np.array(small.x)
    before = x.copy()
    close(maps(small.model, x, "conv2"), maps(small.model, small.x, "conv2"), 1e-7)
    np.testing.assert_array_equal(x, before)


def test_a_layer_answers_to_its_kind_and_number_too(small):
    close(maps(small.model, small.x, "conv_2"), maps(small.model, small.x, "conv2"), 1e-7)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_other_weights_and_images_of_the_same_shapes_compile_nothing(small, rule):
    maps(small.model, small.x, "conv2", rule=rule)
    other = jax.tree.map(lambda p: p + np.float32(0.01), small.model)
    x = small.x + np.float32(0.1)
    with compilations() as compiled:
        found = maps(other, x, "conv2", rule=rule)
    assert compiled == []
    close(found, definition(other, x, ["conv2"], rule)["conv2"])


def bad(message, error=ValueError, **options):
    return pytest.param(options, error, message, id=message[:30])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        bad("no layer 'conv4'; did you mean 'conv", layer="conv4"),
        bad("no rule 'gided'; did you mean 'guided'", rule="gided"),
        bad("at least 1 step; got steps=0", rule="integrated", steps=0),
        bad("layer 'conv2' has units 0 to 5; got units=[6]", units=[6]),
        bad("has units 0 to 5; got units=[-1]", units=[-1]),
        bad("has units 0 to 5; got units=[0.5]", units=np.array([0.5])),
        bad("has units 0 to 5; got units=[]", units=[]),
        bad("image 1 has NaN or infinite values", x=np.array([np.zeros((8, 7, 2)), np.full((8, 7, 2), np.nan)], "f")),
        bad("fails on images of shape (1, 8, 7, 3), float32: conv_general_dilated", x=np.zeros((1, 8, 7, 3), "f")),
        bad("images are floating point, usually in [0, 1]; got uint8", TypeError, x=np.zeros((1, 8, 7, 2), np.uint8)),
        bad("images are a non-empty array (n, h, w, c); got shape (8, 7, 2)", x=np.zeros((8, 7, 2), "f")),
        bad("images are a non-empty array (n, h, w, c); got shape (0, 8, 7, 2)", x=np.zeros((0, 8, 7, 2), "f")),
        bad("a model is a callable", TypeError, model=3),
    ],
)
def test_bad_input_is_told_in_one_line(small, options, error, message):
    arguments = {"model": small.model, "x": small.x, "layer": "conv2"} | options
    with pytest.raises(error) as caught:
        maps(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_operation_without_a_rule_is_an_error_not_a_plain_gradient():
    smooth = two_convolutions(jnp.tanh)
    with pytest.raises(ValueError, match=r"the guided rule says nothing about equation \d+, 'tanh'.*after layer 'a'"):
        maps(smooth.model, smooth.x, "b")

"""At its kink a rectifier is off, in every backward rule and however it is written; JAX's own gradient stays JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from program_nets import convolve, weights

import jaxcam as jc
from jaxcam.program.recognize import activations
from jaxcam.program.trace import trace

# Negative, the kink at 0 (of either sign), between, the kink at 6, above.
X = jnp.array([[-2.0, -0.0, 0.0, 3.0, 6.0, 7.0]])
RELU = {
    "jax.nn.relu": jax.nn.relu,
    "maximum(x, 0)": lambda x: jnp.maximum(x, 0),
    "maximum(0, x)": lambda x: jnp.maximum(0.0, x),
    "where(x > 0, x, 0)": lambda x: jnp.where(x > 0, x, 0),
    "where(x >= 0, x, 0)": lambda x: jnp.where(x >= 0, x, 0),
    "where(x < 0, 0, x)": lambda x: jnp.where(x < 0, 0, x),
    "x * (x > 0)": lambda x: x * (x > 0),
    "x * (x >= 0)": lambda x: x * (x >= 0),
    "clip(x, 0)": lambda x: jnp.clip(x, 0),
    "clamp(0, x, inf)": lambda x: jax.lax.clamp(0.0, x, jnp.inf),
}
RELU6 = {
    "jax.nn.relu6": jax.nn.relu6,
    "clip(x, 0, 6)": lambda x: jnp.clip(x, 0, 6),
    "clamp(0, x, 6)": lambda x: jax.lax.clamp(0.0, x, 6.0),
    "minimum(maximum(x, 0), 6)": lambda x: jnp.minimum(jnp.maximum(x, 0), 6),
    "maximum(minimum(x, 6), 0)": lambda x: jnp.maximum(jnp.minimum(x, 6), 0),
    "minimum(relu(x), 6)": lambda x: jnp.minimum(jax.nn.relu(x), 6),
}
LEAKY = {
    "jax.nn.leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.25),
    "maximum(x, x / 4)": lambda x: jnp.maximum(x, x / 4),
    "maximum(x / 4, x)": lambda x: jnp.maximum(0.25 * x, x),
    "where(x > 0, x, x / 4)": lambda x: jnp.where(x > 0, x, 0.25 * x),
    "where(x >= 0, x, x / 4)": lambda x: jnp.where(x >= 0, x, 0.25 * x),
}
# The derivative at the numbers of X.
DERIVATIVE = {"relu": [0, 0, 0, 1, 1, 1], "relu6": [0, 0, 0, 1, 0, 0], "leaky": [0.25, 0.25, 0.25, 1, 1, 1]}
SPELLINGS = [
    pytest.param(kind, function, id=name)
    for kind, functions in (("relu", RELU), ("relu6", RELU6), ("leaky", LEAKY))
    for name, function in functions.items()
]


@pytest.mark.parametrize(("kind", "function"), SPELLINGS)
def test_guided_is_off_at_the_kink(kind, function):
    outputs, pull_back = jax.vjp(jc.guided(function), X)
    np.testing.assert_array_equal(outputs, function(X))
    np.testing.assert_array_equal(pull_back(2 * jnp.ones_like(X))[0][0], 2 * np.asarray(DERIVATIVE[kind]))
    np.testing.assert_array_equal(pull_back(-jnp.ones_like(X))[0], jnp.zeros_like(X))


@pytest.mark.parametrize(("kind", "function"), SPELLINGS)
def test_what_was_recognized_has_its_slope_and_its_limit(kind, function):
    program = trace(function, X)
    (activation,) = activations(program).values()
    assert (activation.slope, activation.limit) == {
        "relu": (0, np.inf),
        "relu6": (0, 6),
        "leaky": (0.25, np.inf),
    }[kind]


@pytest.mark.parametrize("function", [pytest.param(f, id=name) for name, f in RELU.items()])
def test_what_is_off_hands_on_no_nan(function):
    _, pull_back = jax.vjp(jc.guided(function), X)
    relevance = jnp.array([[jnp.inf, jnp.inf, jnp.nan, 1, 1, 1]])
    np.testing.assert_array_equal(pull_back(relevance)[0], [[0, 0, 0, 1, 1, 1]])


@pytest.mark.parametrize(("kind", "function"), SPELLINGS)
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deep_lift_has_the_derivative_of_the_off_side_where_nothing_changed(kind, function, rule):
    """z = x₁ − x₂ is at the kink, before and after, while x₁ and x₂ moved: Δy/Δz is the derivative there."""

    def net(x):
        return function(x[..., 0] - x[..., 1] + x[..., 2]).sum((1, 2))[:, None]

    x = jnp.array([[[[1.0, 1.0, 0.0], [1.0, 1.0, 6.0], [5.0, 2.0, 0.0]]]])
    baseline = jnp.array([[[[0.0, 0.0, 0.0], [0.0, 0.0, 6.0], [0.0, 0.0, 0.0]]]])
    maps = jc.deep_lift(net, x, 0, baseline=baseline, rule=rule)
    at_0, _, _, between, at_6, _ = DERIVATIVE[kind]
    if rule == "reveal_cancel":  # Δz⁺ = 1 and Δz⁻ = −1 cancel, and each has its own change
        at_0, at_6 = ((function(jnp.array(z + 1)) - function(jnp.array(z - 1))) / 2 for z in (0.0, 6.0))
    expected = [[at_0, -at_0, 0], [at_6, -at_6, 0]]
    np.testing.assert_allclose(maps[0, 0, :2], expected, atol=1e-6)
    np.testing.assert_allclose(maps[0, 0, 2].sum(), 3 * between, atol=1e-5)


# A picture that is black on one side: there, without biases, everything before a ReLU is exactly 0.
IMAGE = jnp.asarray(np.random.default_rng(0).random((1, 8, 8, 3)), jnp.float32).at[:, :, 3:].set(0)
K1, K2, K3 = weights((3, 3, 3, 8)), weights((3, 3, 8, 8), 2), weights((3, 3, 8, 64), 3)
HEAD = weights((64, 5), 4)
BRIEFLY = ["jax.nn.relu", "maximum(x, 0)", "where(x >= 0, x, 0)"]


def network(relu):
    def net(p, x):
        for kernel in p:
            x = relu(convolve(x, kernel))
        return x.mean((1, 2)) @ HEAD

    return Partial(net, [K1, K2, K3])


@jax.custom_vjp
def guided_by_hand(x):
    return jnp.where(x > 0, x, 0)


guided_by_hand.defvjp(lambda x: (guided_by_hand(x), x > 0), lambda on, r: (jnp.where(on, jnp.maximum(r, 0), 0),))


@pytest.mark.parametrize("name", BRIEFLY)
def test_guided_backprop_is_that_of_rectifiers_by_hand(name):
    found = jc.guided_backprop(network(RELU[name]), IMAGE, 3)
    expected = jax.grad(lambda x: network(guided_by_hand)(x)[:, 3].sum())(IMAGE)
    np.testing.assert_allclose(found, expected, atol=1e-6 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("name", BRIEFLY)
@pytest.mark.parametrize("units", [None, [0, 5]], ids=["all units", "two units"])
def test_the_pass_for_all_units_is_off_at_the_kink(name, units):
    """All 64 units go the sparse way, two the plain one."""
    found = jc.neurons.maps(network(RELU[name]), IMAGE, "conv_2", units)
    pull_back = jax.vjp(jc.tap(network(guided_by_hand), "conv_2"), IMAGE)[1]
    for unit in [0, 5]:
        row = unit if units is None else units.index(unit)
        expected = pull_back(jnp.zeros((1, 8, 8, 64)).at[..., unit].set(1))[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-6 * float(jnp.abs(found).max()))


@pytest.mark.parametrize("method", [jc.deconvnet, jc.lrp, jc.deep_lift, jc.guided_grad_cam])
def test_a_method_does_not_depend_on_the_spelling(method):
    first, *others = (method(network(RELU[name]), IMAGE, 3) for name in BRIEFLY)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-6 * float(jnp.abs(first).max()))


def test_similarities_do_not_depend_on_the_spelling():
    first, *others = (jc.neurons.similarity(network(RELU[name]), IMAGE, ["conv_2"])["conv_2"] for name in BRIEFLY)
    for other in others:
        np.testing.assert_allclose(other, first, atol=1e-6)


@pytest.mark.parametrize("name", BRIEFLY)
def test_saliency_is_the_gradient_of_jax_at_the_kink_as_well(name):
    model = network(RELU[name])
    expected = jax.grad(lambda x: model(x)[:, 3].sum())(IMAGE)
    np.testing.assert_allclose(jc.saliency(model, IMAGE, 3), expected, atol=1e-6 * float(jnp.abs(expected).max()))


def test_deep_lift_through_a_function_of_one_number_with_a_weight_inside():
    """x · sigmoid(βx), β a parameter of the model: only an inner equation reads it."""

    def swish(p, x):
        z = convolve(x, p["w"])
        return (z * jax.nn.sigmoid(p["b"] * z)).mean((1, 2))

    model = Partial(swish, {"w": K1, "b": jnp.asarray(1.5)})
    found = jc.deep_lift(model, IMAGE, 3)
    difference = model(IMAGE) - model(0 * IMAGE)
    np.testing.assert_allclose(found.sum(), difference[0, 3], rtol=1e-4)


@jax.custom_vjp
def doubling(x):
    """A ReLU whose user wants twice its derivative."""
    return jnp.maximum(x, 0)


doubling.defvjp(lambda x: (doubling(x), x >= 0), lambda on, r: (2 * r * on,))


@pytest.mark.parametrize("clipped", [False, True])
def test_a_derivative_of_the_users_own_is_kept_but_off_at_the_kink(clipped):
    function = (lambda x: jnp.minimum(doubling(x), 6)) if clipped else doubling
    pull_back = jax.vjp(jc.guided(function), X)[1]
    expected = 2 * np.asarray(DERIVATIVE["relu6" if clipped else "relu"])
    np.testing.assert_array_equal(pull_back(jnp.ones_like(X))[0][0], expected)


def test_deep_lift_through_a_derivative_of_the_users_own():
    """Where a ReLU's input moves, its own change counts and no derivative; a custom_vjp has no forward mode."""
    found = jc.deep_lift(network(doubling), IMAGE, 3, baseline=0.1)
    expected = jc.deep_lift(network(jax.nn.relu), IMAGE, 3, baseline=0.1)
    np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.abs(expected).max()))

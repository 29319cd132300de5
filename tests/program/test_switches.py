"""Every switch: held, it is linear and gives the network's value; its margins say exactly where it is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import IMAGES, KINDS, NAMES

from jaxcam.program.pieces import _bends
from jaxcam.program.regions import opened, partition
from jaxcam.program.trace import trace

IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4, 2)), jnp.float32)


def pool(x, start, reduce, strides=(1, 2, 2, 1), padding="VALID"):
    return jax.lax.reduce_window(x, start, reduce, (1, 3, 3, 1), strides, padding)


SWITCHES = {
    "relu": jax.nn.relu,
    "relu the other way around": lambda x: jnp.maximum(0.1, x),
    "relu6": lambda x: jax.nn.relu6(4 * x),
    "leaky relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "a learned slope": lambda x: jnp.where(x > 0, x, jnp.array([0.3, -0.4]) * x),
    "a mask": lambda x: x * (x > 0.3),
    "hard tanh": jax.nn.hard_tanh,
    "clip": lambda x: jnp.clip(x, -0.5, 0.7),
    "clamp": lambda x: jax.lax.clamp(-0.5, x, 0.7),
    "absolute value": jnp.abs,
    "sign times value": lambda x: jnp.sign(x) * (x + 1),
    "maxout": lambda x: jnp.maximum(x[..., 0], 2 * x[..., 1] - 1),
    "minimum of two": lambda x: jnp.minimum(x[..., 0], x[..., 1]),
    "maximum over space": lambda x: x.max((1, 2)),
    "minimum over units": lambda x: x.min(-1),
    "max pool": lambda x: pool(x, -jnp.inf, jax.lax.max),
    "overlapping padded max pool": lambda x: pool(x, -jnp.inf, jax.lax.max, (1, 1, 1, 1), "SAME"),
    "min pool": lambda x: pool(x, jnp.inf, jax.lax.min),
    "gated by the larger half": lambda x: jnp.where(x[..., :1] > x[..., 1:], x[..., :1], 3 * x[..., 1:]),
    "the place of a maximum": lambda x: jnp.where(jnp.argmax(x, -1) == 0, x[..., 0], 3 * x[..., 1]),
    "the place of a minimum": lambda x: jnp.where(jnp.argmin(x, 1) < 2, x[:, 0], -x[:, 1]),
    "stopped gradient": lambda x: jax.lax.stop_gradient(jax.nn.relu(x)) + x,
}


PLAIN = {"relu6", "a mask", "clip", "sign times value", "max pool", "maximum over space", "gated by the larger half"}
PLAIN |= {"relu the other way around", "clamp", "minimum of two", "minimum over units"}
PLAIN |= {"the place of a maximum", "the place of a minimum"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in PLAIN else pytest.mark.slow) for name in SWITCHES]
)
def test_a_switch_held_is_linear_and_right_where_its_margins_say(name):
    function = SWITCHES[name]
    regions = partition(function, IMAGE)
    every = range(len(regions.switches))
    states = regions.states(IMAGE)
    held = jax.jit(regions.held(states), static_argnums=1)
    value, margins = held(IMAGE, tuple(every))
    np.testing.assert_allclose(value, function(IMAGE[None]), rtol=1e-6, atol=1e-6)
    assert all((np.asarray(margin) >= 0).all() for margin in margins)

    random = np.random.default_rng(1)
    a, b = (jnp.asarray(random.normal(size=IMAGE.shape), jnp.float32) for _ in range(2))
    both, of_a, of_b, at_zero = (held(z, ())[0] for z in (2 * a - 3 * b, a, b, 0 * a))
    np.testing.assert_allclose(both - at_zero, 2 * (of_a - at_zero) - 3 * (of_b - at_zero), rtol=1e-4, atol=1e-5)
    _, tangent = jax.jvp(lambda z: held(z, ())[0], (IMAGE,), (a,))
    np.testing.assert_allclose(tangent, of_a - at_zero, rtol=1e-4, atol=1e-5)

    right = []
    for step in np.linspace(0, 1.5, 12):
        z = IMAGE + jnp.float32(step) * a
        same = all((np.asarray(s) == t).all() for s, t in zip(regions.states(z), states, strict=True))
        allowed = all((np.asarray(m) >= 0).all() for m in held(z, tuple(every))[1])
        right.append(same)
        assert same == allowed
        if same:
            np.testing.assert_allclose(held(z, ())[0], function(z[None]), rtol=1e-5, atol=1e-5)
    assert right[0]
    assert not right[-1]


def test_an_opened_program_computes_the_same():
    """Functions with derivatives of their own, one in the other, and one that returns what it is given."""

    @jax.custom_jvp
    def outer(x):
        return jax.nn.relu6(x) + jax.nn.relu(-x), x

    outer.defjvp(lambda primals, tangents: (outer(*primals), outer(*tangents)))
    program = opened(trace(lambda x: outer(x)[0] * 2 + outer(x)[1], IMAGE))
    assert all(node.body is None for node in program.nodes)
    known = {program.inputs[0]: IMAGE, **program.constants}
    for node in program.nodes:
        known.update(zip([v for v in node.outputs if v is not None], node(*map(known.get, node.operands)), strict=True))
    expected = 2 * (jnp.clip(IMAGE, 0, 6) + jnp.maximum(-IMAGE, 0)) + IMAGE
    np.testing.assert_allclose(known[program.outputs[0]], expected, rtol=1e-6)


def test_switches_carry_the_name_of_their_layer():
    weights = {"first": {"kernel": jnp.ones((2, 3))}, "second": {"kernel": jnp.ones((3, 3))}}

    def network(p, x):
        x = jax.nn.relu(x @ p["first"]["kernel"])
        x = x + jnp.where(x @ p["second"]["kernel"] > 0, x @ p["second"]["kernel"], 0)
        return jnp.maximum(x, 1).max((1, 2))

    regions = partition(jax.tree_util.Partial(network, weights), IMAGE)
    assert [switch.layer for switch in regions.switches][:1] == ["first"]
    assert len(regions.switches) == 4


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k == "equinox" else pytest.mark.slow) for k in KINDS])
def test_a_model_of_any_library_is_its_linear_piece(kind):
    model = KINDS[kind]()
    regions = partition(model, IMAGES[0])
    assert [switch.layer for switch in regions.switches] == [NAMES[kind][0], "pool_0", "add_0"]

    @jax.jit
    def piece(image):
        held = regions.held(regions.states(image))
        return held(0 * image)[0], jax.jvp(lambda z: held(z)[0], (image,), (image,))[1]

    bias, linear = piece(IMAGES[0])
    np.testing.assert_allclose(linear + bias, model(IMAGES[:1]), rtol=1e-4, atol=1e-5)


def test_a_quotient_bends_only_where_the_divisor_varies():
    def bends(function):
        program = trace(function, IMAGE)
        live = program.depending_on(program.inputs)
        (node,) = (node for node in program.nodes if node.name == "div")
        return _bends(node, node.varying(live))

    assert not bends(lambda x: x / 3)
    assert bends(lambda x: 3 / x)
    assert bends(lambda x: x / jnp.exp(x))


@pytest.mark.parametrize(("places", "dtype"), [(256, np.uint8), (257, np.int32)])
def test_a_byte_is_enough_for_256_places(places, dtype):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, places, 1)), jnp.float32)
    regions = partition(lambda x: x.max(2), image)
    (state,) = regions.states(image)
    assert state.dtype == dtype
    assert int(state.ravel()[0]) == int(image.argmax())
    last = jnp.zeros_like(image).at[0, -1].set(1)
    assert int(regions.states(last)[0].ravel()[0]) == places - 1


def test_at_a_limit_a_clamp_is_held_to_it():
    image = jnp.array([-1.0, -0.5, 0.0, 0.7, 2.0]).reshape(1, 5, 1)
    regions = partition(lambda x: jax.lax.clamp(-0.5, x, jnp.float32(0.7)), image)
    assert [regions.states(image)[0].ravel().tolist()] == [[0, 0, 1, 2, 2]]


COMPARED = {"gt": lambda x: x > 0.3, "ge": lambda x: x >= 0.3, "lt": lambda x: x < 0.3, "le": lambda x: x <= 0.3}


@pytest.mark.parametrize("name", COMPARED)
def test_the_margin_of_a_comparison_is_how_far_the_number_is_from_the_other(name):
    regions = partition(lambda x: jnp.where(COMPARED[name](x), x, 2 * x), IMAGE)
    _, (margin,) = regions.held(regions.states(IMAGE))(IMAGE, (0,))
    np.testing.assert_allclose(margin[0], np.abs(IMAGE - 0.3), rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "on"),
    [
        (lambda x: jnp.maximum(x, 0.1), IMAGE > 0.1),
        (lambda x: jnp.maximum(0.1, x), IMAGE > 0.1),
        (lambda x: jnp.minimum(x, 0.1), IMAGE < 0.1),
        (lambda x: jnp.minimum(0.1, x), IMAGE < 0.1),
    ],
)
def test_a_switch_is_on_where_the_constant_is_not_taken(function, on):
    (state,) = partition(function, IMAGE).states(IMAGE)
    np.testing.assert_array_equal(state[0], on)

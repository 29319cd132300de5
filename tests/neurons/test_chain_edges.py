"""What stands between two convolutions and looks like a scale, a sum or a pool but is another thing: the maps are
those of the definition all the same, whichever way they go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurons_nets import convolve, max_pool, net, parameters
from neurons_twins import close, definition

from jaxcam.neurons.descent import ActivePass
from jaxcam.neurons.engine import Engine
from jaxcam.program import tag

RNG = np.random.default_rng(7)
MASK = jnp.asarray(RNG.uniform(0.5, 1.5, (1, 6, 5, 1)), jnp.float32)
PIXELS = jnp.asarray(RNG.normal(size=(1, 6, 5, 4)), jnp.float32)
PARAMETERS = {"one": parameters(RNG, 2, 4), "two": parameters(RNG, 4, 3), "other": parameters(RNG, 2, 4)}


def pool(x, window, strides, dilation=(1, 1, 1, 1)):
    padding = [(0, 0)] * 4
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, padding, window_dilation=dilation)


# name: (what is between, whether the way over active entries is open)
BETWEEN = {
    "nothing": (lambda z, x: jax.nn.relu(z), True),
    "a divisor": (lambda z, x: jax.nn.relu(2 / (4 + z)), False),
    "a divided": (lambda z, x: jax.nn.relu(z / 2), True),
    "a difference the other way round": (lambda z, x: jax.nn.relu(0.5 - z), True),
    "a scale of each pixel": (lambda z, x: jax.nn.relu(z * MASK), True),
    "a shift of each number": (lambda z, x: jax.nn.relu(z + PIXELS), True),
    "its own square": (lambda z, x: jax.nn.relu(z * z - 0.3), False),
    "twice itself": (lambda z, x: jax.nn.relu(z + z), None),
    "its mean over channels added": (lambda z, x: jax.nn.relu(z + z.mean(-1, keepdims=True)), False),
    "its mean over pixels taken away": (lambda z, x: jax.nn.relu(z - z.mean((1, 2), keepdims=True)), False),
    "the image's mean added": (lambda z, x: jax.nn.relu(z + x.mean(-1, keepdims=True)), False),
    "the image itself added": (lambda z, x: jax.nn.relu(z + jnp.concatenate([x, x], -1)), False),
    "another convolution added": (lambda z, x: jax.nn.relu(z + convolve(x, PARAMETERS["other"])), True),
    "another convolution taken away": (lambda z, x: jax.nn.relu(z - convolve(x, PARAMETERS["other"])), False),
    "another convolution as a factor": (lambda z, x: jax.nn.relu(z * convolve(x, PARAMETERS["other"])), False),
    "a rectified gate": (lambda z, x: jax.nn.relu(z) * jax.nn.sigmoid(x.sum(-1, keepdims=True)), False),
    "two rectifiers": (lambda z, x: jax.nn.relu(jax.nn.relu(z) - 0.2), None),
    "names": (lambda z, x: tag(jax.nn.relu(tag(z, "before")), "after"), True),
    "a pool": (lambda z, x: max_pool(jax.nn.relu(z)), True),
    "a pool over channels": (lambda z, x: jnp.repeat(pool(jax.nn.relu(z), (1, 2, 2, 2), (1, 1, 1, 2)), 2, -1), False),
    "a pool of channels alone": (
        lambda z, x: jnp.repeat(pool(jax.nn.relu(z), (1, 1, 1, 4), (1, 1, 1, 1)), 4, -1),
        False,
    ),
    "a pool with holes": (lambda z, x: pool(jax.nn.relu(z), (1, 2, 2, 1), (1, 1, 1, 1), (1, 2, 2, 1)), False),
    "a pool taller than wide": (lambda z, x: pool(jax.nn.relu(z), (1, 3, 1, 1), (1, 1, 2, 1)), True),
    "a pool before the rectifier": (lambda z, x: jax.nn.relu(max_pool(z)), None),
    "a mean of pixels": (lambda z, x: jnp.broadcast_to(jax.nn.relu(z).mean((1, 2), keepdims=True), z.shape), False),
    "half precision": (lambda z, x: jax.nn.relu(z.astype(jnp.bfloat16)).astype(jnp.float32), None),
    "no rectifier": (lambda z, x: z * 0.5 + 0.1, None),
}


def network(between, p, x):
    y = between(convolve(x, p["one"]), x)
    return jax.nn.relu(convolve(y, p["two"])).sum((1, 2))


@pytest.mark.parametrize("name", BETWEEN)
def test_maps_are_those_of_the_definition_whatever_is_between(name):
    between, walks = BETWEEN[name]
    made = net(lambda p, x: network(between, p, x), {k: PARAMETERS[k] for k in ("one", "two")}, (6, 5, 2))
    sender = Engine(made.model, made.x.shape, ["two"], "gradient").image(made.x).layer("two")
    if walks is not None:
        assert isinstance(sender.walk, ActivePass) is walks
    if name == "a pool with holes":
        return  # JAX knows no derivative of it
    tolerance = 2e-2 if name == "half precision" else 1e-5  # bfloat16 keeps 4e-3, over a few steps
    wanted = definition(made.model, made.x, ["two"], "gradient")["two"]
    assert np.abs(wanted).max() > 0
    close(sender.maps(np.arange(3)), wanted, tolerance)

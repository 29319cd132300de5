"""Unit maps of every kind of network against their plain definition, one unit after another, and a loop in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from neurons_nets import NETS, chain, convolve, max_pool, parameters
from neurons_twins import close, definition, unit_maps_in_numpy

from jaxcam.neurons.engine import MAP_RULES, Engine

pytestmark = pytest.mark.optimized

STEPS = 3
LATER = {"unusual layouts", "padded pools", "leaky relu", "no bias", "single pixel", "closure", "linen"}
# Every kind of network once, and each rule where it could differ; all rules on all networks in the slow test.
ONE_BY_ONE = ("strided", "dilated", "valid", "asymmetric padding", "wide padding", "cropped", "steps over pixels")
CASES = [
    *(("guided", name) for name in NETS if name not in ONE_BY_ONE and name not in LATER),
    *(("gradient", name) for name in ("negative scales", "overlapping pools")),
    *(("deconv", name) for name in ("residual", "dense")),
    ("integrated", "dense"),
]


def maps_of(net, rule, **options):
    """The maps of all units of a net's layers, from one engine."""
    image = Engine(net.model, net.x.shape, net.layers, rule, dtype=net.x.dtype, **options).image(net.x)
    senders = {name: image.layer(name) for name in net.layers}
    return {name: np.asarray(sender.maps(np.arange(sender.units))) for name, sender in senders.items()}


def check(rule, name):
    net = NETS[name]()
    wanted = definition(net.model, net.x, net.layers, rule, STEPS)
    assert any(np.abs(maps).max() > 0.01 for maps in wanted.values())
    for layer, maps in maps_of(net, rule, steps=STEPS).items():
        close(maps, wanted[layer])


@pytest.mark.parametrize(("rule", "name"), CASES)
def test_maps_equal_the_gradient_of_one_unit_after_another(rule, name):
    check(rule, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rule", [rule for rule in MAP_RULES if rule != "integrated"])  # gradients along a path
def test_maps_equal_the_definition_for_every_rule_and_network(rule, name):
    if (rule, name) in CASES:
        pytest.skip("in the plain run")
    check(rule, name)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_maps_equal_loops_written_from_the_papers(rule):
    kernels, biases, image, wanted = unit_maps_in_numpy(rule)
    p = [{"kernel": jnp.asarray(k), "bias": jnp.asarray(b)} for k, b in zip(kernels, biases, strict=True)]

    def function(p, x):
        x = max_pool(jax.nn.relu(convolve(x, p[0])))
        return jax.nn.relu(convolve(jax.nn.relu(convolve(x, p[1])), p[2])).mean((1, 2))

    image = jnp.asarray(image)[None]
    sender = Engine(Partial(function, p), image.shape, ["conv_2"], rule).image(image).layer("conv_2")
    assert np.abs(wanted).max() > 0.1
    close(sender.maps(np.arange(3))[:, 0], wanted)


def test_double_precision_is_kept_to_the_end():
    with jax.enable_x64(True):
        net = chain(np.float64, names=["conv1"])
        for rule in ("guided", "integrated"):
            wanted = definition(net.model, net.x, net.layers, rule, STEPS)["conv1"]
            found = maps_of(net, rule, steps=STEPS)["conv1"]
            assert found.dtype == np.float64
            # Sixteen digits, less those that sums of hundreds of products lose.
            close(found, wanted, tolerance=1e-13)


def test_half_precision_goes_the_plain_way():
    net = chain(jnp.bfloat16, names=["conv1"])
    wanted = definition(net.model, net.x, net.layers, "guided")
    for layer, maps in maps_of(net, "guided").items():
        assert maps.dtype == jnp.bfloat16
        # bfloat16 keeps 8 bits.
        close(maps.astype(np.float32), wanted[layer].astype(np.float32), tolerance=0.03)


@pytest.mark.parametrize("rule", ["guided", "gradient"])
def test_where_two_values_tie_the_first_one_of_a_window_is_the_maximum(rule):
    p = {"a": {"kernel": jnp.ones((1, 1, 1, 1))}, "b": parameters(np.random.default_rng(0), 1, 2, 1, bias=False)}
    p["b"]["kernel"] = jnp.asarray([[[[1.0, 2.0]]]])
    model = Partial(lambda p, x: jax.nn.relu(convolve(max_pool(jax.nn.relu(convolve(x, p["a"]))), p["b"])), p)
    x = jnp.ones((1, 4, 4, 1))
    sender = Engine(model, x.shape, ["b"], rule).image(x).layer("b")
    assert sender.walk is not None
    once = np.kron(np.ones((2, 2)), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(sender.maps(np.arange(2))[:, 0, :, :, 0], [once, 2 * once])

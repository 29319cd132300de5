"""Where the way back is cut, that pieces alike are compiled once, and that the maps are those of the whole way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial
from neurons_nets import NETS, images
from neurons_twins import close

from jaxcam.neurons import maps, similarity
from jaxcam.neurons.cuts import cuts
from jaxcam.neurons.engine import Engine
from jaxcam.neurons.passes import prepare
from jaxcam.program.layers import layers, study


class Block(nnx.Module):
    def __init__(self, units, rngs):
        self.conv1 = nnx.Conv(units, units, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(units, units, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.relu(x + self.conv2(nnx.relu(self.conv1(x))))


class Stage(nnx.Module):
    """A convolution and so many equal blocks."""

    def __init__(self, blocks):
        rngs = nnx.Rngs(0)
        self.stem = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Block(4, rngs) for _ in range(blocks)])

    def __call__(self, x):
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2))


def test_a_chain_is_cut_before_each_convolution():
    net = NETS["chain"]()
    anatomy, _ = study(net.model, net.x)
    sources = [place.node.operands[0] for place in anatomy.places if place.kind in {"conv", "dense"}]
    assert cuts(anatomy, anatomy.places) == list(dict.fromkeys([anatomy.x, *sources]))


def test_a_block_is_not_cut_inside():
    anatomy, _ = study(Stage(3), images((6, 6, 2)))
    found = cuts(anatomy, [anatomy.find("blocks.2.conv1")])
    # The images, and what goes into each block: inside a block there are two ways.
    assert found[0] == anatomy.x
    assert found[1:] == [anatomy.find(f"blocks.{i}.conv1").node.operands[0] for i in range(3)]


def test_what_leads_to_no_layer_wanted_does_not_count():
    x = images((6, 6, 2))
    anatomy, _ = study(Stage(2), x)
    assert cuts(anatomy, [anatomy.find("stem")]) == [anatomy.x]
    assert len(cuts(anatomy, [anatomy.find("blocks.0.conv2")])) == 3  # its block has one way now


@pytest.mark.parametrize(
    "name", [pytest.param("branches", marks=pytest.mark.slow), "residual"]
)  # all others are in test_backward.py
def test_the_pieces_give_the_maps_of_the_whole_way(name):
    net = NETS[name]()
    image = Engine(net.model, net.x.shape, net.layers, "deconv", dtype=net.x.dtype).image(net.x)
    for layer in net.layers:
        sender = image.layer(layer)
        units = np.arange(min(3, sender.units))
        whole = prepare(net.model, net.x, layer, "deconv").maps(units)
        close(sender.maps(units), whole, 1e-6)


def test_the_third_block_compiles_nothing_that_the_second_has_not(compiled):
    x = images((6, 6, 2))
    counts = []
    for blocks in (2, 3, 5):
        engine = Engine(Stage(blocks), x.shape, None, "deconv")
        image = engine.image(x)
        before = compiled()
        for layer in engine.layers:
            jax.block_until_ready(image.layer(layer).maps(np.arange(4)))
        counts.append(compiled() - before)
    assert counts[0] > 10
    # Of two blocks the last one is special, as no way around it leads to a layer.
    assert counts[1] < counts[0] / 2
    assert counts[2] == 0


def test_integrated_gradients_go_the_same_pieces():
    net = NETS["residual"]()
    layer = net.layers[-1]
    found = maps(net.model, net.x, layer, [0], "integrated", steps=4)
    points = [(i + 0.5) / 4 * net.x for i in range(4)]
    mean = np.mean(
        [np.asarray(prepare(net.model, point, layer, "gradient").sent(jnp.array([0]))) for point in points], 0
    )
    close(found, mean * np.asarray(net.x), 1e-5)


def test_other_weights_go_the_same_pieces_with_their_own_numbers(compiled):
    x = images((5, 5, 2))
    kernels = [0.1 * jnp.ones((3, 3, 2, 3)), jnp.arange(54.0).reshape(3, 3, 2, 3) / 54]

    def net(kernel, x):
        z = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(z)

    found = []
    for kernel in kernels:
        before = compiled()
        found.append(np.asarray(maps(Partial(net, kernel), x, "conv_0", rule="deconv")))
        counted = compiled() - before
    assert counted == 0
    whole = [prepare(Partial(net, kernel), x, "conv_0", "deconv").maps(np.arange(3)) for kernel in kernels]
    for one, other in zip(found, whole, strict=True):
        close(one, other, 1e-6)


def test_a_closure_whose_numbers_changed_is_not_taken_for_what_it_was():
    net = NETS["chain"]()
    held = [net.model]

    def closure(x):
        return held[0](x)

    names = [layer.name for layer in layers(closure, net.x) if layer.kind == "conv"]
    similarity(closure, net.x, names)
    held[0] = jax.tree.map(lambda p: 0.5 - p, net.model)
    found, fresh = (similarity(f, net.x, names) for f in (closure, lambda x: held[0](x)))
    for name in names:
        np.testing.assert_array_equal(found[name], fresh[name])

"""The graph of a network: a row for each layer, an arrow for each that reads another."""

import jax
import jax.numpy as jnp
import pytest

import jaxcam as jc
from jaxcam import viewing
from jaxcam.program.costs import edges

X = jnp.ones((1, 4, 4, 3))


def network(x):
    hidden = jax.nn.relu(x @ jnp.ones((3, 3)))
    return jnp.concatenate([x, x + hidden], -1).mean((1, 2)) @ jnp.ones((6, 2))


def test_edges_are_what_layers_read_shortcuts_and_all():
    assert edges(network, X) == [
        ("", "dense_0"),
        ("", "add_0"),
        ("dense_0", "add_0"),
        ("", "concat_0"),
        ("add_0", "concat_0"),
        ("concat_0", "pool_0"),
        ("pool_0", "dense_1"),
    ]


def test_every_layer_and_every_edge_is_drawn():
    layers, read = jc.layers(network, X), edges(network, X)
    (axes,) = viewing.network_graph(layers, read, title="mine").get_axes()
    said = [text.get_text() for text in axes.texts]
    assert said[:2] == ["mine", "images"]
    assert {layer.name for layer in layers} <= set(said)
    assert len(axes.patches) == len(read)


def test_edges_to_nowhere_are_refused():
    with pytest.raises(ValueError, match="names a layer 'x' that is not there"):
        viewing.network_graph(jc.layers(network, X), [("", "x")])
    with pytest.raises(ValueError, match="no layers to draw"):
        viewing.network_graph([], [])

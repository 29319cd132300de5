"""AlexNet's maps have the sizes of the paper."""

import jax
import jax.numpy as jnp

import jaxcam as jc
from jaxcam import models


def test_maps_of_alexnet_have_the_sizes_of_the_paper():
    network = models.load("alexnet", classes=2)
    found = {
        layer.name: layer.shape for layer in jc.layers(network, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))
    }
    sizes = {"conv0": (55, 64), "conv1": (27, 192), "conv2": (13, 384), "conv3": (13, 256), "conv4": (13, 256)}
    for name, (size, units) in sizes.items():
        assert found[f"features.{name}"] == (size, size, units)
    assert found["pool_2"] == (6, 6, 256)

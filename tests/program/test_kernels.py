"""Kernels read off a program are the arrays their library keeps, in one order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from program_nets import IMAGES, KINDS, NAMES, convolve, parameters, weights

from jaxcam.program.kernels import kernels


def kept(kind, model):
    """The arrays of the stem, the block and the head, taken from the model by hand: (h, w, i, o) and (i, o)."""
    if kind == "nnx":
        return model.stem.kernel[...], model.block.conv.kernel[...], model.head.kernel[...]
    if kind == "linen":
        variables = model.args[0]["params"]
        return [variables[name]["kernel"] for name in ("stem", "conv", "head")]
    if kind == "equinox":
        stem, _, conv = model.layers
        return stem.weight.transpose(2, 3, 1, 0), conv.weight.transpose(2, 3, 1, 0), model.head.weight.T
    return [parameters()[name]["kernel"] for name in ("stem", "conv", "head")]


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_are_those_of_the_library(kind):
    model = KINDS[kind]()
    found = kernels(model, jax.ShapeDtypeStruct(IMAGES.shape, jnp.float32))
    assert list(found) == [NAMES[kind][i] for i in (0, 2, 5)]
    for kernel, expected in zip(found.values(), kept(kind, model), strict=True):
        np.testing.assert_array_equal(kernel, expected)


def test_a_kernel_that_depends_on_the_image_is_left_out():
    net = lambda x: convolve(x, x[:1, :3, :3].transpose(1, 2, 3, 0)).mean((1, 2)) @ weights((1, 2))
    assert [kernel.shape for kernel in kernels(net, IMAGES).values()] == [(1, 2)]

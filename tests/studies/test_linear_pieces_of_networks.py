"""The exact pieces of whole networks: AlexNet, VGG11 and ResNet50, in either precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam import studies

SIZES = {"alexnet": 32, "vgg11": 32, "resnet50": 48}


def network(name, dtype):
    model = jc.models.load(name, classes=10, image_size=SIZES[name], seed=1)
    return jax.tree_util.tree_map(
        lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, model, is_leaf=lambda a: False
    )


def images(name, n, dtype):
    return jnp.asarray(np.random.default_rng(2).random((n, SIZES[name], SIZES[name], 3)), dtype)


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("name", SIZES)
def test_a_whole_network_is_its_piece_in_float32(name):
    net, x = network(name, jnp.float32), images(name, 2, jnp.float32)
    found = studies.linear_piece(net, x)
    assert found.W.shape == (2, 10, *x.shape[1:])
    np.testing.assert_allclose(found.values, net(x), rtol=1e-4, atol=1e-5 * float(jnp.abs(found.values).max()))
    assert found.error.max() < 1e-4


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("name", SIZES)
def test_a_whole_network_is_its_piece_in_float64_up_to_a_facet(name):
    with jax.enable_x64(True):
        net, x = network(name, jnp.float64), images(name, 1, jnp.float64)
        found = studies.linear_piece(net, x, outputs=[0, 4, 7])
        assert found.error.max() < 1e-10
        way = jnp.asarray(np.random.default_rng(3).normal(size=x.shape))
        reach = studies.region_size(net, x, way)
        inside, beyond = (x + share * reach.distance[0] * way for share in (0.999, 1.001))
        assert studies.polytopes(net, inside).whole == found.polytope
        assert studies.polytopes(net, beyond).whole != found.polytope
        continued = np.tensordot(np.asarray(found.W[0]), np.asarray(inside[0]), 3) + np.asarray(found.b[0])
        np.testing.assert_allclose(continued, jax.jit(net)(inside)[0, jnp.array([0, 4, 7])], rtol=1e-9, atol=1e-11)

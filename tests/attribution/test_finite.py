"""No map is blank or NaN without a word: the equation and the layer that spoiled it are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import jaxcam as jc

IMAGES = jnp.asarray(np.random.default_rng(0).random((2, 4, 4, 3)), jnp.float32)


def weights(*shape):
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def net(middle):
    """Two dense layers over the pixels, named, with something in between."""

    def apply(p, x):
        x = jax.nn.relu(x @ p["first"]["kernel"])
        return middle(x @ p["second"]["kernel"]).mean((1, 2))

    return Partial(apply, {"first": {"kernel": weights(3, 4)}, "second": {"kernel": weights(4, 5)}})


def complaint(model, x=IMAGES, method=jc.saliency):
    with pytest.raises(ValueError, match=r"finite|NaN") as error:
        method(model, x, 0)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_first_equation_that_is_not_finite_is_named_with_its_layer():
    message = complaint(net(lambda z: jnp.log(z - 100)))
    assert "'log' giving float32[2,4,4,5]" in message.replace("f32", "float32")
    assert "after layer 'second'" in message


def test_what_overflows_is_named():
    assert "'exp'" in complaint(net(lambda z: jnp.exp(1000 + z)))


def test_a_division_by_zero_is_named():
    message = complaint(net(lambda z: z / (z.sum(-1, keepdims=True) * 0)))
    assert "'div'" in message


def test_a_gradient_that_is_lost_behind_finite_outputs_is_named():
    message = complaint(net(lambda z: jnp.sqrt(z * 0)))
    assert "outputs are finite but their gradient is not" in message
    assert "'sqrt'" in message


def test_weights_that_are_not_finite_are_named():
    model = net(lambda z: z)
    model.args[0]["second"]["kernel"] = model.args[0]["second"]["kernel"].at[0, 0].set(jnp.nan)
    assert "weights are not finite" in complaint(model)
    assert "second" in complaint(model)


def test_an_image_that_is_not_finite_is_named():
    x = np.array(IMAGES)
    x[1, 2, 2, 0] = np.inf
    assert "image 1 has NaN or infinite values" in complaint(net(lambda z: z), jnp.asarray(x))


def test_the_padding_of_a_max_pool_is_no_culprit():
    def pooled(z):
        return jax.lax.reduce_window(z, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    assert jnp.isfinite(jc.saliency(net(pooled), IMAGES, 0)).all()
    assert "'log'" in complaint(net(lambda z: jnp.log(pooled(z) - 100)))


def test_a_nan_that_a_rectifier_hides_from_the_map_is_found():
    """max(NaN, 0) can be 0 in the map, while the outputs are NaN."""

    def apply(x):
        return jnp.stack([x.sum((1, 2, 3)), jnp.log(-x.sum((1, 2, 3)))], -1)

    assert "'log'" in complaint(apply)


def test_every_method_says_it():
    for method in (jc.saliency, jc.input_x_gradient, jc.integrated_gradients):
        assert "'log'" in complaint(net(lambda z: jnp.log(z - 100)), method=method)

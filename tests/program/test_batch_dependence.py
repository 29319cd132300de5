"""Images of a batch that know of each other are found by the equations, and nothing else is taken for it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import program_nets as nets
import pytest
from flax import linen, nnx
from jax.tree_util import Partial

import jaxcam as jc
from jaxcam.program.batch import batch_dependence
from jaxcam.program.trace import split


def complaint(model, shape):
    arrays, static = split(model)
    return batch_dependence(static, arrays, jax.ShapeDtypeStruct(shape, jnp.float32))


def trained_norm_nnx():
    model = nets.NnxNet()
    model.train()
    model.dropout.deterministic = True
    return model


class LinenNorm(linen.Module):
    training: bool

    @linen.compact
    def __call__(self, x):
        x = linen.BatchNorm(use_running_average=not self.training, name="norm")(linen.Conv(4, (3, 3), name="conv")(x))
        return linen.relu(x).mean((1, 2))


def linen_norm(training):
    module = LinenNorm(training)
    variables = LinenNorm(False).init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    return Partial(
        _apply_mutable if training else module.apply, module if training else variables, *[variables][:training]
    )


def _apply_mutable(module, variables, x):
    return module.apply(variables, x, mutable=["batch_stats"])[0]


class EquinoxNorm(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    state: eqx.nn.State

    def __init__(self):
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0))
        self.norm, self.state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="ema")

    def __call__(self, x):
        def one(image):
            z, _ = self.norm(self.conv(jnp.moveaxis(image, -1, 0)), self.state)
            return jax.nn.relu(z).mean((1, 2))

        return jax.vmap(one, axis_name="batch")(x)


def test_batch_norm_in_training_mode_is_found_in_flax_nnx():
    found = complaint(trained_norm_nnx(), (4, 8, 8, 3))
    assert "after layer 'block.conv' works along the images" in found
    assert "model.eval()" in found
    assert complaint(nets.flax_nnx(), (4, 8, 8, 3)) is None


def test_batch_norm_in_training_mode_is_found_in_flax_linen():
    found = complaint(linen_norm(True), (4, 8, 8, 3))
    assert "after layer 'conv'" in found
    assert "use_running_average=True" in found
    assert complaint(linen_norm(False), (4, 8, 8, 3)) is None


def test_batch_norm_in_training_mode_is_found_in_equinox():
    found = complaint(EquinoxNorm(), (4, 8, 8, 3))
    assert "eqx.nn.inference_mode(model)" in found
    assert complaint(eqx.nn.inference_mode(EquinoxNorm()), (4, 8, 8, 3)) is None


class Dropping(nnx.Module):
    """A dropout between convolution and dense layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.dense(self.dropout(jax.nn.relu(self.conv(x))).mean((1, 2)))


@pytest.mark.parametrize(
    "ask", [jc.saliency, jc.grad_cam, jc.neurons.similarity, lambda m, x: jc.neurons.maps(m, x, "conv")]
)
def test_dropout_in_training_mode_is_an_error_for_whoever_explains(ask):
    model, x = Dropping(), jnp.ones((2, 8, 8, 3))
    with pytest.raises(ValueError, match=r"draws random numbers: .* put the model in inference mode: model.eval\(\)"):
        ask(model, x)
    model.eval()
    ask(model, x)


def test_batch_norm_in_training_mode_is_an_error_for_units_too():
    for rule in ("guided", "gradient"):
        with pytest.raises(ValueError, match="depend on the others of its batch"):
            jc.neurons.similarity(trained_norm_nnx(), jnp.ones((1, 8, 8, 3)), rule=rule)


def test_it_is_an_error_in_one_line_for_whoever_explains():
    with pytest.raises(ValueError, match="depend on the others of its batch") as error:
        jc.saliency(trained_norm_nnx(), nets.IMAGES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", nets.KINDS)
def test_networks_in_inference_mode_pass_for_any_batch(kind, n):
    """4 is the number of channels as well, 8 that of rows."""
    assert complaint(nets.KINDS[kind](), (n, 8, 8, 3)) is None


MIXING = {
    "mean over images": lambda x: x.mean((1, 2)) - x.mean((0, 1, 2)),
    "softmax over images": lambda x: jax.nn.softmax(x.mean((1, 2)), axis=0),
    "sorted images": lambda x: jnp.sort(x.mean((1, 2)), axis=0),
    "a product of images": lambda x: (x.mean((1, 2)) @ x.mean((1, 2)).T) @ x.mean((1, 2)),
    "a running sum": lambda x: jnp.cumsum(x.mean((1, 2)), axis=0),
    "the largest image": lambda x: x.mean((1, 2)) / x.max(),
}
APART = {
    "layer norm": lambda x: ((x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)).mean((1, 2)),
    "softmax over classes": lambda x: jax.nn.softmax(x.mean((1, 2)), axis=-1),
    "sorted channels": lambda x: jnp.sort(x.mean((1, 2)), axis=-1),
    "flattened": lambda x: x.reshape(x.shape[0], -1) @ jnp.ones((np.prod(x.shape[1:]), 5)),
    "channels first": lambda x: jnp.moveaxis(x, -1, 1).mean((2, 3)),
    "images last": lambda x: jnp.moveaxis(x, 0, -1).mean((0, 1)).T,
    "images one by one": lambda x: jax.lax.map(lambda image: image.mean((0, 1)), x),
    "vmapped": lambda x: jax.vmap(lambda image: jnp.tanh(image).mean((0, 1)))(x),
    "images that nobody reads mixed": lambda x: (x.mean((1, 2)), x.sum(0))[0],
    "scaled by a constant of the batch": lambda x: x.mean((1, 2)) / x.shape[0],
}


@pytest.mark.parametrize("name", MIXING)
def test_whatever_mixes_images_is_found(name):
    assert "works along the images" in (complaint(MIXING[name], (4, 6, 5, 3)) or "")


@pytest.mark.parametrize("n", [1, 3, 4, 8])
@pytest.mark.parametrize("name", APART)
def test_what_keeps_images_apart_is_not(name, n):
    """Images, rows and channels of the same number are not mistaken for each other."""
    assert complaint(APART[name], (n, 4, 4, 3)) is None

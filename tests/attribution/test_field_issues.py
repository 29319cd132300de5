"""What users of other libraries report over and over, one test each, and input that makes no sense."""

import functools
import gc
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

import jaxcam as jc

sys.path.append(str(Path(__file__).parents[1] / "program"))
import program_nets as nets

IMAGES = nets.IMAGES
KEY = jax.random.key(0)


def same(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    assert float(jnp.abs(b).max()) > 0
    assert float(jnp.abs(a - b).max()) <= tolerance * float(jnp.abs(b).max())


def plain(rectify, p=None):
    """One network in which everything rectifies by the function given."""

    def apply(p, x):
        x = rectify(nets.convolve(x, p["stem"]["kernel"]) + p["stem"]["bias"])
        return rectify(nets.convolve(x, p["conv"]["kernel"])).mean((1, 2)) @ p["head"]["kernel"]

    return Partial(apply, p or nets.parameters())


RECTIFIERS = {
    "a function of numpy": lambda x: jnp.maximum(x, 0),
    "a mask": lambda x: x * (x > 0),
    "a choice": lambda x: jnp.where(x > 0, x, 0),
    "clipped": lambda x: jnp.clip(x, 0),
}


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "lrp", "deep_lift"])
@pytest.mark.parametrize("name", RECTIFIERS)
def test_a_relu_is_a_relu_however_it_is_written(method, name):
    explain = getattr(jc, method)
    same(explain(plain(RECTIFIERS[name]), IMAGES, 1), explain(plain(jax.nn.relu), IMAGES, 1))


class Shared(nnx.Module):
    """One convolution and one ReLU module, each used twice."""

    def __init__(self):
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
        self.conv = nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(1))
        self.relu = nnx.relu
        self.head = nnx.Linear(4, 5, rngs=nnx.Rngs(2))

    def __call__(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(self.conv(x))
        return self.head(self.relu(self.conv(x)).mean((1, 2)))


class Unrolled(nnx.Module):
    """The same with a module for each use."""

    def __init__(self, shared):
        self.stem, self.first, self.second, self.head = (
            shared.stem,
            *(nnx.clone(shared.conv) for _ in "ab"),
            shared.head,
        )

    def __call__(self, x):
        x = nnx.relu(self.first(nnx.relu(self.stem(x))))
        return self.head(nnx.relu(self.second(x)).mean((1, 2)))


@pytest.mark.parametrize("method", ["saliency", "guided_backprop", "lrp", "deep_lift"])
def test_a_module_used_twice_is_explained_as_two(method):
    explain, shared = getattr(jc, method), Shared()
    same(explain(shared, IMAGES, 1), explain(Unrolled(shared), IMAGES, 1))


def test_the_second_use_of_a_module_is_a_layer_of_its_own():
    shared = Shared()
    first, second = (jc.grad_cam(shared, IMAGES, 1, layer=name) for name in ("conv", "conv@2"))
    assert float(jnp.abs(first - second).max()) > 0
    same(second, jc.grad_cam(Unrolled(shared), IMAGES, 1, layer="second"))


@pytest.mark.parametrize("kind", ["nnx", "equinox", "dict"])
def test_deep_lift_adds_up_where_relus_are_shared(kind):
    for model in (Shared(), nets.KINDS[kind]()):
        maps = jc.deep_lift(model, IMAGES, 2)
        gain = model(IMAGES)[:, 2] - model(jnp.zeros_like(IMAGES))[:, 2]
        assert np.allclose(maps.sum((1, 2, 3)), gain, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow():
    model = nets.flax_nnx()

    def explain():
        for method in (jc.saliency, jc.guided_backprop, jc.grad_cam, jc.integrated_gradients):
            method(model, IMAGES, 1).block_until_ready()
        gc.collect()
        return len(jax.live_arrays())

    explain()
    before = explain()
    for _ in range(3):
        assert explain() <= before


def test_several_layers_come_from_one_pass():
    model, names = nets.flax_nnx(), ["stem", "block.conv", "add_0"]
    maps = jc.grad_cam(model, IMAGES, 1, layer=names)
    assert list(maps) == names
    for name in names:
        alone = jc.grad_cam(model, IMAGES, 1, layer=name)
        assert float(jnp.abs(maps[name] - alone).max()) <= 1e-6 + 1e-5 * float(jnp.abs(alone).max())


def test_a_layer_that_is_not_there_is_answered_with_the_closest():
    with pytest.raises(ValueError, match=r"no layer 'block\.conf'; did you mean 'block\.conv'\?") as error:
        jc.grad_cam(nets.flax_nnx(), IMAGES, 1, layer="block.conf")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1"])
def test_relevance_is_conserved_through_batch_norm_and_skips(composite):
    """Biases take relevance; without them what goes in comes out. Batch norm's mean and shift are such biases."""
    model = nets.flax_nnx()
    model.block.norm.mean[...] = jnp.zeros(4)
    maps = jc.lrp(model, IMAGES, composite=composite)
    assert np.allclose(maps.sum((1, 2, 3)), model(IMAGES).max(-1), rtol=1e-3)


class Outer(nnx.Module):
    """A model in a model in a model."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, x):
        return self.inner(x)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["saliency", "guided_backprop", "grad_cam", "lrp", "deep_lift"])
def test_models_nested_in_models_are_explained_like_themselves(method):
    explain, model = getattr(jc, method), nets.flax_nnx()
    nested = Outer(Outer(model))
    same(explain(nested, IMAGES), explain(model, IMAGES))
    names = [layer.name for layer in jc.layers(nested, IMAGES)]
    assert "inner.inner.block.conv" in names


def test_a_jitted_or_checkpointed_model_is_explained_like_itself():
    model = nets.parameters_in_a_dict()
    for wrapped in (jax.jit(model), jax.checkpoint(model)):
        same(jc.guided_backprop(wrapped, IMAGES, 1), jc.guided_backprop(model, IMAGES, 1))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["smooth_grad", "gradient_shap", "rise", "lime", "kernel_shap"])
def test_sampling_is_reproducible_and_leaves_numpys_generator_alone(method):
    quick = {"lime": {"segments": "grid"}, "kernel_shap": {"segments": "grid"}, "rise": {"masks": 16, "grid": 4}}
    explain = functools.partial(getattr(jc, method), nets.parameters_in_a_dict(), IMAGES, 1, key=KEY)
    explain = functools.partial(explain, **quick.get(method, {"samples": 4}))
    first = explain()
    # The one generator of numpy that a library can disturb, or be disturbed by.
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert (explain() == first).all()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


# Input that makes no sense.


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_a_rule_for_rectifiers_asks_for_a_rectifier(method):
    with pytest.raises(ValueError, match="the model has none; its maps would be the plain gradient") as error:
        getattr(jc, method)(plain(lambda x: x), IMAGES, 1)
    assert "\n" not in str(error.value)
    # The transformation itself may be applied to anything.
    same(jc.guided(plain(lambda x: x))(IMAGES), plain(lambda x: x)(IMAGES))


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_an_operation_that_the_rule_says_nothing_about_is_named(method):
    with pytest.raises(ValueError, match=r"says nothing about equation .*'tanh'") as error:
        getattr(jc, method)(plain(lambda x: jnp.tanh(jax.nn.relu(x))), IMAGES, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "method", ["cam", "grad_cam", "grad_cam_plus_plus", "layer_cam", "score_cam", "guided_grad_cam"]
)
def test_an_activation_map_asks_for_a_layer_with_space(method):
    def dense(x):
        return jax.nn.relu(x.reshape(x.shape[0], -1) @ jnp.ones((192, 4))) @ jnp.ones((4, 5))

    with pytest.raises(ValueError, match=r"conv|space") as error:
        getattr(jc, method)(dense, IMAGES, 1)
    assert "\n" not in str(error.value)


def test_cam_asks_for_a_pool():
    def flat(x):
        x = jax.nn.relu(nets.convolve(x, nets.weights((3, 3, 3, 4))))
        return x.reshape(x.shape[0], -1) @ nets.weights((256, 5))

    with pytest.raises(ValueError, match="pool") as error:
        jc.cam(flat, IMAGES, 1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8, 3), (2, 4, 4, 3), (8, 8, 1)])
@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "deep_lift"])
def test_a_baseline_of_another_shape_is_refused(method, shape):
    with pytest.raises(ValueError, match="baseline") as error:
        getattr(jc, method)(nets.parameters_in_a_dict(), IMAGES, 1, baseline=jnp.ones(shape))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["lime", "kernel_shap"])
def test_segments_of_another_shape_are_refused(method):
    with pytest.raises(ValueError, match="segment maps are as large as the images") as error:
        getattr(jc, method)(nets.parameters_in_a_dict(), IMAGES, 1, segments=jnp.zeros((5, 5), int), key=KEY)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (jnp.ones((8, 8, 3)), r"one image needs a batch axis, x\[None\]"),
        (jnp.ones((0, 8, 8, 3)), "non-empty"),
        (jnp.ones((2, 8, 8, 4)), "the model fails on images of shape"),
        (jnp.ones((2, 3, 8, 8)), r"; images are \(n, h, w, c\): x\.transpose\(0, 2, 3, 1\)$"),
        (jnp.ones((2, 8, 8, 3)).at[1, 0, 0, 0].set(jnp.nan), "image 1 has NaN"),
        (jnp.ones((2, 8, 8, 3), jnp.uint8), "divide bytes by 255"),
    ],
    ids=["one image", "no image", "channels", "channels first", "nan", "bytes"],
)
def test_images_that_make_no_sense_are_refused(x, message):
    with pytest.raises((TypeError, ValueError), match=message) as error:
        jc.saliency(nets.parameters_in_a_dict(), x, 1)
    assert "\n" not in str(error.value)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="a model is a callable x -> outputs; got dict"):
        jc.saliency({"w": 1}, IMAGES)
    with pytest.raises(ValueError, match="a model gives outputs for each image"):
        jc.saliency(lambda x: x.sum(), IMAGES)

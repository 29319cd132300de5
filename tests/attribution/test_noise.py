"""SmoothGrad and gradients from random baselines: slow numpy twins on the same draws, limit cases, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from numpy.testing import assert_allclose

import jaxcam as jc

RNG = np.random.default_rng(0)
IMAGES = RNG.random((2, 3, 4, 2)) * np.array([1.0, 3.0]).reshape(2, 1, 1, 1)  # two ranges
W, V = RNG.normal(size=(24, 6)) / 3, RNG.normal(size=(6, 3))
KEY = jax.random.key(5)
KINDS = ["mean", "squared", "variance"]


def net(dtype=jnp.float32):
    weights = {"w": jnp.asarray(W, dtype), "v": jnp.asarray(V, dtype)}
    return Partial(lambda p, x: jnp.tanh(x.reshape(len(x), -1) @ p["w"]) @ p["v"], weights)


def gradient_in_numpy(image, target):
    return (W @ ((1 - np.tanh(image.ravel() @ W) ** 2) * V[:, target])).reshape(image.shape)


@pytest.mark.evidence("smooth_grad", kind="twin", source="numpy, draw by draw")
@pytest.mark.parametrize("kind", KINDS)
def test_smoothed_gradients_are_the_slow_twins(kind):
    with jax.enable_x64(True):
        found = jc.smooth_grad(
            net(jnp.float64), jnp.asarray(IMAGES), [1, 2], key=KEY, samples=5, sigma=0.2, kind=kind, chunk=2
        )
        draws = [np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), IMAGES.shape[1:], float)) for i in range(5)]
    for image, target, ours in zip(IMAGES, (1, 2), found, strict=True):
        scale = 0.2 * (image.max() - image.min())
        maps = np.stack([gradient_in_numpy(image + scale * draw, target) for draw in draws])
        expected = {"mean": maps.mean(0), "squared": (maps**2).mean(0), "variance": maps.var(0)}[kind]
        assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.evidence("gradient_shap", kind="axiom", source="one baseline: integrated gradients in the mean")
def test_gradients_from_one_baseline_average_to_integrated_gradients():
    x, start = jnp.float32(IMAGES), jnp.full((1, *IMAGES.shape[1:]), 0.3)
    found = jc.gradient_shap(net(), x, 1, key=KEY, baselines=start, samples=4000)
    expected = jc.integrated_gradients(net(), x, 1, baseline=0.3)
    # The mean of 4000 draws: 1.6 % of their spread, three times over.
    assert float(jnp.abs(found - expected).max()) < 0.05 * float(jnp.abs(expected).max())


def test_random_baselines_are_drawn_alike():
    x = jnp.ones((1, 1, 1, 1))
    starts = jnp.array([0.0, 0.5, 1.0, 2.0]).reshape(4, 1, 1, 1)
    total = jc.gradient_shap(lambda x: x.sum((1, 2)), x, 0, key=KEY, baselines=starts, samples=4000)
    assert abs(float(total[0, 0, 0, 0]) - (1 - 3.5 / 4)) < 0.04  # the mean of 1 − b, whose spread is 0.74


@pytest.mark.evidence("smooth_grad", kind="axiom", source="σ = 0 is the method itself")
def test_sigma_zero_is_the_method_itself():
    x = jnp.float32(IMAGES)
    method = jc.saliency(net(), x)
    rounding = 1e-6 * float(jnp.abs(method).max())  # two compiled programs
    assert_allclose(jc.smooth_grad(net(), x, key=KEY, samples=3, sigma=0), method, rtol=1e-6, atol=rounding)
    assert jc.smooth_grad(net(), x, key=KEY, samples=3, sigma=0, kind="variance").max() <= rounding**2
    squared = jc.smooth_grad(net(), x, key=KEY, samples=3, sigma=0, kind="squared")
    assert_allclose(squared, method**2, rtol=1e-5, atol=rounding * float(jnp.abs(method).max()))


def test_the_gradient_of_a_linear_net_has_no_variance():
    linear = lambda x: x.reshape(len(x), -1) @ jnp.float32(W)
    found = jc.smooth_grad(linear, jnp.float32(IMAGES), 1, key=KEY, samples=4, kind="variance")
    assert not found.any()


@pytest.mark.slow
@pytest.mark.parametrize("method", [jc.smooth_grad, functools.partial(jc.gradient_shap, sigma=0.1)])
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_the_chunk_size_changes_nothing(method, chunk):
    x = jnp.float32(IMAGES)
    whole = method(net(), x, 1, key=KEY, samples=5)
    assert_allclose(method(net(), x, 1, key=KEY, samples=5, chunk=chunk), whole, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("method", [jc.smooth_grad, functools.partial(jc.gradient_shap, sigma=0.1)])
def test_a_batch_is_explained_as_its_images_one_by_one(method):
    x = jnp.float32(IMAGES)
    alone = [method(net(), x[i : i + 1], key=KEY, samples=4) for i in range(2)]
    assert_allclose(method(net(), x, key=KEY, samples=4), jnp.concatenate(alone), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_predicted_class_is_that_of_the_image_without_noise():
    x, classes = jnp.float32(IMAGES), np.asarray(net()(jnp.float32(IMAGES)).argmax(-1))
    found = jc.smooth_grad(net(), x, key=KEY, samples=4, sigma=2.0)
    assert_allclose(found, jc.smooth_grad(net(), x, classes, key=KEY, samples=4, sigma=2.0), rtol=1e-6)


@pytest.mark.slow
def test_any_method_can_be_smoothed():
    x = jnp.float32(IMAGES)
    method = functools.partial(jc.integrated_gradients, steps=3)
    found = jc.smooth_grad(net(), x, lambda z: z[:, 0] - z[:, 1], key=KEY, method=method, samples=2, sigma=0)
    assert_allclose(found, method(net(), x, jc.contrast(0, 1)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"key": jnp.arange(3)}, TypeError, "a randomized method takes key=jax.random.key"),
        ({"samples": 0}, ValueError, "samples is a whole number from 1 up; got 0"),
        ({"sigma": -0.1}, ValueError, "sigma is a share of each image's range, a number from 0 up; got -0.1"),
        ({"sigma": float("nan")}, ValueError, "sigma is a share"),
        ({"kind": "variances"}, ValueError, "no kind 'variances'; .* did you mean 'variance'"),
        ({"chunk": 0}, ValueError, "chunk is a whole number from 1 up"),
        ({"target": 9}, ValueError, "target 9 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, kind, message):
    options = {"key": KEY, **options}
    with pytest.raises(kind, match=message) as error:
        jc.smooth_grad(net(), jnp.float32(IMAGES), **options)
    assert "\n" not in str(error.value)


def test_a_key_must_be_given():
    with pytest.raises(TypeError, match="key"):
        jc.smooth_grad(net(), jnp.float32(IMAGES))


@pytest.mark.parametrize("shape", [(3, 4, 2), (2, 3, 3, 2), (0, 3, 4, 2)])
def test_baselines_are_images_like_x(shape):
    with pytest.raises(ValueError, match=r"baselines are images \(b, 3, 4, 2\); got shape"):
        jc.gradient_shap(net(), jnp.float32(IMAGES), key=KEY, baselines=jnp.zeros(shape))


def test_noise_of_gradient_shap_is_the_same_whether_its_width_is_traced():
    x = jnp.asarray(IMAGES[:1], jnp.float32)
    model = lambda x: (x**2).sum((1, 2))
    ask = lambda sigma: jc.gradient_shap(model, x, 0, key=KEY, samples=3, sigma=sigma)
    assert_allclose(jax.jit(ask)(0.5), ask(0.5), rtol=1e-5, atol=1e-6)
    assert jnp.abs(ask(0.5) - ask(0.0)).max() > 0.1 * jnp.abs(ask(0.0)).max()

"""Gradients are what differences of the score are: every gradient method against its definition without autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc

H = 1e-6


@pytest.fixture(autouse=True)
def doubles():
    with jax.enable_x64(True):
        yield


def weights(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def images():
    return weights(2, 4, 3, 2, seed=9)


def features(x):
    kernel = weights(3, 3, 2, 3, seed=1)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def head(z):
    return jnp.tanh(jax.nn.relu(z)).mean((1, 2)) @ weights(3, 4, seed=2)


def net(x):
    return head(features(x))


def differences(score, x):
    """∂score/∂x of each image, by moving one number of it to both sides; score: one image -> a number."""
    flat = np.asarray(x).reshape(-1)
    steps = H * np.eye(flat.size)
    moved = jnp.asarray(np.concatenate([flat + steps, flat - steps]).reshape(-1, *x.shape))
    scores = np.asarray(jax.vmap(score)(moved))
    return ((scores[: flat.size] - scores[flat.size :]) / (2 * H)).reshape(x.shape)


def gradient(x, target=1):
    return np.stack([differences(lambda image: net(image[None])[0, target], image) for image in x])


def close(ours, expected, measured, name):
    error = np.abs(np.asarray(ours) - expected).max() / np.abs(expected).max()
    measured(name, error)
    assert error < 1e-7


@pytest.mark.evidence("saliency", kind="twin", source="finite differences", tolerance=1e-7)
def test_saliency_is_the_difference_quotient(measured):
    close(jc.saliency(net, images(), 1), gradient(images()), measured, "saliency")


@pytest.mark.evidence("input_x_gradient", kind="twin", source="finite differences", tolerance=1e-7)
def test_input_x_gradient_is_the_image_times_it(measured):
    x = images()
    close(jc.input_x_gradient(net, x, 1), np.asarray(x) * gradient(x), measured, "input_x_gradient")


@pytest.mark.evidence("integrated_gradients", kind="twin", source="finite differences on the path", tolerance=1e-7)
def test_integrated_gradients_are_its_mean_on_the_way(measured):
    x, base = images(), 0.25
    places = (np.arange(4) + 0.5) / 4
    mean = sum(gradient(base + place * (x - base)) for place in places) / 4
    ours = jc.integrated_gradients(net, x, 1, baseline=base, steps=4, method="riemann_middle")
    close(ours, (np.asarray(x) - base) * mean, measured, "integrated_gradients")


@pytest.mark.evidence("smooth_grad", kind="axiom", source="σ = 0 is the gradient", tolerance=1e-7)
def test_smooth_grad_without_noise_is_the_difference_quotient(measured):
    ours = jc.smooth_grad(net, images(), 1, key=jax.random.key(0), sigma=0.0, samples=3)
    close(ours, gradient(images()), measured, "smooth_grad")


@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "layer_cam"])
@pytest.mark.evidence("grad_cam", "hires_cam", "layer_cam", kind="twin", source="finite differences", tolerance=1e-7)
def test_gradient_maps_of_a_layer_weight_it_by_differences(measured, name):
    a = np.asarray(jax.nn.relu(features(images())))

    def after(z):
        return (jnp.tanh(z).mean((0, 1)) @ weights(3, 4, seed=2))[1]

    # Above zero the rectifier passes on; the differences must not step over its edge.
    slope = np.stack([differences(after, jnp.asarray(image)) for image in a])
    expected = {
        "grad_cam": np.maximum((a * slope.mean((1, 2), keepdims=True)).sum(-1), 0),
        "hires_cam": (a * slope).sum(-1),
        "layer_cam": np.maximum((a * np.maximum(slope, 0)).sum(-1), 0),
    }
    close(getattr(jc, name)(net, images(), 1, layer="conv_0"), expected[name], measured, name)


def test_maps_have_derivatives_of_their_own():
    """Smoothness of a map, an explanation in a loss: second derivatives are those of the map's differences."""
    x = images()[:1]
    found = jax.grad(lambda image: jc.saliency(net, image, 1)[0, 1, 1, 0])(x)
    expected = differences(lambda image: jc.saliency(net, image[None], 1)[0, 1, 1, 0], x[0])
    assert np.abs(np.asarray(found)[0] - expected).max() <= 1e-6 * max(1e-3, np.abs(expected).max())

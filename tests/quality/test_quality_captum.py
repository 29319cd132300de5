"""Infidelity and max-sensitivity equal to Captum's, on the same weights and the same perturbations."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from quality_nets import images, small_net

import jaxcam as jc

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
metrics = pytest.importorskip("captum.metrics", reason="Captum is not installed")
attr = pytest.importorskip("captum.attr", reason="Captum is not installed")

pytestmark = pytest.mark.parity

KEY, SAMPLES, TARGET = jax.random.key(5), 9, 3


def channels_first(x):
    return torch.from_numpy(np.moveaxis(np.asarray(x), -1, -3).copy())


@pytest.fixture(scope="module")
def both():
    """The small net in both libraries, and images."""
    model, x = small_net(), images()
    p = model.args[0]
    convolution, dense = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.nn.Linear(4, 5, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.from_numpy(np.asarray(p["conv"]["kernel"]).transpose(3, 2, 0, 1).copy()))
        dense.weight.copy_(torch.from_numpy(np.asarray(p["dense"]["kernel"]).T.copy()))

    def twin(z):
        return dense(torch.relu(convolution(z)).mean((2, 3)))

    assert_allclose(twin(channels_first(x)).detach(), model(x), rtol=1e-4, atol=1e-6)
    return model, x, twin


def each(draw):
    """The draws of all samples, image by image as Captum lays them out (n · samples, c, h, w)."""
    drawn = [draw(jax.random.fold_in(KEY, i)) for i in range(SAMPLES)]
    return channels_first(jnp.concatenate([jnp.stack(drawn)] * 2))


@pytest.mark.parametrize("scaled", [False, True])
def test_infidelity_is_captums(both, scaled):
    model, x, twin = both
    maps = jc.saliency(model, x, TARGET)
    noise = each(lambda key: 0.2 * jax.random.normal(key, x.shape[1:]))
    theirs = metrics.infidelity(
        twin,
        lambda repeated: (noise, repeated - noise),
        channels_first(x),
        channels_first(maps),
        target=TARGET,
        n_perturb_samples=SAMPLES,
        normalize=scaled,
    )
    ours = jc.quality.infidelity(model, x, maps, TARGET, key=KEY, samples=SAMPLES, scaled=scaled)
    assert_allclose(ours, theirs.detach(), rtol=1e-3)


def test_max_sensitivity_is_captums(both):
    model, x, twin = both
    radius = 0.1
    draws = each(lambda key: jax.random.uniform(key, x.shape[1:], x.dtype, -radius, radius))

    def explain(inputs, target=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tuple(a.detach() for a in attr.InputXGradient(twin).attribute(inputs, target=target))

    theirs = metrics.sensitivity_max(
        explain,
        channels_first(x),
        perturb_func=lambda repeated, *_: (repeated + draws,),
        n_perturb_samples=SAMPLES,
        target=TARGET,
    )
    ours = jc.quality.max_sensitivity(model, x, jc.input_x_gradient, TARGET, key=KEY, samples=SAMPLES, radius=radius)
    assert_allclose(ours, theirs.detach(), rtol=1e-4)

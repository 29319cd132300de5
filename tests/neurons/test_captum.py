"""Unit maps and similarities equal to Captum's, on the same weights."""

import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
attr = pytest.importorskip("captum.attr", reason="Captum is not installed")

import safetensors.torch  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "models"))
import torch_twins  # noqa: E402

import jaxcam as jc  # noqa: E402

pytestmark = pytest.mark.parity

PER_LAYER = 16  # of eight layers: 128 units


@pytest.fixture(scope="module")
def vgg11(tmp_path_factory):
    """VGG11 for CIFAR-10 in both libraries, with biases that leave a share of the units dead, and an image."""
    twin = torch_twins.randomized(torch_twins.small_vgg11())
    with torch.no_grad():
        for module in twin.features:
            if isinstance(module, torch.nn.Conv2d):
                module.bias.uniform_(-0.6, 0.1)
    path = tmp_path_factory.mktemp("weights") / "vgg11.safetensors"
    safetensors.torch.save_file(twin.state_dict(), path)
    model = jc.models.load("vgg11", path, classes=10, image_size=32)
    x = jnp.asarray(np.random.default_rng(1).random((1, 32, 32, 3), np.float32))
    return twin, model, x, rectifiers(twin.features)


def rectifiers(modules):
    return {f"features.conv{i}": m for i, m in enumerate(m for m in modules if isinstance(m, torch.nn.ReLU))}


def theirs(method, network, layer, x, unit):
    """Captum's map of one unit (h, w, c): its activation summed over space."""
    image = torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy()).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set, and will be removed
        found = method(network, layer).attribute(image, lambda out: out[:, unit].sum((1, 2)))
    return found.detach().numpy()[0].transpose(1, 2, 0)


def sample(count, dead, size):
    """Units spread over a layer, some dead ones among them if there are any."""
    chosen = np.unique(np.linspace(0, count - 1, size - 2).astype(int))
    return np.unique(np.concatenate([chosen, np.flatnonzero(dead)[:2], np.flatnonzero(~dead)[:4]]))


def test_similarities_of_vgg11_are_those_of_captums_guided_maps(vgg11):
    network, model, x, layers = vgg11
    found = jc.neurons.similarity(model, x)
    assert sum(values.shape[1] for values in found.values()) == 2752
    compared = dead_ones = 0
    for name, layer in layers.items():
        dead = np.asarray(jc.tap(model, name)(x)[0] == 0).all((0, 1))
        for unit in sample(len(dead), dead, PER_LAYER):
            guided = theirs(attr.NeuronGuidedBackprop, network, layer, x, int(unit))
            norm = np.linalg.norm(guided) * np.linalg.norm(x)
            cosine = float((guided * x[0]).sum() / norm) if norm else 0.0
            assert abs(float(found[name][0, unit]) - cosine) < 1e-4
            if dead[unit]:
                assert float(found[name][0, unit]) == 0 == cosine
                dead_ones += 1
            compared += 1
    assert compared >= 100
    assert dead_ones >= 8


@pytest.mark.parametrize(
    ("rule", "method"),
    [("guided", "NeuronGuidedBackprop"), ("gradient", "NeuronGradient"), ("deconv", "NeuronDeconvolution")],
)
@pytest.mark.parametrize("name", ["features.conv0", "features.conv3", "features.conv7"])
def test_maps_of_vgg11_are_captums(vgg11, rule, method, name):
    network, model, x, layers = vgg11
    alive = np.flatnonzero(np.asarray(jc.tap(model, name)(x)[0] > 0).any((0, 1)))[:4]
    found = np.asarray(jc.neurons.maps(model, x, name, alive, rule))[:, 0]
    for unit, ours in zip(alive, found, strict=True):
        other = theirs(getattr(attr, method), network, layers[name], x, int(unit))
        assert np.abs(other).max() > 0
        # Sums of thousands of float32 products in another order.
        assert_allclose(ours, other, rtol=0, atol=1e-4 * np.abs(other).max())


class Stem(torch.nn.Module):
    """The twin up to its first stage, each ReLU a module of its own: Captum sees modules only, each of them once."""

    def __init__(self, network):
        super().__init__()
        self.network, self.relu, self.blocks = network, torch.nn.ReLU(), network.layer1
        for block in self.blocks:
            block.first, block.second, block.last = torch.nn.ReLU(), torch.nn.ReLU(), torch.nn.ReLU()

    def forward(self, x):
        x = self.relu(self.network.bn1(self.network.conv1(x)))
        for block in self.blocks:
            y = block.first(block.bn1(block.conv1(x)))
            y = block.bn3(block.conv3(block.second(block.bn2(block.conv2(y)))))
            x = block.last(y + (x if block.downsample is None else block.downsample(x)))
        return x


def test_guided_maps_of_a_residual_network_are_captums(tmp_path):
    network = torch_twins.randomized(torch_twins.small_resnet50())
    safetensors.torch.save_file(network.state_dict(), tmp_path / "resnet50.safetensors")
    model = jc.models.load("resnet50", tmp_path / "resnet50.safetensors", classes=10, image_size=32)
    x = jnp.asarray(np.random.default_rng(2).random((1, 32, 32, 3), np.float32))
    units, stem = [0, 7, 100], Stem(network).eval()
    ours = np.asarray(jc.neurons.maps(model, x, "layer1", units))[:, 0]
    for unit, mine in zip(units, ours, strict=True):
        other = theirs(attr.NeuronGuidedBackprop, stem, stem.blocks[2].last, x, unit)
        assert np.abs(other).max() > 0
        assert_allclose(mine, other, rtol=0, atol=1e-4 * np.abs(other).max())

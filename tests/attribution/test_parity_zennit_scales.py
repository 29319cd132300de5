"""Relevance against zennit's where batch norms come first: DenseNet's and a pre-activation block, on the same weights.

zennit merges a batch norm into the convolution before it and no other. Named by hand, its canonizer is right here; what
it leaves alone gets the rule that the composite has for batch norms, as a hook of the module or, where zennit's rules
know no batch norm, as the depthwise convolution that computes the same.
"""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("models", "parity")]

import torch_twins  # noqa: E402
import torchvision_ops  # noqa: E402, F401 - before torchvision, which zennit imports

pytest.importorskip("torchvision", reason="torchvision is not installed")
pytest.importorskip("zennit", reason="zennit is not installed")

import zennit.attribution  # noqa: E402
import zennit.canonizers  # noqa: E402
import zennit.composites  # noqa: E402
import zennit.layer  # noqa: E402
import zennit.rules  # noqa: E402
import zennit.types  # noqa: E402

import jaxcam as jc  # noqa: E402

pytestmark = pytest.mark.parity

IMAGES = np.random.default_rng(0).uniform(-1.5, 2.0, size=(2, 10, 10, 3))
TARGETS = [3, 1]
EPSILON = 1e-12
NAMES = ["epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box"]


class Twin(torch.nn.Module):
    """conv, BN, ReLU; then [BN, ReLU, conv, BN, ReLU, conv] beside it, concatenated and added to; BN, ReLU, dense."""

    def __init__(self):
        super().__init__()
        conv = torch.nn.Conv2d
        # zennit leaves 1/√(1 + ε) of a batch norm that it has merged. With PyTorch's ε that is
        # seen where a sum nearly cancels.
        norm = functools.partial(torch.nn.BatchNorm2d, eps=EPSILON)
        self.stem, self.stem_norm = conv(3, 6, 3, padding=1, bias=False), norm(6)
        self.norm1, self.conv1, self.norm2 = norm(6), conv(6, 8, 1, bias=False), norm(8)
        self.conv2, self.norm3 = conv(8, 4, 3, padding=1), norm(10)
        self.conv3, self.norm4, self.head = conv(10, 10, 3, padding=1), norm(10), torch.nn.Linear(10, 5)
        self.relus = torch.nn.ModuleList([torch.nn.ReLU() for _ in range(5)])
        self.sum = zennit.layer.Sum()
        self.pool = torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        relu = self.relus
        x = relu[0](self.stem_norm(self.stem(x)))
        y = self.conv2(relu[2](self.norm2(self.conv1(relu[1](self.norm1(x))))))
        x = torch.cat([x, y], 1)
        y = self.conv3(relu[3](self.norm3(x)))
        x = relu[4](self.norm4(self.sum(torch.stack([x, y], -1))))
        return self.head(self.pool(x).flatten(1))


MERGED = [(["stem"], "stem_norm"), (["conv1"], "norm2")]
ALONE = ["norm1", "norm3", "norm4"]


def twin():
    torch.manual_seed(0)
    return torch_twins.randomized(Twin()).to(torch.float64).eval()


def ours(network):
    """The same as a plain function of the same arrays."""
    arrays = {name: jnp.asarray(tensor.numpy()) for name, tensor in network.state_dict().items()}
    return jax.tree_util.Partial(function, arrays)


def function(p, x):
    def conv(x, name, padding):
        layout = ("NHWC", "OIHW", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, p[f"{name}.weight"], (1, 1), [(padding, padding)] * 2, dimension_numbers=layout
        )
        return y + p[f"{name}.bias"] if f"{name}.bias" in p else y

    def norm(x, name):
        scale = p[f"{name}.weight"] / jnp.sqrt(p[f"{name}.running_var"] + EPSILON)
        return (x - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]

    relu = jax.nn.relu
    x = relu(norm(conv(x, "stem", 1), "stem_norm"))
    y = conv(relu(norm(conv(relu(norm(x, "norm1")), "conv1", 0), "norm2")), "conv2", 1)
    x = jnp.concatenate([x, y], -1)
    x = relu(norm(x + conv(relu(norm(x, "norm3")), "conv3", 1), "norm4"))
    return x.mean((1, 2)) @ p["head.weight"].T + p["head.bias"]


def as_convolutions(network):
    """Every batch norm that stands alone as the depthwise convolution of one pixel that computes the same."""
    for name in ALONE:
        norm = getattr(network, name)
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        one = torch.nn.Conv2d(len(scale), len(scale), 1, groups=len(scale)).to(torch.float64)
        one.weight.data, one.bias.data = scale[:, None, None, None].data, (norm.bias - norm.running_mean * scale).data
        setattr(network, name, one)
    return network


def theirs(network, composite):
    one_hot = torch.eye(5, dtype=torch.float64)[TARGETS]
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(IMAGES, -1, 1)))
    with zennit.attribution.Gradient(model=network, composite=composite) as attributor:
        _, maps = attributor(images, lambda outputs: outputs * one_hot)
    return np.moveaxis(maps.numpy(), 1, -1)


def canonizers():
    return [zennit.canonizers.NamedMergeBatchNorm(MERGED)]


def zennits(name, **options):
    if name == "epsilon_gamma_box":
        options |= {"low": -1.5, "high": 2.0}
    return zennit.composites.COMPOSITES[name](canonizers=canonizers(), **options)


def composite_of(name):
    options = {"low": -1.5, "high": 2.0} if name == "epsilon_gamma_box" else {}
    return jc.composites.COMPOSITES[name](**options)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def relative_error(model, composite, reference):
    maps = np.asarray(jc.lrp(model, jnp.asarray(IMAGES), TARGETS, composite=composite))
    return np.abs(maps - reference).max() / np.abs(reference).max()


def test_both_are_the_same_network():
    network = twin()
    with torch.no_grad():
        logits = network(torch.from_numpy(np.moveaxis(IMAGES, -1, 1).copy())).numpy()
    np.testing.assert_allclose(ours(network)(jnp.asarray(IMAGES)), logits, rtol=1e-9, atol=1e-9)


@pytest.mark.evidence("lrp", kind="library", source="zennit 0.5, batch norms first", tolerance=1e-6)
@pytest.mark.parametrize("name", NAMES)
def test_with_the_pass_rule_it_is_zennits_map(name, measured):
    """zennit's composites pass relevance through a batch norm that no canonizer merged."""
    network = twin()
    model, reference = ours(network), theirs(network, zennits(name))
    error = relative_error(model, composite_of(name).with_rules({"scale": jc.rules.Pass()}), reference)
    measured("lrp", error)
    assert error < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_norm_alone_is_zennits_depthwise_convolution(name):
    """The rule of convolutions on the batch norms as well; where a ReLU follows, γ = ∞ is z⁺."""
    network = twin()
    model, reference = ours(network), theirs(as_convolutions(network), zennits(name))
    composite = composite_of(name)
    assert relative_error(model, composite.with_rules({"scale": composite.conv}), reference) < 1e-6
    if "alpha" not in name:
        assert relative_error(model, composite, reference) < 1e-6


def test_epsilon_on_every_module_is_zennits_map_and_nearly_input_times_gradient():
    network = twin()
    model = ours(network)
    types = (zennit.types.Convolution, zennit.types.Linear, zennit.types.BatchNorm)
    rules = [(kind, zennit.rules.Epsilon(1e-9)) for kind in types]
    sums = [(kind, zennit.rules.Norm(1e-9)) for kind in (zennit.layer.Sum, zennit.types.AvgPool)]
    passing = [(zennit.types.Activation, zennit.rules.Pass())]
    reference = theirs(network, zennit.composites.LayerMapComposite([*rules, *sums, *passing], canonizers()))
    epsilon, norm = jc.rules.Epsilon(1e-9), jc.rules.Norm(1e-9)
    composite = jc.composites.Composite(epsilon, epsilon, norm, norm)
    assert relative_error(model, composite, reference) < 1e-5
    gradient = np.asarray(jc.input_x_gradient(model, jnp.asarray(IMAGES), TARGETS))
    assert np.abs(reference - gradient).max() / np.abs(gradient).max() < 1e-4


@pytest.mark.parametrize("name", NAMES[:4])
def test_without_biases_it_is_zennits_map_without_biases(name):
    network = twin()
    model, reference = ours(network), theirs(as_convolutions(network), zennits(name, zero_params="bias"))
    composite = composite_of(name)
    composite = composite.with_rules({"scale": composite.conv}).without_biases()
    assert relative_error(model, composite, reference) < 1e-6

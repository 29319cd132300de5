"""Class activation maps equal to those of pytorch-grad-cam and Captum: raw maps, on the same weights.

pytorch-grad-cam scales its maps before it gives them; compared are those of its `get_cam_image`, before that.
"""

import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evidence import relative_error
from jax.tree_util import Partial

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
sys.path += [str(Path(__file__).parents[1] / room) for room in ("models", "parity")]
import torchvision_ops  # noqa: E402, F401 - before what imports torchvision

gradcam = pytest.importorskip("pytorch_grad_cam", reason="pytorch-grad-cam is not installed")
attr = pytest.importorskip("captum.attr", reason="Captum is not installed")

import safetensors.torch  # noqa: E402
import torch_twins  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from torch import nn  # noqa: E402

import jaxcam as jc  # noqa: E402

pytestmark = pytest.mark.parity

CLASSES = (3, 7)
# Their name, and the options under which ours follows the same conventions: theirs is clipped after `get_cam_image`.
SAME = {
    "grad_cam": ("GradCAM", {"relu": False}),
    "grad_cam_plus_plus": ("GradCAMPlusPlus", {"relu": False, "epsilon": 1e-6}),
    "hires_cam": ("HiResCAM", {}),
    "layer_cam": ("LayerCAM", {"relu": False}),
    "score_cam": ("ScoreCAM", {"relu": False, "align_corners": True}),
    "ablation_cam": ("AblationCAM", {"relu": False}),
    "eigen_cam": ("EigenCAM", {"center": True}),
}


class Residual(nn.Module):
    """Two residual blocks with batch norm, one of them with a convolution on the other way; each ReLU a module."""

    def __init__(self):
        super().__init__()
        for name, shape in {"stem": (3, 8), "one": (8, 8), "two": (8, 8), "three": (8, 12), "four": (12, 12)}.items():
            setattr(self, name, nn.Conv2d(*shape, 3, padding=1, bias=False))
            setattr(self, f"{name}_norm", nn.BatchNorm2d(shape[1]))
        self.way, self.head = nn.Conv2d(8, 12, 1, bias=False), nn.Linear(12, 10)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(5))

    def forward(self, x):
        x = self.relus[0](self.stem_norm(self.stem(x)))
        y = self.relus[1](self.one_norm(self.one(x)))
        x = self.relus[2](self.two_norm(self.two(y)) + x)
        y = self.relus[3](self.three_norm(self.three(x)))
        x = self.relus[4](self.four_norm(self.four(y)) + self.way(x))
        return self.head(x.mean((2, 3)))


def apply(p, x):
    def conv(name, x, padding=1):
        kernel, pads = p[f"{name}.weight"].transpose(2, 3, 1, 0), [(padding, padding)] * 2
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def block(name, x):
        mean, variance = p[f"{name}_norm.running_mean"], p[f"{name}_norm.running_var"]
        scale = p[f"{name}_norm.weight"] / jnp.sqrt(variance + 1e-5)
        return (conv(name, x) - mean) * scale + p[f"{name}_norm.bias"]

    x = jax.nn.relu(block("stem", x))
    x = jc.tag(jax.nn.relu(block("two", jax.nn.relu(block("one", x))) + x), "first")
    x = jc.tag(jax.nn.relu(block("four", jax.nn.relu(block("three", x))) + conv("way", x, 0)), "second")
    return x.mean((1, 2)) @ p["head.weight"].T + p["head.bias"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """By name: the network in PyTorch, the same in JAX, images, and layers by our names."""
    vgg = torch_twins.randomized(torch_twins.small_vgg11())
    path = tmp_path_factory.mktemp("weights") / "vgg11.safetensors"
    safetensors.torch.save_file(vgg.state_dict(), path)
    relus = [m for m in vgg.features if isinstance(m, nn.ReLU)]
    residual = torch_twins.randomized(Residual(), 1)
    p = {name: jnp.asarray(array.numpy()) for name, array in residual.state_dict().items()}
    rng = np.random.default_rng(5)
    return {
        "vgg11": (
            vgg,
            jc.models.load("vgg11", path, classes=10, image_size=32),
            jnp.asarray(rng.random((2, 32, 32, 3), np.float32)),
            {"features.conv1": relus[1], "features.conv3": relus[3], "features.conv7": relus[7]},
        ),
        "residual": (
            residual,
            Partial(apply, p),
            jnp.asarray(rng.random((2, 12, 12, 3), np.float32)),
            {"first": residual.relus[2], "second": residual.relus[4]},
        ),
    }


def channels_first(x):
    return torch.from_numpy(np.array(x.transpose(0, 3, 1, 2)))


def theirs(name, network, layer, x):
    """The raw map that pytorch-grad-cam makes of a layer (n, h, w)."""
    images, targets = channels_first(x), [ClassifierOutputTarget(k) for k in CLASSES[: len(x)]]
    with getattr(gradcam, name)(network, [layer]) as method:
        outputs = method.activations_and_grads(images)
        sum(target(output) for target, output in zip(targets, outputs, strict=True)).backward()
        both = [
            found[0].numpy()
            for found in (method.activations_and_grads.activations, method.activations_and_grads.gradients)
        ]
        return np.asarray(method.get_cam_image(images, layer, targets, *both, eigen_smooth=False))


@pytest.mark.evidence(
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "layer_cam",
    "eigen_cam",
    kind="library",
    source="pytorch-grad-cam 1.5",
    tolerance=1e-4,
)
@pytest.mark.parametrize("net", ["vgg11", "residual"])
@pytest.mark.parametrize("name", ["grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "eigen_cam"])
def test_maps_are_those_of_pytorch_grad_cam(name, net, networks, measured):
    network, model, x, layers = networks[net]
    other, options = SAME[name]
    found = getattr(jc, name)(model, x, CLASSES, layer=list(layers), **options)
    for layer, module in layers.items():
        expected = theirs(other, network, module, x)
        if name == "eigen_cam":  # the sign of a singular vector is nobody's
            expected *= np.sign((expected * np.asarray(found[layer])).sum((1, 2), keepdims=True))
        error = relative_error(found[layer], expected)
        measured(name, error)
        assert error < 1e-4, layer


@pytest.mark.evidence("score_cam", "ablation_cam", kind="library", source="pytorch-grad-cam 1.5", tolerance=1e-4)
@pytest.mark.parametrize(("net", "layer"), [("vgg11", "features.conv1"), ("residual", "first"), ("residual", "second")])
@pytest.mark.parametrize("name", ["score_cam", "ablation_cam"])
def test_maps_by_scores_are_those_of_pytorch_grad_cam(name, net, layer, networks, measured):
    network, model, x, layers = networks[net]
    x = x[:1] if net == "vgg11" else x
    other, options = SAME[name]
    found = getattr(jc, name)(model, x, CLASSES[: len(x)], layer=layer, **options)
    error = relative_error(found, theirs(other, network, layers[layer], x))
    measured(name, error)
    assert error < 1e-4


@pytest.mark.evidence("grad_cam", "guided_grad_cam", kind="library", source="Captum 0.9", tolerance=1e-4)
@pytest.mark.parametrize("net", ["vgg11", "residual"])
def test_maps_are_those_of_captum(net, networks, measured):
    network, model, x, layers = networks[net]
    images, targets = channels_first(x).requires_grad_(), torch.tensor(CLASSES)
    plain = jc.grad_cam(model, x, CLASSES, layer=list(layers), relu=False)
    guided = jc.guided_grad_cam(model, x, CLASSES, layer=list(layers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set, and will be removed
        for layer, module in layers.items():
            expected = attr.LayerGradCam(network, module).attribute(images, targets)[:, 0]
            error = relative_error(plain[layer], expected.detach())
            measured("grad_cam", error)
            assert error < 1e-4, layer
            expected = attr.GuidedGradCam(network, module).attribute(images, targets, interpolate_mode="bilinear")
            error = relative_error(guided[layer], expected.detach().permute(0, 2, 3, 1))
            measured("guided_grad_cam", error)
            assert error < 1e-4, layer

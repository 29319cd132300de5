"""Relevance against zennit's, on the same weights: raw maps of every composite, on a VGG and on a ResNet."""

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

import torchvision  # noqa: E402
import zennit.attribution  # noqa: E402
import zennit.composites  # noqa: E402
import zennit.rules  # noqa: E402
import zennit.torchvision  # noqa: E402
import zennit.types  # noqa: E402

import jaxcam as jc  # noqa: E402
from jaxcam import models  # noqa: E402
from jaxcam.models.conversion import entries  # noqa: E402
from jaxcam.models.fitting import converted  # noqa: E402
from jaxcam.models.registry import blueprint  # noqa: E402
from jaxcam.models.state import filled  # noqa: E402

pytestmark = pytest.mark.parity

LOW, HIGH = -1.5, 2.0
IMAGES = np.random.default_rng(0).uniform(LOW, HIGH, size=(2, 32, 32, 3)).astype(np.float32)
TARGETS = [3, 7]
COMPOSITES = ["epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat"]


def channels_first(images):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def theirs(network, name, canonizers, images=IMAGES, **options):
    """Zennit's relevance, started from the scores of TARGETS as ours is."""
    composite = zennit.composites.COMPOSITES[name](canonizers=canonizers, **options)
    network = network.to(torch.float64)
    one_hot = torch.eye(10, dtype=torch.float64)[TARGETS]
    with zennit.attribution.Gradient(model=network, composite=composite) as attributor:
        _, maps = attributor(channels_first(images.astype(np.float64)), lambda outputs: outputs * one_hot)
    return np.moveaxis(maps.numpy(), 1, -1)


def relative_error(ours, reference):
    return np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max()


def vgg11():
    twin = torch_twins.randomized(torch_twins.small_vgg11())
    config = models.Config(name="vgg11", classes=10, image_size=32)
    network = blueprint(config)
    arrays = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
    return twin, filled(network, converted(arrays, config, entries(config, network), "memory"))


def resnet():
    """Torchvision's ResNet with one basic block a stage, and the same written as a plain function of its arrays."""
    torch.manual_seed(0)
    basic = torchvision.models.resnet.BasicBlock
    twin = torch_twins.randomized(torchvision.models.ResNet(basic, [1, 1, 1, 1], num_classes=10))
    arrays = {name: jnp.asarray(tensor.numpy()) for name, tensor in twin.state_dict().items()}
    return twin, jax.tree_util.Partial(resnet_function, arrays)


def resnet_function(p, x):
    def conv(x, name, stride, padding):
        kernel, layout = p[f"{name}.weight"], ("NHWC", "OIHW", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=layout
        )

    def norm(x, name):
        scale = p[f"{name}.weight"] / jnp.sqrt(p[f"{name}.running_var"] + 1e-5)
        return (x - p[f"{name}.running_mean"]) * scale + p[f"{name}.bias"]

    x = jax.nn.relu(norm(conv(x, "conv1", 2, 3), "bn1"))
    x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), [(0, 0), (1, 1), (1, 1), (0, 0)])
    for stage in range(1, 5):
        name, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        y = jax.nn.relu(norm(conv(x, f"{name}.conv1", stride, 1), f"{name}.bn1"))
        y = norm(conv(y, f"{name}.conv2", 1, 1), f"{name}.bn2")
        if stage > 1:
            x = norm(conv(x, f"{name}.downsample.0", stride, 0), f"{name}.downsample.1")
        x = jax.nn.relu(y + x)
    return x.mean((1, 2)) @ p["fc.weight"].T + p["fc.bias"]


NETS = {"vgg11": (vgg11, []), "resnet": (resnet, [zennit.torchvision.ResNetCanonizer])}


@pytest.fixture(scope="module", params=NETS)
def net(request):
    make, canonizers = NETS[request.param]
    twin, ours = make()
    with torch.no_grad():
        logits = twin(channels_first(IMAGES)).numpy()
    assert relative_error(ours(IMAGES), logits) < 1e-5
    return twin, ours, [canonizer() for canonizer in canonizers]


@pytest.mark.evidence("lrp", "relevance", kind="library", source="zennit 0.5", tolerance=1e-3)
@pytest.mark.parametrize("name", COMPOSITES)
def test_a_composite_gives_zennits_map(net, name, measured):
    twin, model, canonizers = net
    ours = jc.lrp(model, IMAGES, TARGETS, composite=name)
    error = relative_error(ours, theirs(twin, name, canonizers))
    measured("lrp", error)
    assert error < 1e-3


def test_w_square_in_the_first_layer_gives_zennits_map():
    twin, model = vgg11()
    first = [(zennit.types.Linear, zennit.rules.WSquare())]
    composite = zennit.composites.EpsilonPlusFlat()
    composite.first_map = first
    one_hot = torch.eye(10, dtype=torch.float64)[TARGETS]
    with zennit.attribution.Gradient(model=twin.to(torch.float64), composite=composite) as attributor:
        _, maps = attributor(channels_first(IMAGES.astype(np.float64)), lambda outputs: outputs * one_hot)
    ours = jc.lrp(
        model, IMAGES, TARGETS, composite=jc.composites.epsilon_plus().with_rules({"first": jc.rules.WSquare()})
    )
    assert relative_error(ours, np.moveaxis(maps.numpy(), 1, -1)) < 1e-3


@pytest.mark.evidence("lrp", kind="library", source="zennit 0.5", tolerance=1e-3)
def test_epsilon_gamma_box_gives_zennits_map(net, measured):
    twin, model, canonizers = net
    ours = jc.lrp(model, IMAGES, TARGETS, composite=jc.composites.epsilon_gamma_box(LOW, HIGH))
    error = relative_error(ours, theirs(twin, "epsilon_gamma_box", canonizers, low=LOW, high=HIGH))
    measured("lrp", error)
    assert error < 1e-3

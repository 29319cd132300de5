"""Gradients, paths, noise and DeepLIFT equal to Captum's on the same weights: VGG11, a residual net with batch norm.

Raw maps, relative error max|a − b| / max|b| ≤ 1e-4. Captum's own departures are put right where they are met:

* its "riemann_trapezoid" weights n places by 1/n where the n − 1 steps between them have 1/(n − 1): a factor (n − 1)/n;
* its DeepLift (Captum 0.9, PyTorch 2.13) has maps that do not sum to the difference of scores where a max pool stands
  behind other layers: compared with average pooling and with the image itself max pooled; what its sum misses on VGG11
  is shown beside ours, which does not;
* its hooks see modules only, each once: the twin has a ReLU module for every ReLU.
"""

import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
attr = pytest.importorskip("captum.attr", reason="Captum is not installed")

import safetensors.torch  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "models"))
import torch_twins  # noqa: E402

import jaxcam as jc  # noqa: E402

pytestmark = pytest.mark.parity


class Residual(torch.nn.Module):
    """Convolution, batch norm and ReLU twice, a shortcut around the second, max pooling, dense."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)
        self.conv2, self.bn2 = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.BatchNorm2d(8)
        self.relu1, self.relu2 = torch.nn.ReLU(), torch.nn.ReLU()
        self.pool, self.fc = torch.nn.MaxPool2d(2), torch.nn.Linear(8, 5)

    def average_pooled(self):
        self.pool = torch.nn.AvgPool2d(2)
        return self

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.pool(self.relu2(x + self.bn2(self.conv2(x))))
        return self.fc(x.mean((2, 3)))


class PooledFirst(Residual):
    """The same, the max pooling before all else."""

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(self.pool(x))))
        return self.fc(self.relu2(x + self.bn2(self.conv2(x))).mean((2, 3)))


def convolved(p, x, i):
    kernel = jnp.transpose(p[f"conv{i}.weight"], (2, 3, 1, 0))
    z = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    z = (z + p[f"conv{i}.bias"] - p[f"bn{i}.running_mean"]) / jnp.sqrt(p[f"bn{i}.running_var"] + 1e-5)
    return z * p[f"bn{i}.weight"] + p[f"bn{i}.bias"]


def max_pooled(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def average_pooled(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4


def residual(p, x, pool=max_pooled):
    """The same, as a JAX user would write it."""
    x = jax.nn.relu(convolved(p, x, 1))
    x = pool(jax.nn.relu(x + convolved(p, x, 2)))
    return x.mean((1, 2)) @ p["fc.weight"].T + p["fc.bias"]


def pooled_first(p, x):
    return residual(p, max_pooled(x), lambda pooled: pooled)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """By name: Captum's network and ours on the same weights, and two images."""
    vgg = torch_twins.randomized(torch_twins.small_vgg11())
    path = tmp_path_factory.mktemp("weights") / "vgg11.safetensors"
    safetensors.torch.save_file(vgg.state_dict(), path)
    small = torch_twins.randomized(Residual(), seed=1)
    with torch.no_grad():
        for network in (vgg, small):
            for module in network.modules():
                if isinstance(module, torch.nn.Conv2d):
                    module.bias.normal_(std=0.1)
    safetensors.torch.save_file(vgg.state_dict(), path)
    weights = {
        name: jnp.asarray(tensor.numpy()) for name, tensor in small.state_dict().items() if "tracked" not in name
    }
    rng = np.random.default_rng(1)
    return {
        "vgg11": (
            vgg,
            jc.models.load("vgg11", path, classes=10, image_size=32),
            jnp.asarray(rng.random((2, 32, 32, 3), np.float32)),
        ),
        "residual": (small, Partial(residual, weights), jnp.asarray(rng.random((2, 12, 12, 3), np.float32))),
    }


def to_torch(x):
    return torch.from_numpy(np.asarray(x, np.float32).transpose(0, 3, 1, 2).copy())


def theirs(explainer, x, target, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that hooks are set, and will be removed
        found = explainer.attribute(to_torch(x).requires_grad_(), target=target, **options)
    return found.detach().numpy().transpose(0, 2, 3, 1)


def check(ours, other, tolerance=1e-4):
    assert np.abs(other).max() > 0
    error = np.abs(np.asarray(ours) - other).max() / np.abs(other).max()
    assert error <= tolerance, error


SIMPLE = {
    "saliency": (jc.saliency, lambda net: attr.Saliency(net), {"abs": False}),
    "input_x_gradient": (jc.input_x_gradient, attr.InputXGradient, {}),
    "guided_backprop": (jc.guided_backprop, attr.GuidedBackprop, {}),
    "deconvnet": (jc.deconvnet, attr.Deconvolution, {}),
}


@pytest.mark.evidence("saliency", "input_x_gradient", kind="library", source="Captum 0.9", tolerance=1e-4)
@pytest.mark.evidence("guided_backprop", "deconvnet", kind="library", source="Captum 0.9", tolerance=1e-4)
@pytest.mark.parametrize("name", ["vgg11", "residual"])
@pytest.mark.parametrize("method", SIMPLE)
def test_gradients_are_captums(networks, name, method):
    network, model, x = networks[name]
    ours, other, options = SIMPLE[method]
    check(ours(model, x, 3), theirs(other(network), x, 3, **options))


@pytest.mark.evidence("integrated_gradients", kind="library", source="Captum 0.9", tolerance=1e-4)
@pytest.mark.parametrize("name", ["vgg11", "residual"])
@pytest.mark.parametrize(
    ("method", "captums"), [("gauss_legendre", "gausslegendre"), ("trapezoid", "riemann_trapezoid")]
)
def test_integrated_gradients_are_captums(networks, name, method, captums):
    network, model, x = networks[name]
    steps = 8
    ours = jc.integrated_gradients(model, x, 3, baseline=0.5, steps=steps, method=method)
    other = theirs(attr.IntegratedGradients(network), x, 3, baselines=0.5, n_steps=steps, method=captums)
    check(ours, other * (steps / (steps - 1) if method == "trapezoid" else 1))


@pytest.mark.evidence("deep_lift", kind="library", source="Captum 0.9", tolerance=1e-4)
@pytest.mark.parametrize("kind", ["average pooling", "max pooling"])
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_deep_lift_is_captums(networks, kind, baseline):
    small, model, x = networks["residual"]
    network = Residual().average_pooled() if kind == "average pooling" else PooledFirst()
    network.load_state_dict(small.state_dict())
    ours = Partial(lambda p, x: residual(p, x, average_pooled), *model.args)
    if kind == "max pooling":
        ours = Partial(pooled_first, *model.args)
    maps = jc.deep_lift(ours, x, 3, baseline=baseline)
    for i in range(len(x)):
        check(maps[i : i + 1], theirs(attr.DeepLift(network.eval()), x[i : i + 1], 3, baselines=baseline))


def test_deep_lift_is_complete_where_captums_is_not(networks):
    network, model, x = networks["vgg11"]
    x = x[:1]
    expected = float((model(x) - model(0 * x))[0, 3])
    maps = np.asarray(jc.deep_lift(model, x, 3), np.float64)
    # Contributions of either sign nearly cancel, so float32 rounds by what they are, not by what is left of them.
    assert abs(maps.sum() - expected) <= 1e-5 * np.abs(maps).sum()
    assert abs(theirs(attr.DeepLift(network), x, 3).sum() - expected) > 1e-2 * abs(expected)


@pytest.mark.evidence("smooth_grad", kind="library", source="Captum 0.9, the same draws", tolerance=1e-4)
@pytest.mark.parametrize(
    ("kind", "captums"), [("mean", "smoothgrad"), ("squared", "smoothgrad_sq"), ("variance", "vargrad")]
)
def test_noise_tunnels_are_captums_on_the_same_draws(networks, kind, captums, monkeypatch):
    """Captum draws with torch.normal, the samples of an image in a row: it is handed our draws, one image at a time."""
    network, model, images = networks["residual"]
    x, samples, key = images[:1], 6, jax.random.key(3)
    sigma = 0.1 / float(np.ptp(x))  # Captum's is absolute
    draws = [jax.random.normal(jax.random.fold_in(key, i), x.shape[1:]) for i in range(samples)]
    noise = 0.1 * torch.cat([to_torch(draw[None]) for draw in draws])
    monkeypatch.setattr(torch, "normal", lambda mean, std: mean + noise.reshape(std.shape))
    other = theirs(
        attr.NoiseTunnel(attr.Saliency(network)), x, 3, nt_type=captums, nt_samples=samples, stdevs=0.1, abs=False
    )
    check(jc.smooth_grad(model, x, 3, key=key, samples=samples, sigma=sigma, kind=kind), other)


@pytest.mark.evidence("gradient_shap", kind="library", source="Captum 0.9, in the mean of 2000 draws")
def test_gradient_shap_is_captums_in_the_mean(networks):
    """The draws cannot be shared: α and baselines come from NumPy's global state. Both means of 2000 draws are within
    five standard errors of each other; a wrong factor or path would be off by hundreds."""
    network, model, images = networks["residual"]
    x, samples = images[:1], 2000
    starts = np.stack([np.zeros_like(x[0]), np.full_like(x[0], 0.5)])
    ours = jc.gradient_shap(model, x, 3, key=jax.random.key(0), baselines=starts, samples=samples)
    torch.manual_seed(0)
    state = np.random.get_state()  # noqa: NPY002 - Captum draws from it
    np.random.seed(0)  # noqa: NPY002
    other = theirs(attr.GradientShap(network), x, 3, baselines=to_torch(starts), n_samples=samples, stdevs=0.0)
    np.random.set_state(state)  # noqa: NPY002
    few = np.stack(
        [
            np.asarray(jc.gradient_shap(model, x, 3, key=k, baselines=starts, samples=20))
            for k in jax.random.split(jax.random.key(1), 20)
        ]
    )
    error = few.std(0) * np.sqrt(20 / samples) * np.sqrt(2)
    assert (np.abs(ours - other) <= 5 * error + 1e-6).mean() > 0.99
    assert float(error.mean()) < 0.1 * np.abs(other).mean()

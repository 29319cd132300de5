"""Logits equal to PyTorch's on the same weights, whichever way the weights come and go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import safetensors.torch  # noqa: E402
import torch_twins  # noqa: E402

from jaxcam import models  # noqa: E402
from jaxcam.models.blocks import adaptive_average_pool  # noqa: E402
from jaxcam.models.conversion import entries  # noqa: E402
from jaxcam.models.fitting import converted  # noqa: E402
from jaxcam.models.registry import blueprint  # noqa: E402
from jaxcam.models.state import filled  # noqa: E402

pytestmark = pytest.mark.parity

CIFAR = {"classes": 10, "image_size": 32}


def compare(twin, model, n=2, tolerance=1e-4):
    """Asserts logits within 1e-4 of the largest one, and that they tell images apart at all."""
    size, channels = model.config.image_size, model.config.channels
    images = np.random.default_rng(0).uniform(size=(n, size, size, channels)).astype(np.float32)
    with torch.no_grad():
        theirs = twin(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = np.asarray(jax.jit(lambda model, x: model(x))(model, images))
    assert theirs.std() > 1e-3
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    assert error < tolerance, f"relative error {error}"


def through_memory(twin, **options):
    config = models.Config(**options)
    network = blueprint(config)
    arrays = {name: tensor.numpy() for name, tensor in twin.state_dict().items()}
    return filled(network, converted(arrays, config, entries(config, network), "memory"))


def test_vgg11_on_imagenet_equals_torch_with_the_dense_rows_permuted():
    twin = torch_twins.randomized(torch_twins.vgg11())
    model = through_memory(twin, name="vgg11")
    compare(twin, model, n=1)


def test_alexnet_on_imagenet_equals_torch_through_safetensors(tmp_path):
    twin = torch_twins.randomized(torch_twins.alexnet())
    safetensors.torch.save_file(twin.state_dict(), tmp_path / "alexnet.safetensors")
    compare(twin, models.load("alexnet", tmp_path / "alexnet.safetensors", normalize=None), n=1)


def test_alexnet_at_another_size_pools_adaptively_as_torch_does():
    twin = torch_twins.randomized(torch_twins.alexnet(classes=5))
    compare(twin, through_memory(twin, name="alexnet", classes=5, image_size=100))


def test_resnet50_on_imagenet_equals_torch_with_its_running_statistics(tmp_path):
    twin = torch_twins.randomized(torch_twins.ResNet50())
    torch.save(twin.state_dict(), tmp_path / "resnet50.pth")
    compare(twin, models.load("resnet50", tmp_path / "resnet50.pth", normalize=None), n=1)


@pytest.mark.parametrize(
    ("name", "make", "options"),
    [
        ("alexnet", torch_twins.small_alexnet, CIFAR),
        ("vgg11", torch_twins.small_vgg11, CIFAR),
        ("vgg11", torch_twins.four_convolutions, CIFAR | {"convolutions": 4}),
        ("resnet50", torch_twins.small_resnet50, CIFAR | {"image_size": 16}),
    ],
)
def test_small_forms_equal_torch_and_go_back_to_it_bit_by_bit(name, make, options, tmp_path):
    twin = torch_twins.randomized(make())
    safetensors.torch.save_file(twin.state_dict(), tmp_path / "theirs.safetensors")
    model = models.load(name, tmp_path / "theirs.safetensors", **options)
    compare(twin, model)
    back = models.save(model, tmp_path / "back.safetensors", layout="torchvision")
    saved = safetensors.torch.load_file(back)
    for key, tensor in twin.state_dict().items():
        assert key.endswith("num_batches_tracked") or torch.equal(tensor, saved[key]), key
    twin.load_state_dict(saved, strict=True)


def test_state_dicts_of_training_scripts_are_unwrapped(tmp_path):
    twin = torch_twins.randomized(torch_twins.four_convolutions(classes=3, channels=1))
    wrapped = {"model": {f"module.{name}": tensor for name, tensor in twin.state_dict().items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "checkpoint.pth")
    options = {"classes": 3, "image_size": 16, "channels": 1, "convolutions": 4}
    compare(twin, models.load("vgg11", tmp_path / "checkpoint.pth", **options))


def test_half_precision_files_load_as_float32(tmp_path):
    twin = torch_twins.randomized(torch_twins.four_convolutions(classes=3, channels=1))
    half = {name: tensor.to(torch.bfloat16) for name, tensor in twin.state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "half.safetensors")
    torch.save(half, tmp_path / "half.pth")
    twin.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    options = {"classes": 3, "image_size": 16, "channels": 1, "convolutions": 4}
    for file in ("half.safetensors", "half.pth"):
        model = models.load("vgg11", tmp_path / file, **options)
        assert model.features.conv0.kernel.dtype == np.float32
        compare(twin, model)


def test_a_normalizing_network_equals_torch_on_normalized_images(tmp_path):
    twin = torch_twins.randomized(torch_twins.four_convolutions(classes=3))
    model = through_memory(
        twin, name="vgg11", classes=3, image_size=16, convolutions=4, normalize=((0.2, 0.4, 0.6), (0.3, 0.2, 0.1))
    )
    mean, std = (torch.tensor(part).reshape(1, 3, 1, 1) for part in ((0.2, 0.4, 0.6), (0.3, 0.2, 0.1)))
    compare(lambda x: twin((x - mean) / std), model)


@pytest.mark.parametrize(("length", "size"), [(7, 7), (14, 7), (13, 6), (9, 7), (2, 6), (1, 3)])
def test_adaptive_average_pool_equals_torch(length, size):
    x = np.random.default_rng(1).normal(size=(2, length, length + 1, 3)).astype(np.float32)
    theirs = torch.nn.AdaptiveAvgPool2d(size)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(
        adaptive_average_pool(jnp.asarray(x), size), theirs.numpy().transpose(0, 2, 3, 1), atol=1e-6
    )


class Code:
    """What a hostile file would hold: something that runs when it is unpickled."""

    def __reduce__(self):
        import os

        return os.mkdir, ("ran",)


def test_code_in_a_pth_file_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Code()}, "hostile.pth")
    with pytest.raises(ValueError, match=r"hostile\.pth holds more than weights, and code is never run") as caught:
        models.load("vgg11", "hostile.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_pth_file_is_named(tmp_path):
    path = tmp_path / "short.pth"
    torch.save(torch_twins.four_convolutions().state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"short\.pth is no whole \.pth file.*copy or download it again"):
        models.load("vgg11", path)


def test_a_pth_file_without_a_state_dict_says_how_to_save_one(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"holds no state dict; save one with torch\.save\(model\.state_dict\(\)"):
        models.load("vgg11", tmp_path / "list.pth")

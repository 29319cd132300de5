"""SqueezeNet 1.1: the published one, its parts in torch's arithmetic, its weights in and out."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

import jaxcam as jc
from jaxcam import models
from jaxcam.models.conversion import entries
from jaxcam.models.fitting import recognize
from jaxcam.models.loading import SmallFormWarning
from jaxcam.models.registry import blueprint
from jaxcam.models.squeezenet import pool

DATA = Path(os.environ.get("JAXCAM_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data") / "squeezenet"
NAME = "squeezenet1_1"
TINY = {"classes": 3, "image_size": 16, "channels": 1}

trained = pytest.mark.skipif(not DATA.is_dir(), reason="no trained SqueezeNet: the shared data are not here")


def test_it_has_as_many_parameters_as_published():
    weights = nnx.state(blueprint(models.Config("squeezenet1_1")), nnx.Param)
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(weights)) == 1_235_496


@trained
def test_the_published_weights_give_the_published_logits():
    reference = np.load(DATA / "reference.npz")
    model = models.load("squeezenet1_1", DATA / "squeezenet1_1.safetensors", normalize=None)
    logits = np.asarray(model(reference["input"].transpose(0, 2, 3, 1)))
    assert np.abs(logits - reference["logits"]).max() <= 2e-6 * np.abs(reference["logits"]).max()


@trained
def test_it_knows_most_photographs_with_imagenets_normalization_which_its_weights_ask_for():
    folder = DATA.parent / "imagenet"
    rows = (folder / "imagenet_classes.tsv").read_text("utf-8").splitlines()
    numbers = [row.split("\t")[1] for row in rows]
    files = sorted((folder / "sample100").iterdir())[::5]
    x = np.stack([jc.data.read_image(file) for file in files])
    model = models.load("squeezenet1_1", DATA / "squeezenet1_1.safetensors")
    assert model.config.normalize == "imagenet"
    answers = np.asarray(jax.jit(lambda x: model(x))(x)).argmax(-1)
    right = [numbers[answer] == file.name[:9] for answer, file in zip(answers, files, strict=True)]
    assert np.mean(right) >= 0.6  # 14 of 20; by chance 0.001


@trained
def test_the_command_line_finds_its_normalization():
    from jaxcam.cli.networks import open_network

    network = open_network("squeezenet1_1", weights=str(DATA / "squeezenet1_1.safetensors"))
    assert network.model.config == models.Config("squeezenet1_1", normalize="imagenet")


@pytest.mark.parametrize("layout", ["torchvision", "jaxcam"])
def test_its_weights_go_out_and_come_back(layout, tmp_path):
    model = models.load("squeezenet1_1", **TINY, seed=1)
    path = models.save(model, tmp_path / "model.safetensors", layout=layout)
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(path), bare)
    x = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    for again in (models.load(path), models.load("squeezenet1_1", bare, **TINY)):
        np.testing.assert_array_equal(again(x), model(x))


def test_imagenets_weights_are_not_put_into_the_small_form_in_silence(tmp_path):
    # Both forms have the same shapes, and only the strides differ.
    arrays = {entry.torch_path: np.zeros(entry.torch_shape, np.float32) for entry in entries(models.Config(NAME))}
    save_file(arrays, tmp_path / "theirs.safetensors")
    for size in (8, 32, 64):
        sentence = f"images of {size}×{size} squeezenet1_1 .* give image_size=65 or more"
        with pytest.warns(SmallFormWarning, match=sentence):
            models.load(NAME, tmp_path / "theirs.safetensors", image_size=size)
    assert models.load(NAME, tmp_path / "theirs.safetensors", image_size=65).config.image_size == 65


def test_its_names_are_torchvisions():
    table = {entry.path: entry.torch_path for entry in entries(models.Config("squeezenet1_1"))}
    assert table["features.conv0.kernel"] == "features.0.weight"
    assert table["features.fire2.squeeze.kernel"] == "features.3.squeeze.weight"
    assert table["features.fire9.expand3x3.bias"] == "features.12.expand3x3.bias"
    assert table["classifier.conv.kernel"] == "classifier.1.weight"


def test_weights_without_a_name_are_recognized():
    config = models.Config("squeezenet1_1", classes=7, channels=1)
    for layout in ("path", "torch_path"):
        shape = "shape" if layout == "path" else "torch_shape"
        arrays = {getattr(entry, layout): np.empty(getattr(entry, shape)) for entry in entries(config)}
        assert recognize(arrays) == config
        arrays.pop("classifier.conv.bias" if layout == "path" else "classifier.1.bias")
        assert recognize(arrays) is None


def test_its_fire_modules_are_layers_by_name():
    model = models.load("squeezenet1_1")
    layers = {layer.name: layer for layer in jc.layers(model, jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32))}
    assert layers["features.fire9"].shape == (13, 13, 512)
    assert layers["features.fire2.squeeze"].shape == (55, 55, 16)
    assert sum(layer.kind == "conv" for layer in layers.values()) == 26


@pytest.mark.parametrize("size", [8, 9, 32, 64, 65, 223, 224])
def test_images_of_any_size_give_logits(size):
    model = blueprint(models.Config("squeezenet1_1", 4, size, 1))
    logits = jax.eval_shape(lambda model, x: model(x), model, np.zeros((2, size, size, 1), np.float32))
    assert logits.shape == (2, 4)


@pytest.mark.parametrize(("height", "width"), [(3, 3), (4, 7), (6, 5), (2, 2)])
def test_its_pool_keeps_a_window_that_is_not_full(height, width):
    x = np.random.default_rng(0).normal(size=(1, height, width, 2)).astype(np.float32) - 5
    if min(height, width) < 3:
        expected = x
    else:
        steps = [range(0, length - 1 if length > 3 else 1, 2) for length in (height, width)]
        expected = np.stack(
            [np.stack([x[:, i : i + 3, j : j + 3].max((1, 2)) for j in steps[1]], 1) for i in steps[0]], 1
        )
    np.testing.assert_array_equal(pool(jnp.asarray(x)), expected)


@pytest.mark.parity
@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 12])
def test_its_pool_equals_torchs_with_ceil_mode(size):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).normal(size=(2, size, size + 1, 3)).astype(np.float32)
    theirs = torch.nn.MaxPool2d(3, 2, ceil_mode=True)(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_array_equal(pool(jnp.asarray(x)), theirs.numpy().transpose(0, 2, 3, 1))


def test_it_cannot_be_cut():
    with pytest.raises(ValueError, match="squeezenet1_1 is no chain to be cut"):
        models.load("squeezenet1_1", convolutions=4)

"""The record that says which network: what it takes, what it refuses, and that JSON keeps it."""

import json

import numpy as np
import pytest

from jaxcam.models import Config, load, names
from jaxcam.models.config import whole_number
from jaxcam.models.conversion import Entry, entries
from jaxcam.models.loading import expects_imagenet
from jaxcam.models.registry import first_weights
from jaxcam.models.sources import Tensors


@pytest.mark.parametrize(
    "config",
    [
        Config("resnet50"),
        Config("alexnet", 10, 32, 1, convolutions=3),
        Config("vgg11", normalize="imagenet"),
        Config("vgg11", 2, 64, 2, 4, ((0.1, 0.2), (0.3, 0.4))),
    ],
)
def test_json_keeps_a_configuration(config):
    assert Config.from_json(config.to_json()) == config
    assert hash(Config.from_dict(json.loads(json.dumps(config.to_dict())))) == hash(config)


def test_lists_and_numpy_numbers_are_taken_as_tuples_and_ints():
    config = Config("vgg11", 10, 32, 1, normalize=[[0.5], [0.25]])
    assert config == Config("vgg11", 10, 32, 1, normalize=((0.5,), (0.25,)))
    assert type(whole_number("classes", np.int64(10), 1)) is int


def test_keeping_all_convolutions_is_no_cut():
    assert Config("vgg11", image_size=32, convolutions=8) == Config("vgg11", image_size=32)


def test_the_small_input_form_ends_at_64_pixels():
    assert Config("vgg11", image_size=64).small
    assert not Config("vgg11", image_size=65).small


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 0}, "classes=0 is too small; give 1 or more"),
        ({"classes": -3}, "classes=-3 is too small"),
        ({"image_size": 7}, "image_size=7 is too small; give 8 or more"),
        ({"channels": 0}, "channels=0 is too small"),
        ({"convolutions": 0}, "convolutions=0 is too small"),
        ({"convolutions": 9}, "convolutions=9, but vgg11 has 8; give 1 to 8"),
        ({"normalize": "imagnet"}, "normalize='imagnet' is unknown; give None, 'imagenet' or (mean, std)"),
        ({"normalize": "imagenet", "channels": 1}, "normalize='imagenet' is for 3 channels, not 1"),
        ({"normalize": ((0.5,), (0.5,))}, "normalize has 1 means and 1 deviations for 3 channels"),
        ({"normalize": ((0.0,) * 3, (1.0, 0.0, 1.0))}, "deviations (1.0, 0.0, 1.0); all must be above 0"),
        ({"normalize": ((0.0,) * 3,)}, "is no pair (mean, std) with 3 numbers in each"),
    ],
)
def test_impossible_options_are_refused_in_one_line(options, words):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        load("vgg11", **options)
    assert words in str(caught.value)


def test_fractions_and_booleans_are_no_counts():
    with pytest.raises(ValueError, match=r"image_size=32\.5 is no whole number"):
        whole_number("image_size", 32.5, 8)
    with pytest.raises(ValueError, match="classes=True is no whole number"):
        whole_number("classes", True, 1)
    assert whole_number("seed", 2**32 - 1, 0, 2**32 - 1) == 2**32 - 1
    with pytest.raises(ValueError, match="seed=4294967296 is too large; give 4294967295 or less"):
        load("alexnet", seed=2**32)


def test_resnet50_cannot_be_cut():
    with pytest.raises(ValueError, match=r"resnet50 is no chain .* alexnet, vgg11 can be cut"):
        load("resnet50", convolutions=4)


def test_unknown_fields_and_missing_names_are_refused():
    with pytest.raises(ValueError, match="the configuration has unknown depth"):
        Config.from_dict({"name": "vgg11", "depth": 3})
    with pytest.raises(ValueError, match="the configuration has no model name"):
        Config.from_dict({"classes": 3})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5", "no model 'resnet5'; did you mean 'resnet50'?"),
        ("VGG-11", "did you mean 'vgg11'?"),
        ("zebra", "no model 'zebra'; jaxcam layers lists"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest_and_all_names(name, words):
    with pytest.raises(ValueError, match=r"jaxcam layers lists alexnet, vgg11, squeezenet1_1, resnet50$") as caught:
        load(name)
    assert words in str(caught.value)


def test_names_are_those_that_load_takes():
    assert [load(name, classes=2, image_size=8).config.name for name in names()] == list(names())


def test_a_seed_below_zero_is_refused():
    assert load("alexnet", classes=2, image_size=8, seed=0) is not None
    with pytest.raises(ValueError, match="seed=-1 is too small; give 0 or more"):
        load("alexnet", classes=2, image_size=8, seed=-1)


@pytest.mark.parametrize(("last", "numerator"), [("dense", 1), ("other", 2)])
def test_first_weights_keep_the_variance_of_what_passes(last, numerator):
    kernel = first_weights("dense.kernel", (300, 200), seed=0, last=last)
    np.testing.assert_allclose(kernel.var() * 300, numerator, rtol=0.03)  # 60,000 draws
    kernel = first_weights("dense.kernel", (3, 3, 30, 200), seed=0, fan_out=True, last=last)
    np.testing.assert_allclose(kernel.var() * 9 * (30 if last == "dense" else 200), numerator, rtol=0.03)


def test_only_torchvisions_weights_for_imagenets_classes_expect_normalized_images():
    theirs, ours = {"classifier.1.weight": np.zeros((1000, 512, 1, 1))}, {"classifier.conv.kernel": np.zeros(1)}
    assert expects_imagenet(Config("squeezenet1_1"), Tensors(theirs, {}))
    assert not expects_imagenet(Config("squeezenet1_1"), Tensors(ours, {}))
    assert not expects_imagenet(Config("squeezenet1_1"), Tensors(theirs, {"config": "{}"}))
    assert not expects_imagenet(Config("squeezenet1_1", classes=999), Tensors(theirs, {}))
    assert not expects_imagenet(Config("squeezenet1_1", channels=1), Tensors(theirs, {}))


# Of torchvision 0.28: `features` and `classifier` of its networks' state dicts.
TORCHVISION = {
    "alexnet": [*(f"features.{i}" for i in (0, 3, 6, 8, 10)), *(f"classifier.{i}" for i in (1, 4, 6))],
    "vgg11": [*(f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)), *(f"classifier.{i}" for i in (0, 3, 6))],
    "squeezenet1_1": [
        "features.0",
        *(f"features.{i}.{p}" for i in (3, 4, 6, 7, 9, 10, 11, 12) for p in ("squeeze", "expand1x1", "expand3x3")),
        "classifier.1",
    ],
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_weights_have_the_names_of_torchvision(name):
    found = {entry.torch_path for entry in entries(Config(name))}
    assert found == {f"{module}.{kind}" for module in TORCHVISION[name] for kind in ("weight", "bias")}


def test_a_kernel_goes_to_torchs_layout_and_back():
    rng = np.random.default_rng(0)
    kernel, dense, flattened = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(6, 7)), rng.normal(size=(2 * 2 * 3, 4))
    entry = Entry("a", kernel.shape, "b")
    assert entry.torch_shape == entry.to_torch(kernel).shape == (5, 4, 2, 3)
    assert entry.to_torch(kernel)[4, 3, 1, 2] == kernel[1, 2, 3, 4]
    np.testing.assert_array_equal(entry.from_torch(entry.to_torch(kernel)), kernel)
    entry = Entry("a", dense.shape, "b")
    assert entry.torch_shape == (7, 6)
    np.testing.assert_array_equal(entry.from_torch(entry.to_torch(dense)), dense)
    # Torch flattens channels, rows, columns; we rows, columns, channels.
    entry = Entry("a", flattened.shape, "b", grid=2)
    there = entry.to_torch(flattened)
    for row, column, channel in np.ndindex(2, 2, 3):
        np.testing.assert_array_equal(
            there[:, channel * 4 + row * 2 + column], flattened[row * 6 + column * 3 + channel]
        )
    np.testing.assert_array_equal(entry.from_torch(there), flattened)


@pytest.mark.parametrize(("name", "most"), [("alexnet", 5), ("vgg11", 8)])
def test_all_convolutions_are_the_whole_network_and_more_there_are_not(name, most):
    assert Config(name, convolutions=most) == Config(name)
    assert Config(name, convolutions=most - 1).convolutions == most - 1
    with pytest.raises(ValueError, match=f"convolutions={most + 1}, but {name} has {most}; give 1 to {most}"):
        Config(name, convolutions=most + 1)

"""Weight files: what goes in comes out, and every bad file is answered in one line that says what to do."""

import contextlib
import json
import os
import re
import struct
import sys
import warnings
import zipfile

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxcam import models
from jaxcam.models import sources
from jaxcam.models.loading import SmallFormWarning
from jaxcam.models.state import weights_of

TINY = {"classes": 3, "image_size": 8, "channels": 1}


def tiny(**options):
    return models.load("vgg11", **(TINY | {"convolutions": 2} | options))


@contextlib.contextmanager
def raises(error, *words):
    """Expects an error whose message is one line with all these words in it."""
    with pytest.raises(error) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message, message
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"


@pytest.fixture(scope="module")
def resnet():
    return models.load("resnet50", **TINY)


@pytest.fixture(scope="module")
def resnet_arrays(resnet, tmp_path_factory):
    """Its weights under torchvision's names, as another program would write them."""
    path = tmp_path_factory.mktemp("resnet") / "a.safetensors"
    return load_file(models.save(resnet, path, layout="torchvision"))


def same(model, other):
    arrays, others = weights_of(model), weights_of(other)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name])


@pytest.mark.parametrize("layout", ["jaxcam", "torchvision"])
def test_a_checkpoint_brings_back_network_configuration_and_metadata(layout, tmp_path):
    model = tiny(seed=3, normalize=((0.5,), (0.25,)))
    path = models.save(model, tmp_path / "a.safetensors", layout=layout, names=["x", "y", "z"], epoch=np.int64(4))
    again = models.load(path)
    same(model, again)
    assert again.config == model.config
    assert models.read_metadata(path) == {
        "config": json.loads(model.config.to_json()),
        "layout": layout,
        "names": ["x", "y", "z"],
        "epoch": 4,
    }
    x = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(x), again(x))


@pytest.mark.parametrize(
    "options", [{"convolutions": 2}, {"image_size": 65, "convolutions": 1}], ids=["small", "imagenet"]
)
@pytest.mark.parametrize("layout", ["jaxcam", "torchvision"])
def test_both_forms_of_alexnet_go_through_both_layouts(options, layout, tmp_path):
    model = models.load("alexnet", **(TINY | options))
    same(model, models.load(models.save(model, tmp_path / "a.safetensors", layout=layout)))


def test_the_same_network_is_saved_to_the_same_bytes(tmp_path):
    first, second = (models.save(tiny(), tmp_path / f"{name}.safetensors", epoch=1) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_resnet50_keeps_its_statistics_and_comes_back_in_evaluation_mode(resnet, tmp_path):
    model = nnx.clone(resnet)
    model.bn1.mean[...] = np.full(64, 0.25, np.float32)
    loaded = models.load(models.save(model, tmp_path / "a.safetensors"))
    assert loaded.bn1.use_running_average
    same(model, loaded)


@pytest.mark.slow
def test_dropout_of_a_loaded_network_can_train_on(tmp_path):
    options = TINY | {"image_size": 65, "convolutions": 1}
    path = models.save(models.load("alexnet", **options), tmp_path / "a.safetensors")
    loaded = models.load(path, seed=9)
    loaded.train()
    assert np.isfinite(loaded(np.ones((1, 65, 65, 1), np.float32))).all()


def test_options_may_repeat_the_checkpoint_but_not_contradict_it(tmp_path):
    path = models.save(tiny(), tmp_path / "a.safetensors")
    same(models.load("vgg11", path, classes=3, image_size=8), models.load(path, channels=1, convolutions=2))
    with raises(ValueError, "a.safetensors was saved with classes=3, not 10; image_size=8, not 32; leave that out"):
        models.load(path, classes=10, image_size=32)
    with raises(ValueError, "was saved with normalize=None, not ((0.5,), (0.5,))"):
        models.load(path, normalize=((0.5,), (0.5,)))
    normalizing = models.save(tiny(normalize=((0.5,), (0.5,))), tmp_path / "b.safetensors")
    with raises(ValueError, "was saved with normalize=((0.5,), (0.5,)), not None; leave that out"):
        models.load(normalizing, normalize="none")
    with raises(ValueError, "was saved from vgg11, not alexnet"):
        models.load("alexnet", path)


def test_a_checkpoint_takes_no_other_weights(tmp_path):
    path = models.save(tiny(), tmp_path / "a.safetensors")
    with raises(ValueError, "is a checkpoint and has its own weights"):
        models.load(path, path)


def test_weights_without_a_name_ask_for_one(tmp_path):
    save_file(load_file(models.save(tiny(), tmp_path / "a.safetensors")), tmp_path / "bare.safetensors")
    with raises(ValueError, "bare.safetensors does not say which network it is for; give the name and the file"):
        models.load(tmp_path / "bare.safetensors")
    same(tiny(), models.load("vgg11", tmp_path / "bare.safetensors", **TINY, convolutions=2))
    assert models.read_metadata(tmp_path / "bare.safetensors") == {}


@pytest.mark.parametrize(
    ("layout", "classes", "channels", "given", "found"),
    [
        ("torchvision", 1000, 3, {}, "imagenet"),
        ("torchvision", 1000, 3, {"normalize": "auto"}, "imagenet"),
        ("torchvision", 1000, 3, {"normalize": None}, None),
        ("torchvision", 1000, 3, {"normalize": "none"}, None),
        ("torchvision", 10, 3, {}, None),
        ("torchvision", 1000, 1, {}, None),
        ("jaxcam", 1000, 3, {}, None),
    ],
)
def test_weights_of_torchvisions_for_imagenet_are_normalized(layout, classes, channels, given, found, tmp_path):
    options = {"classes": classes, "channels": channels, "image_size": 8, "convolutions": 1}
    path = models.save(models.load("alexnet", **options), tmp_path / "a.safetensors", layout=layout)
    assert models.load(path, **given).config.normalize is None  # a checkpoint says itself
    save_file(load_file(path), path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert models.load("alexnet", path, **options, **given).config.normalize == found
    # Weights for large photographs in a network for small images: that is said.
    small = [str(w.message) for w in caught if issubclass(w.category, SmallFormWarning)]
    assert len(small) == ((layout, classes, channels) == ("torchvision", 1000, 3))
    assert all("give image_size=65 or more" in message for message in small)


def changed(tmp_path, change, layout="torchvision"):
    """A bare weight file with something changed."""
    arrays = load_file(models.save(tiny(), tmp_path / "whole.safetensors", layout=layout))
    change(arrays)
    save_file(arrays, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


def test_wrong_names_and_shapes_are_all_listed_at_once(tmp_path):
    def change(arrays):
        arrays["features.9.weight"] = arrays.pop("features.0.weight")
        arrays["classifier.0.bias"] = np.zeros(4, np.float32)
        arrays["classifier.2.bias"] = np.zeros(3, np.int32)

    with raises(
        ValueError,
        "changed.safetensors does not fit vgg11 (classes=3, image_size=8, channels=1, convolutions=2)",
        "classifier.0.bias is (4,) but should be (512,); ",
        "classifier.2.bias holds int32 but should hold floating point; ",
        "features.0.weight is missing; features.9.weight is unknown",
    ):
        models.load("vgg11", changed(tmp_path, change), **TINY, convolutions=2)


def test_the_checkpoints_own_names_are_checked_as_well(tmp_path):
    path = changed(tmp_path, lambda arrays: arrays.pop("features.conv1.bias"), layout="jaxcam")
    with raises(ValueError, "features.conv1.bias is missing"):
        models.load("vgg11", path, **TINY, convolutions=2)


def test_after_ten_misfits_the_rest_is_counted(resnet_arrays, tmp_path):
    bare = tmp_path / "bare.safetensors"
    save_file({name: array for name, array in resnet_arrays.items() if name != "fc.weight"}, bare)
    with raises(
        ValueError,
        "does not fit vgg11 (classes=1000, image_size=224, channels=3) (it looks like resnet50)",
        "features.0.weight is missing; ",
        "; and 278 more",  # 22 arrays of VGG11 missing, 266 of ResNet50 unknown, 10 listed
    ) as caught:
        models.load("vgg11", bare)
    assert str(caught.value).count(";") == 10


def test_whole_weights_of_another_network_are_named_and_no_misfits_listed(resnet_arrays, tmp_path):
    bare = tmp_path / "bare.safetensors"
    save_file(resnet_arrays, bare)
    with pytest.raises(ValueError, match="does not fit vgg11") as caught:
        models.load("vgg11", bare)
    fits = "vgg11 (classes=1000, image_size=224, channels=3); it fits resnet50 (classes=3, image_size=32, channels=1)"
    assert str(caught.value) == f"{bare} does not fit {fits}"


def test_weights_of_the_same_network_in_another_form_are_recognized(tmp_path):
    path = changed(tmp_path, lambda arrays: None)
    with raises(ValueError, "; it fits vgg11 (classes=3, image_size=32, channels=1, convolutions=2)"):
        models.load("vgg11", path)
    with raises(ValueError, "; it fits vgg11 (classes=3, image_size=32, channels=1, convolutions=2)"):
        models.load("vgg11", path, **TINY)


def test_incomplete_weights_of_another_network_are_recognized_by_their_names(resnet_arrays, tmp_path):
    arrays = {name: array for name, array in resnet_arrays.items() if name != "fc.weight"}
    save_file(arrays, tmp_path / "headless.safetensors")
    with raises(ValueError, "headless.safetensors does not fit alexnet", "(it looks like resnet50)"):
        models.load("alexnet", tmp_path / "headless.safetensors", **TINY)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_weights_name_the_file(length, tmp_path):
    path = models.save(tiny(), tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:length])
    for read in (models.load, models.read_metadata):
        with raises(ValueError, "cut.safetensors is no whole safetensors file", "copy or download it again"):
            read(path)


def test_random_bytes_are_no_weights(tmp_path):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(np.random.default_rng(0).bytes(4096))
    with raises(ValueError, "noise.safetensors is no whole safetensors file"):
        models.load("vgg11", path)


def test_damaged_metadata_is_said(tmp_path):
    for number, text in enumerate(["{", "[1]", '{"config": 3}', '{"config": {"name": "vgg12"}}']):
        path = tmp_path / f"{number}.safetensors"
        save_file({"a": np.zeros(1)}, path, {"jaxcam": text})
        with raises(ValueError, f"{number}.safetensors", "cannot be" if "vgg12" in text else "damaged jaxcam metadata"):
            models.load(path)


def test_numbers_that_numpy_has_no_type_for_are_said(tmp_path):
    header = json.dumps({"fc.weight": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "f8.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0")
    with raises(ValueError, "f8.safetensors holds numbers that NumPy has no type for"):
        models.load("vgg11", tmp_path / "f8.safetensors")


def test_a_missing_file_is_answered_with_the_closest_in_its_folder(tmp_path):
    models.save(tiny(), tmp_path / "model.safetensors")
    with raises(FileNotFoundError, "no file", "modle.safetensors; did you mean 'model.safetensors'?"):
        models.load("vgg11", tmp_path / "modle.safetensors")
    with raises(FileNotFoundError, "its folder holds model.safetensors"):
        models.load(tmp_path / "zebra.pth")
    with raises(FileNotFoundError, "there is no folder", "either"):
        models.load("vgg11", tmp_path / "nowhere" / "model.safetensors")


def test_folders_and_other_kinds_of_files_are_refused(tmp_path):
    models.save(tiny(), tmp_path / "model.safetensors")
    with raises(ValueError, "is a folder, weights are one file; it holds model.safetensors"):
        models.load("vgg11", tmp_path)
    (tmp_path / "model.npz").write_bytes(b"")
    with raises(ValueError, "model.npz is neither .safetensors nor .pth"):
        models.load("vgg11", tmp_path / "model.npz")


def test_a_pth_file_without_torch_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "model.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with raises(ModuleNotFoundError, "model.pth needs PyTorch", "pip install torch"):
        models.load("vgg11", tmp_path / "model.pth")


def test_saving_refuses_what_it_could_not_read_again(tmp_path):
    model = tiny()
    with raises(ValueError, "model.pth does not end in .safetensors"):
        models.save(model, tmp_path / "model.pth")
    with raises(FileNotFoundError, "there is no folder", "make it first"):
        models.save(model, tmp_path / "nowhere" / "model.safetensors")
    with raises(ValueError, "metadata cannot be named config"):
        models.save(model, tmp_path / "model.safetensors", config={})
    with raises(TypeError, "metadata must be what JSON can hold, not object"):
        models.save(model, tmp_path / "model.safetensors", thing=object())
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = models.save(tiny(seed=1), tmp_path / "model.safetensors")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with raises(OSError, "No space left on device"):
        models.save(tiny(seed=2), path)
    monkeypatch.undo()
    same(models.load(path), tiny(seed=1))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


class Own(nnx.Module):
    """A network of a user's."""

    def __init__(self, width, rngs):
        self.dense, self.norm = nnx.Linear(3, width, rngs=rngs), nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.dense(x)))


def test_a_network_of_your_own_is_saved_and_restored(tmp_path):
    model, other = Own(4, nnx.Rngs(0)), Own(4, nnx.Rngs(1))
    path = models.save(model, tmp_path / "own.safetensors", epoch=2)
    before = np.asarray(other.dense.kernel)
    restored = models.restore(other, path)
    same(restored, model)
    np.testing.assert_array_equal(other.dense.kernel, before)
    assert jax.tree.structure(restored) == jax.tree.structure(other)
    assert models.read_metadata(path) == {"epoch": 2, "layout": "jaxcam"}
    with raises(ValueError, "own.safetensors does not fit Own: dense.bias is (4,) but should be (5,)"):
        models.restore(Own(5, nnx.Rngs(0)), path)
    with raises(TypeError, "torchvision has no layout for Own"):
        models.save(model, path, layout="torchvision")


def test_restore_fills_our_networks_too(tmp_path):
    path = models.save(tiny(seed=1), tmp_path / "a.safetensors", layout="torchvision")
    same(models.restore(tiny(seed=2), path), tiny(seed=1))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("Weights only load failed: code", "holds more than weights, and code is never run; save model.state_dict()"),
        ("weights are missing", r"cannot be read \(weights are missing\)"),
        ("only so much", r"cannot be read \(only so much\)"),
        ("a\nb", r"cannot be read \(a\)"),
    ],
)
def test_why_torch_did_not_read_a_file(error, words, tmp_path):
    whole, cut = tmp_path / "whole.pth", tmp_path / "cut.pth"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("data.pkl", b"")
    cut.write_bytes(whole.read_bytes()[:10])
    assert re.match(words, sources.torch_complaint(whole, RuntimeError(error)))
    assert sources.torch_complaint(cut, RuntimeError(error)).startswith("is no whole .pth file of weights alone; ")

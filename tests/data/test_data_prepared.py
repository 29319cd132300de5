"""tensorflow-datasets without TensorFlow: a tiny set of its own, prepared and read by its own machinery."""

import io
import sys
import types

import numpy as np
import PIL.Image
import pytest

import jaxcam.data as data
from jaxcam import interrupts
from jaxcam.data import prepared

tfds = pytest.importorskip("tensorflow_datasets")


def picture(number: int, height: int = 8) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, 8, 3), np.uint8)


class JaxcamTinySquares(tfds.core.GeneratorBasedBuilder):
    """Twelve 8×8 pictures to train on and four to test."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["cat", "dog"])
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(8, 8, 3)), "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 12), "test": self._generate_examples(100, 4)}

    def _generate_examples(self, start, count):
        for number in range(start, start + count):
            yield number, {"image": picture(number), "label": number % 2}


class JaxcamTinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Pictures of several sizes, all in one split, and no word on what is to be learned from what."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"photo": tfds.features.Image(), "kind": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(10):
            yield number, {"photo": picture(number, height=8 + number), "kind": number % 2}


class JaxcamTinyNumbers(tfds.core.GeneratorBasedBuilder):
    """No pictures at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"value": tfds.features.Scalar(dtype=np.int64)})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": ((number, {"value": number}) for number in range(3))}

    def _generate_examples(self):
        raise NotImplementedError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


def test_a_set_is_prepared_and_read_without_tensorflow(place):
    loaded = data.load("tfds:jaxcam_tiny_squares", "test", data_dir=place)
    assert loaded.images.shape == (4, 8, 8, 3)
    assert loaded.names == ("cat", "dog")
    expected = {picture(number).tobytes(): number % 2 for number in range(100, 104)}
    got = {
        (image * 255).round().astype(np.uint8).tobytes(): int(label)
        for image, label in zip(loaded.images, loaded.labels, strict=True)
    }
    assert got == expected
    assert "tensorflow" not in sys.modules


def test_what_is_prepared_is_read_again_without_its_script_and_without_a_network(place, monkeypatch):
    before = data.load("tfds:jaxcam_tiny_squares", data_dir=place)
    monkeypatch.setattr(prepared, "_prepare", lambda *_: pytest.fail("it was there"))
    monkeypatch.setattr(JaxcamTinySquares, "_generate_examples", None)
    assert data.load("tfds:jaxcam_tiny_squares", data_dir=place).fingerprint == before.fingerprint


def test_pictures_of_several_sizes_are_brought_to_one(place):
    assert data.load("tfds:jaxcam_tiny_photos", data_dir=place, limit=2).images.shape == (2, 224, 224, 3)
    assert data.load("tfds:jaxcam_tiny_photos", data_dir=place, image_size=6).images.shape[1:] == (6, 6, 3)


def test_a_set_without_a_test_split_is_split_like_a_folder(place):
    counts = [
        data.load("tfds:jaxcam_tiny_photos", split, data_dir=place, image_size=6).count for split in ("train", "test")
    ]
    assert counts == [8, 2]


def test_the_splits_of_a_set_are_offered(place):
    with pytest.raises(ValueError, match="tfds:jaxcam_tiny_squares has no split 'tets'; did you mean 'test'"):
        data.load("tfds:jaxcam_tiny_squares", "tets", data_dir=place)


def test_a_set_without_labeled_images_is_refused(place):
    with pytest.raises(ValueError, match=r"is not a set of labeled images; each example holds value \(Scalar\)"):
        data.load("tfds:jaxcam_tiny_numbers", data_dir=place)


def test_an_unknown_set_is_answered_with_the_closest(place):
    with pytest.raises(ValueError, match=r"no 'mnits' in its catalog or in .*; did you mean 'mnist'") as caught:
        data.load("tfds:mnits", data_dir=place)
    assert "\n" not in str(caught.value)


def test_without_a_network_a_set_fails_at_once_and_in_one_line(place, monkeypatch):
    address = {"http://127.0.0.1:9/archive.zip": None}
    monkeypatch.setattr(JaxcamTinySquares, "url_infos", address)
    monkeypatch.setattr(JaxcamTinySquares, "VERSION", tfds.core.Version("2.0.0"))
    with pytest.raises(ValueError, match=r"cannot be prepared there: no network, 127\.0\.0\.1 cannot be reached"):
        data.load("tfds:jaxcam_tiny_squares:2.0.0", data_dir=place)


def test_mnist_prepared_by_tensorflow_datasets_is_the_published_mnist(tmp_path, monkeypatch):
    pytest.importorskip("importlib_resources", reason="tensorflow-datasets forgets to require it for its own sets")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)
    examples = [(n, {"image": pixels[n], "label": n}) for n in range(6)]
    mnist = tfds.builder_cls("mnist")
    monkeypatch.setattr(mnist, "url_infos", {})
    monkeypatch.setattr(mnist, "_split_generators", lambda self, _: {"train": self._generate_examples()})
    monkeypatch.setattr(mnist, "_generate_examples", lambda self: iter(examples))
    data.load("tfds:mnist", data_dir=tmp_path)
    loaded = data.load("mnist", data_dir=tmp_path)
    assert loaded.images.shape[1:] == (32, 32, 1)
    expected = {n: pixels[n].astype(np.float32) / np.float32(255) for n in range(6)}
    for image, label in zip(loaded.images, loaded.labels, strict=True):
        np.testing.assert_array_equal(image[2:-2, 2:-2], expected[int(label)])


def test_a_stop_removes_what_was_being_prepared_and_nothing_else(tmp_path):
    """tensorflow-datasets prepares a set in a folder beside its own; others may be preparing it too."""
    place = tmp_path / "squares" / "1.0.0"
    of_another = place.parent / "incomplete.AAAAAA_1.0.0"
    of_another.mkdir(parents=True)
    other_version = place.parent / "incomplete.BBBBBB_2.0.0"

    class Builder:
        data_dir = str(place)
        url_infos = None
        _generate_examples = None

        def download_and_prepare(self):
            other_version.mkdir()
            with tfds.core.utils.incomplete_dir(self.data_dir) as folder:
                (tfds.core.Path(folder) / "half").touch()
                interrupts._clean_ups[-1]()
                assert set(place.parent.iterdir()) == {of_another, other_version}
                tfds.core.Path(folder).mkdir()

    prepared._prepare(Builder(), "squares")
    assert place.is_dir()


class Fake:
    """What jaxcam asks a builder for, of which only what differs is given."""

    def __init__(self, keys=("image", "label"), error=None, splits=("train", "extra")):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
            "weight": tfds.features.Scalar(dtype=np.float32),
        }
        self.info = types.SimpleNamespace(features=features, supervised_keys=keys, splits=dict.fromkeys(splits))
        self.error = error

    def as_data_source(self, split, decoders):
        if self.error is not None:
            raise self.error
        files = []
        for number in range(10):
            file = io.BytesIO()
            PIL.Image.fromarray(picture(number)).save(file, "png")
            files.append({"image": file.getvalue(), "label": number % 2})
        return files


@pytest.mark.parametrize("keys", [("image", "label", "weight"), ("image",), ("label", "image"), ("image", "weight")])
def test_a_picture_and_its_class_are_all_that_an_example_holds(keys, monkeypatch):
    monkeypatch.setattr(prepared, "_builder", lambda *_: Fake(keys))
    with pytest.raises(ValueError, match=r"tfds:fake is not a set of labeled images; each example holds image \(Image"):
        data.load("tfds:fake")


@pytest.mark.parametrize("kind", [NotImplementedError, ValueError])
def test_what_tensorflow_alone_reads_is_one_line(kind, monkeypatch):
    monkeypatch.setattr(prepared, "_builder", lambda *_: Fake(error=kind("random access is\nnot there")))
    with pytest.raises(ValueError, match=r"^tfds:fake cannot be read without TensorFlow: random access is$"):
        data.load("tfds:fake")


def test_only_train_and_test_are_drawn_where_there_is_no_test(monkeypatch):
    monkeypatch.setattr(prepared, "_builder", lambda *_: Fake())
    assert [data.load("tfds:fake", split).count for split in ("train", "test", "extra")] == [8, 2, 10]
    monkeypatch.setattr(prepared, "_builder", lambda *_: Fake(splits=("train", "validation")))
    assert [data.load("tfds:fake", split).count for split in ("train", "test")] == [10, 10]

"""`jaxcam.data.load` by name: what is asked for comes back the same everywhere; what is wrong is said in one line."""

import os
from pathlib import Path

import numpy as np
import pytest

import jaxcam.data as data


def test_a_data_set_unpacks_into_images_labels_and_names():
    images, labels, names = data.load("digits", "test")
    assert images.shape == (359, 32, 32, 1)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    assert names == tuple("0123456789")
    assert images.min() == 0
    assert images.max() == 1


def test_digits_are_split_within_each_class_and_nothing_is_lost():
    train, test = data.load("digits", image_size=8), data.load("digits", "test", image_size=8)
    assert train.count + test.count == 1797
    share = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    np.testing.assert_allclose(share, 0.2, atol=0.004)
    both = {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    assert not both


def test_digits_keep_their_published_values_at_their_own_size():
    from sklearn.datasets import load_digits

    published = {(image / 16).astype(np.float32).tobytes() for image in load_digits().images}
    assert all(image.tobytes() in published for image in data.load("digits", image_size=8).images)


def test_the_split_of_digits_never_changes():
    # Recorded once; another value would silently change every result on digits.
    assert data.load("digits", "test", image_size=8).labels[:12].tolist() == DIGITS_START


DIGITS_START = [2, 7, 0, 8, 0, 5, 8, 9, 5, 1, 2, 2]


def test_two_loads_have_one_fingerprint_and_other_data_another():
    first, again = data.load("digits", "test"), data.load("digits", "test")
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != data.load("digits", "test", limit=100).fingerprint
    assert first.describe() == {
        "name": "digits",
        "split": "test",
        "count": 359,
        "image": [32, 32, 1],
        "classes": 10,
        "preparation": "bilinear from 8 to 32",
        "fingerprint": first.fingerprint,
    }


def test_a_limit_takes_evenly_from_all_classes_and_always_the_same_images():
    some, more = data.load("digits", limit=50, image_size=8), data.load("digits", limit=100, image_size=8)
    assert np.bincount(some.labels).tolist() == [5] * 10
    assert {image.tobytes() for image in some.images} <= {image.tobytes() for image in more.images}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mnits",), "no data set 'mnits' and no folder of that name; did you mean 'mnist'"),
        (("digits", "tset"), "digits has no split 'tset'; did you mean 'test'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.load(*arguments)
    assert "\n" not in str(caught.value)


def test_a_data_dir_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match="data_dir 'nowhere/at all' is not a directory"):
        data.load("mnist", data_dir="nowhere/at all")


@pytest.mark.parametrize("option", ["image_size", "limit"])
def test_nothing_at_all_cannot_be_asked_for(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, not 0"):
        data.load("digits", **{option: 0})


SHARED = Path(os.environ.get("JAXCAM_TEST_DATA", Path(__file__).parents[3] / "shared/data"))


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the shared data folder with MNIST is not here")
def test_mnist_is_what_it_is_known_to_be():
    images, labels, _ = data.load("mnist", "test", data_dir=SHARED)
    assert images.shape == (10000, 32, 32, 1)
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert images[:, :2].max() == images[:, -2:].max() == images[:, :, :2].max() == images[:, :, -2:].max() == 0
    # The mean of MNIST's test images, before their border.
    assert images[:, 2:-2, 2:-2].mean() == pytest.approx(0.13251, abs=1e-5)

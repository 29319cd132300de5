"""Input that would end in a blank map or a NaN is refused at the door, in one line."""

import numpy as np
import pytest

import jaxcam.data as data

GOOD = np.random.default_rng(0).random((3, 4, 4, 3)).astype(np.float32)


def with_value(value, image=1):
    images = GOOD.copy()
    images[image, 2, 2, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (with_value(np.nan), "image 1 has NaN or infinite values: mend or leave out it"),
        (with_value(np.inf, 2), "image 2 has NaN or infinite values"),
        (np.full_like(GOOD, np.nan), "images 0, 1, 2 have NaN or infinite values"),
        (GOOD * 255, "these range from .* to .*: divide them by 255"),
        (GOOD - 0.5, r"images must lie in \[0, 1\], these range from -0\.\d+ to 0\.\d+$"),
        (
            np.concatenate([GOOD, np.full((1, 4, 4, 3), 0.5, np.float32)]),
            "image 3 has one and the same value everywhere",
        ),
        (np.zeros((1, 4, 4, 3), np.float32), "the image has one and the same value everywhere"),
        (GOOD[:0], "there are no pixels"),
        (GOOD[..., :1], "images have 1 channels, the network takes 3: repeat the one channel"),
        (np.moveaxis(GOOD, -1, 1), "images have 4 channels, the network takes 3"),
        (GOOD[:, :3], "images are 3×4, the network takes 4×4: load them with image_size=4"),
    ],
)
def test_each_fault_has_its_line(images, message):
    with pytest.raises(ValueError, match=message) as caught:
        data.check_images(images, channels=3, size=4)
    assert "\n" not in str(caught.value)


def test_images_must_be_a_batch_of_floats():
    with pytest.raises(TypeError, match=r"must have the shape \(n, h, w, c\), not \(4, 4, 3\)"):
        data.check_images(GOOD[0])
    with pytest.raises(TypeError, match=r"must be floating-point numbers in .*, not uint8: divide them by 255"):
        data.check_images((GOOD * 255).astype(np.uint8))


def test_good_images_pass_and_constant_ones_where_they_may():
    data.check_images(GOOD, channels=3, size=4)
    data.check_images(GOOD * 0, allow_constant=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "3 images but 2 labels"),
        ([0, 1, 2], "label 2 of arrays names no class: there are 2"),
        ([0, -1, 1], "label -1"),
    ],
)
def test_labels_must_fit_images_and_names(labels, message):
    with pytest.raises(ValueError, match=message):
        data.Dataset(GOOD, np.array(labels), ("cat", "dog"))


def test_labels_must_be_whole_numbers():
    with pytest.raises(TypeError, match="labels must be whole numbers"):
        data.Dataset(GOOD, np.array([0.0, 1.0, 1.0]), ("cat", "dog"))


def test_a_data_set_cannot_be_changed_by_accident():
    dataset = data.Dataset(GOOD, np.array([0, 1, 1]), ("cat", "dog"))
    with pytest.raises(AttributeError):
        dataset.labels = np.array([0])

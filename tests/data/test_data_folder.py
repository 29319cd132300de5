"""Folders of photographs: every picture counts, and each that cannot be read is named."""

import shutil

import numpy as np
import PIL.Image
import pytest

import jaxcam.data as data


def fill(folder, count, color, suffix=".png"):
    folder.mkdir(parents=True)
    for number in range(count):
        PIL.Image.new("RGB", (12, 10), (color, 10 * number, 0)).save(folder / f"{number}{suffix}")


@pytest.fixture
def photos(tmp_path):
    fill(tmp_path / "cat", 10, 0)
    fill(tmp_path / "dog", 5, 255)
    return tmp_path


def reds(dataset):
    return [round(float(image[0, 0, 0])) for image in dataset.images]


def test_subfolders_are_classes_and_a_fifth_of_each_is_for_testing(photos):
    train, test = (data.load(photos, split, image_size=8) for split in ("train", "test"))
    assert train.names == test.names == ("cat", "dog")
    assert (train.split, test.split, train.name) == ("train", "test", str(photos))
    assert train.images.shape == (12, 8, 8, 3)
    assert train.labels.tolist() == reds(train) == [0] * 8 + [1] * 4
    assert test.labels.tolist() == reds(test) == [0, 0, 1]
    # No picture is in both: green counts them.
    assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in test.images}


def test_the_only_picture_of_a_class_is_trained_on(tmp_path):
    fill(tmp_path / "cat", 1, 0)
    fill(tmp_path / "dog", 1, 255)
    assert data.load(tmp_path, image_size=4).labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="has one image of each class, which are for training: there is no test split"):
        data.load(tmp_path, "test")


def test_photographs_are_224_pixels_wide_unless_said_otherwise(photos):
    assert data.load(photos, "test").images.shape == (3, 224, 224, 3)


@pytest.mark.parametrize("name", ["test", "val", "valid", "validation"])
def test_folders_of_splits_are_taken_as_they_are(tmp_path, name):
    fill(tmp_path / "train/cat", 2, 0)
    fill(tmp_path / "train/dog", 3, 255)
    fill(tmp_path / name / "dog", 2, 255)
    assert data.load(tmp_path, image_size=4).labels.tolist() == [0, 0, 1, 1, 1]
    assert data.load(tmp_path, "test", image_size=4).labels.tolist() == [1, 1]


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path / "train", 2, 0)
    fill(tmp_path / "tram", 2, 255)
    assert data.load(tmp_path, image_size=4).names == ("train", "tram")


def test_suffixes_in_capitals_count_and_hidden_files_do_not(photos):
    shutil.move(photos / "dog/0.png", photos / "dog/0.PNG")
    (photos / "dog/.DS_Store").write_bytes(b"x")
    (photos / ".git").mkdir()
    assert data.load(photos, image_size=4).count + data.load(photos, "test", image_size=4).count == 15


def test_files_that_are_no_pictures_are_left_out_with_a_warning(photos):
    (photos / "dog/notes.txt").write_text("a dog")
    with pytest.warns(UserWarning, match=r"dog': notes\.txt left out; images end in \.jpg"):
        assert data.load(photos, image_size=4).names == ("cat", "dog")


@pytest.fixture
def broken(tmp_path):
    fill(tmp_path / "train/cat", 8, 0)
    fill(tmp_path / "train/dog", 2, 255)
    photograph = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    PIL.Image.fromarray(photograph).save(tmp_path / "train/dog/3.jpg")
    (tmp_path / "train/dog/3.jpg").write_bytes((tmp_path / "train/dog/3.jpg").read_bytes()[:-500])
    (tmp_path / "train/dog/1.png").write_bytes(b"")
    return tmp_path


def test_broken_pictures_are_all_named_in_one_error(broken):
    with pytest.raises(
        ValueError, match=r"2 of 11 images in '.*' cannot be read: train/dog/1\.png \(not a picture\), train/dog/3.jpg"
    ) as e:
        data.load(broken, image_size=8)
    assert "skip_broken=True (--skip-broken)" in str(e.value)
    assert "\n" not in str(e.value)


def test_broken_pictures_are_skipped_on_request_with_a_warning_that_names_them(broken):
    with pytest.warns(
        UserWarning, match=r"cannot be read and were skipped: train/dog/1\.png \(not a picture\), train/dog/3\.jpg"
    ):
        loaded = data.load(broken, image_size=8, skip_broken=True)
    assert loaded.labels.tolist() == reds(loaded) == [0] * 8 + [1]


def test_no_readable_picture_at_all_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"1 of 1 images in .* cannot be read, none is left"):
        data.load(tmp_path, skip_broken=True)


def test_an_empty_class_is_named(photos):
    (photos / "emu").mkdir()
    with pytest.raises(FileNotFoundError, match="the class 'emu' has no image in"):
        data.load(photos)


def test_a_folder_without_classes_says_what_it_needs(tmp_path):
    PIL.Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="it needs a subfolder of images for each class"):
        data.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder 'some/where'"):
        data.load("some/where")


def test_a_test_class_that_was_never_trained_on_is_refused(tmp_path):
    fill(tmp_path / "train/cat", 1, 0)
    fill(tmp_path / "train/dog", 1, 0)
    fill(tmp_path / "test/dogs", 1, 0)
    with pytest.raises(ValueError, match="has a class 'dogs' that train/ does not have; did you mean 'dog'"):
        data.load(tmp_path, "test")


def test_training_pictures_without_testing_pictures_are_said(tmp_path):
    fill(tmp_path / "train/cat", 1, 0)
    with pytest.raises(FileNotFoundError, match="has train/ but neither test/ nor val/"):
        data.load(tmp_path, "test")


def test_a_limit_spares_reading_the_rest(photos):
    (photos / "cat/0.png").write_bytes(b"")
    chosen = [data.load(photos, image_size=4, limit=n).labels.tolist() for n in (2, 4)]
    assert chosen == [[0, 1], [0, 0, 1, 1]]


def test_more_than_fits_into_memory_is_said_before_it_is_tried(photos):
    with pytest.raises(ValueError, match=r"images of 300000×300000 take \d+ GB, this machine has \d+: pass a smaller"):
        data.load(photos, image_size=300_000)

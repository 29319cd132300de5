"""MNIST and CIFAR-10 files: read as published, refused when they are anything else, fetched only when whole."""

import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest

import jaxcam.data as data
from jaxcam.data import download, published

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
DIGITS = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    for images, labels in published.MNIST.values():
        (tmp_path / f"{images}.gz").write_bytes(gzip.compress(idx(PIXELS)))
        (tmp_path / f"{labels}.gz").write_bytes(gzip.compress(idx(DIGITS)))
    return tmp_path


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for files in published.CIFAR10.values():
        for name in files:
            records = generator.integers(0, 256, (4, published.RECORD), np.uint8)
            records[:, 0] = [6, 9, 9, 4]
            (folder / name).write_bytes(records.tobytes())
    return tmp_path


def test_mnist_gets_a_border_of_two_black_pixels(mnist):
    images, labels, _ = data.load("mnist", data_dir=mnist)
    assert images.shape == (7, 32, 32, 1)
    np.testing.assert_array_equal(images[:, 2:-2, 2:-2, 0], PIXELS.astype(np.float32) / 255)
    assert labels.tolist() == DIGITS.tolist()
    assert data.load("mnist", data_dir=mnist, image_size=28).images.shape == (7, 28, 28, 1)
    assert data.load("mnist", data_dir=mnist, image_size=64).images.shape == (7, 64, 64, 1)


def test_mnist_may_be_unpacked_and_in_a_folder_of_its_own(mnist):
    (mnist / "mnist").mkdir()
    for file in mnist.glob("*.gz"):
        (mnist / "mnist" / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    assert data.load("mnist", "test", data_dir=mnist).count == 7


def test_cifar10_colors_are_planes_in_the_file_and_channels_in_the_array(cifar10):
    images, labels, names = data.load("cifar10", "test", data_dir=cifar10)
    record = np.fromfile(cifar10 / "cifar-10-batches-bin/test_batch.bin", np.uint8)[: published.RECORD]
    assert images.shape == (4, 32, 32, 3)
    # Green is the second plane; row 5, column 7 of it.
    assert images[0, 5, 7, 1] == np.float32(record[1 + 1024 + 5 * 32 + 7]) / np.float32(255)
    assert [names[label] for label in labels] == ["frog", "truck", "truck", "deer"]
    assert data.load("cifar10", data_dir=cifar10).count == 20


def test_a_truncated_mnist_file_is_named(mnist):
    file = mnist / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is truncated or damaged: download it again"):
        data.load("mnist", data_dir=mnist)
    file.write_bytes(gzip.compress(idx(PIXELS)[:-9]))
    with pytest.raises(ValueError, match="it holds 5,479 of 5,488 bytes"):
        data.load("mnist", data_dir=mnist)


def test_a_file_that_is_not_mnist_is_refused(mnist):
    (mnist / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(DIGITS)))
    with pytest.raises(ValueError, match="is no MNIST file: it does not begin with the magic number 2051"):
        data.load("mnist", data_dir=mnist)


def test_labels_of_other_images_are_refused(mnist):
    (mnist / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(DIGITS[:-1])))
    with pytest.raises(ValueError, match=r"holds 7 images, train-labels-idx1-ubyte\.gz 6 labels: not a pair"):
        data.load("mnist", data_dir=mnist)


def test_a_missing_file_is_named_where_the_others_are(mnist, cifar10):
    (mnist / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"train-labels-idx1-ubyte\.gz missing in .*, the other files are there"
    ):
        data.load("mnist", data_dir=mnist)
    (cifar10 / "cifar-10-batches-bin/data_batch_3.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3\.bin missing in"):
        data.load("cifar10", data_dir=cifar10)


def test_a_truncated_or_foreign_cifar10_file_is_named(cifar10):
    file = cifar10 / "cifar-10-batches-bin/test_batch.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(
        ValueError, match=r"test_batch\.bin is truncated or not CIFAR-10's binary version: 12,291 bytes"
    ):
        data.load("cifar10", "test", data_dir=cifar10)
    file.write_bytes(b"\x63" + whole[1:])
    with pytest.raises(ValueError, match="has a label 99, labels are 0 to 9"):
        data.load("cifar10", "test", data_dir=cifar10)


def test_the_pickles_of_cifar10_are_never_read(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(FileNotFoundError, match="holds pickles, which are never read: get the binary version"):
        data.load("cifar10", data_dir=tmp_path)


def test_without_files_and_network_the_files_and_their_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MNIST_ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist", "test", data_dir=tmp_path)
    message = str(caught.value)
    assert f"are not in '{tmp_path}' (t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz)" in message
    assert "cannot be downloaded: http://127.0.0.1:9/t10k-images-idx3-ubyte.gz cannot be reached" in message
    assert "pass data_dir (--data-dir)" in message
    assert "\n" not in message


def test_missing_files_are_downloaded_and_kept(mnist, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(download, "MNIST_ADDRESS", f"{mnist.as_uri()}/")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in mnist.glob("*.gz")}
    monkeypatch.setattr(download, "CHECKSUMS", sums)
    place = tmp_path_factory.mktemp("data")
    assert data.load("mnist", "test", data_dir=place).count == 7
    assert sorted(file.name for file in (place / "mnist").iterdir()) == [f"{n}.gz" for n in published.MNIST["test"]]


def test_a_download_that_was_tampered_with_is_not_kept(mnist, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(download, "MNIST_ADDRESS", f"{mnist.as_uri()}/")
    place = tmp_path_factory.mktemp("data")
    with pytest.raises(FileNotFoundError, match="is not the file that was published: its checksum differs"):
        data.load("mnist", "test", data_dir=place)
    assert not list(place.rglob("*.gz"))


def test_cifar10_is_unpacked_from_its_archive(cifar10, tmp_path_factory, monkeypatch):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(cifar10 / "cifar-10-batches-bin", "cifar-10-batches-bin")
    server = tmp_path_factory.mktemp("server")
    (server / download.CIFAR10_ARCHIVE).write_bytes(archive.getvalue())
    monkeypatch.setattr(download, "CIFAR10_ADDRESS", f"{server.as_uri()}/")
    digest = hashlib.sha256(archive.getvalue()).hexdigest()
    monkeypatch.setattr(download, "CHECKSUMS", {download.CIFAR10_ARCHIVE: digest})
    place = tmp_path_factory.mktemp("data")
    assert data.load("cifar10", data_dir=place).fingerprint == data.load("cifar10", data_dir=cifar10).fingerprint


def test_a_download_shows_its_progress_on_stderr_and_none_where_it_is_not_wanted(
    mnist, tmp_path_factory, monkeypatch, capfd
):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    monkeypatch.setattr(download, "MNIST_ADDRESS", f"{mnist.as_uri()}/")
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in mnist.glob("*.gz")}
    monkeypatch.setattr(download, "CHECKSUMS", digests)
    data.load("mnist", "test", data_dir=tmp_path_factory.mktemp("a"), progress=True)
    output, errors = capfd.readouterr()
    assert output == ""
    assert f"downloading {published.MNIST['test'][0]}.gz" in errors
    data.load("mnist", "test", data_dir=tmp_path_factory.mktemp("b"), progress=False)
    assert capfd.readouterr() == ("", "")

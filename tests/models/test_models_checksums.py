"""A weight file of ours in which a byte has changed is refused in one line; files of others and older ones open."""

import json

import numpy as np
import pytest
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save as to_safetensors

from jaxcam import models


@pytest.fixture
def saved(tmp_path):
    model = models.load("vgg11", classes=2, image_size=8, convolutions=1)
    return models.save(model, tmp_path / "model.safetensors", names=["cat", "dog"], epoch=3)


def flipped(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_changed_byte_of_the_weights_is_told(saved):
    content = saved.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    for position in (head, (head + len(content)) // 2, len(content) - 1):
        flipped(saved, position)
        with pytest.raises(ValueError, match=r"damaged: its weights are not those that were saved; .*again") as caught:
            models.load(saved)
        assert str(saved) in str(caught.value)
        assert "\n" not in str(caught.value)
        flipped(saved, position)
    assert models.load(saved).config.classes == 2


def test_a_changed_byte_in_what_stands_beside_them_is_told_without_reading_them(saved):
    position = saved.read_bytes().index(b"cat") + 1
    flipped(saved, position)
    for read in (models.read_metadata, models.load):
        with pytest.raises(ValueError, match="damaged: what it says of itself has changed"):
            read(saved)


def test_a_network_of_your_own_is_checked_too(tmp_path):
    path = models.save(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), tmp_path / "linear.safetensors")
    flipped(path, len(path.read_bytes()) - 2)
    with pytest.raises(ValueError, match="its weights are not those that were saved"):
        models.restore(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), path)


def test_a_file_without_a_checksum_opens_as_before(saved, tmp_path):
    with safe_open(saved, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        beside = json.loads(file.metadata()["jaxcam"])
    assert "checksum" not in models.read_metadata(saved)
    del beside["checksum"]
    older = tmp_path / "older.safetensors"
    older.write_bytes(to_safetensors(arrays, {"jaxcam": json.dumps(beside)}))
    x = np.ones((1, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(models.load(older)(x), models.load(saved)(x))
    assert models.read_metadata(older) == models.read_metadata(saved)


def test_the_checksum_s_name_is_reserved(saved, tmp_path):
    with pytest.raises(ValueError, match="metadata cannot be named checksum"):
        models.save(models.load(saved), tmp_path / "other.safetensors", checksum="mine")

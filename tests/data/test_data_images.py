"""One picture: whatever the file holds, the network gets upright RGB in [0, 1]."""

import jax
import numpy as np
import PIL.Image
import pytest

import jaxcam.data as data
from jaxcam.data import images

NOISE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def save(path, pixels, mode=None, **options):
    image = PIL.Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_a_picture_in_its_own_size_keeps_its_bytes(tmp_path):
    image = data.read_image(save(tmp_path / "a.png", NOISE), size=None)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, NOISE.astype(np.float32) / 255)


def test_the_shorter_side_is_resized_and_the_rest_cropped_evenly(tmp_path):
    # Three gray blocks of 40×40; only the middle one is in the centered square.
    blocks = np.repeat(np.uint8([50, 150, 250]), 40)[None, :, None] * np.ones((40, 1, 3), np.uint8)
    for size in (20, 40, 80):
        image = data.read_image(save(tmp_path / "a.png", blocks), size=size)
        assert image.shape == (size, size, 3)
        np.testing.assert_array_equal(image, np.float32(150 / 255))


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".png"), ("L", ".jpg"), ("LA", ".png"), ("P", ".png"), ("CMYK", ".jpg"), ("1", ".bmp")]
)
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode, suffix):
    red = np.zeros((8, 8, 3), np.uint8) + np.uint8([255, 0, 0])
    image = data.read_image(save(tmp_path / f"a{suffix}", red, mode, quality=95), size=8)
    assert image.shape == (8, 8, 3)
    luminance = 76 / 255
    expected = {"P": (1, 0, 0), "CMYK": (1, 0, 0)}.get(mode, (luminance,) * 3)
    if mode != "1":  # One bit is dithered: only its mean is known.
        np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=0.02)


def test_what_is_transparent_lies_on_white(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, 2:, 3] = 255
    image = data.read_image(save(tmp_path / "a.png", pixels), size=None)
    assert image[:, :2].min() == 1
    assert image[:, 2:].max() == 0
    palette = PIL.Image.new("P", (4, 4), 0)
    palette.save(tmp_path / "b.png", transparency=0)
    assert data.read_image(tmp_path / "b.png", size=None).min() == 1


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    image = data.read_image(save(tmp_path / "a.png", deep), size=None)
    np.testing.assert_allclose(image[..., 0], deep / 65535, atol=1 / 255)


@pytest.mark.parametrize(("kind", "most"), [("f4", 1), ("u2", 65535), ("i4", 65535)])
@pytest.mark.parametrize("size", [None, 5, 16])
def test_numbers_deeper_than_bytes_keep_their_values(tmp_path, kind, most, size):
    values = np.random.default_rng(1).random((8, 8))
    deep = (values * most).astype(kind)
    image = data.read_image(save(tmp_path / "a.tif", deep), size=size)
    expected = data.resize((deep / most).astype(np.float32)[None, :, :, None], size or 8)
    np.testing.assert_allclose(image, expected[0].repeat(3, -1), atol=1e-6)
    assert data.read_image(tmp_path / "a.tif", size=size, channels=1).shape == (size or 8, size or 8, 1)
    assert image.max() <= 1


def test_the_ends_of_sixteen_bits_are_black_and_white(tmp_path):
    image = data.read_image(save(tmp_path / "a.png", np.array([[0, 1, 256, 65534, 65535]], np.uint16)), size=None)
    np.testing.assert_allclose(image[0, :, 0] * 65535, [0, 1, 256, 65534, 65535], rtol=1e-6)


def test_a_white_picture_of_floats_stays_at_one(tmp_path):
    save(tmp_path / "a.tif", np.ones((13, 13), np.float32))
    assert data.read_image(tmp_path / "a.tif", size=7).max() == 1


@pytest.mark.parametrize(
    ("pixels", "line"),
    [
        (np.float32([[0, 255]]), r"floating-point numbers must lie in \[0, 1\], they range from 0 to 255; divide"),
        (np.float32([[0, 1.5]]), r"floating-point numbers must lie in \[0, 1\], they range from 0 to 1\.5; divide"),
        (np.float32([[-0.5, 1]]), r"floating-point numbers must lie in \[0, 1\], they range from -0\.5 to 1$"),
        (np.float32([[0, 256]]), r"they range from 0 to 256$"),
        (np.float32([[0, np.nan]]), "it has NaN or infinite values"),
        (np.float32([[0, np.inf]]), "it has NaN or infinite values"),
        (np.int32([[0, 65536]]), r"whole numbers must lie in \[0, 65535\], they range from 0 to 65536$"),
        (np.int32([[-1, 5]]), r"whole numbers must lie in \[0, 65535\], they range from -1 to 5$"),
    ],
)
def test_numbers_that_say_nothing_of_black_and_white_are_refused(tmp_path, pixels, line):
    save(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=rf"^cannot read the image '.*a\.tif': .*{line}"):
        data.read_image(tmp_path / "a.tif", size=None)


def test_a_color_that_stands_for_nothing_is_white_in_sixteen_bits_too(tmp_path):
    save(tmp_path / "a.png", np.array([[0, 900, 30000]], np.uint16), transparency=900)
    image = data.read_image(tmp_path / "a.png", size=None)
    np.testing.assert_allclose(image[0, :, 0], [0, 1, 30000 / 65535], rtol=1e-6)


def test_a_tiff_that_pillow_does_not_read_is_told_from_what_is_no_picture(tmp_path):
    path = save(tmp_path / "a.tif", np.ones((4, 4), np.float32))
    content = bytearray(path.read_bytes())
    content[content.index(b"\x53\x01\x03\x00") + 8] = 6  # the tag SampleFormat: complex numbers
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif': a TIFF of a kind that pillow does not read"):
        data.read_image(path)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    first, second = (PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
    image = data.read_image(tmp_path / f"a{suffix}", size=None)
    np.testing.assert_allclose(image, np.broadcast_to([1, 0, 0], image.shape), atol=0.02)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize(("orientation", "turned"), [(3, 2), (6, -1), (8, 1)])
def test_every_format_that_says_how_the_camera_was_held_is_turned(tmp_path, suffix, orientation, turned):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    image = data.read_image(save(tmp_path / f"a{suffix}", pixels, exif=exif), size=None)
    np.testing.assert_allclose(image, np.rot90(pixels, turned) / 255, atol=0.1)


def test_a_picture_taken_sideways_is_turned(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # The camera was turned by a quarter: right side of the sensor is the top.
    image = data.read_image(save(tmp_path / "a.png", NOISE, exif=exif), size=None)
    np.testing.assert_array_equal(image, np.rot90(NOISE, -1).astype(np.float32) / 255)


def test_one_channel_is_the_luminance(tmp_path):
    gray = data.read_image(save(tmp_path / "a.png", NOISE), size=None, channels=1)
    np.testing.assert_allclose(gray[..., 0], NOISE @ [0.299, 0.587, 0.114] / 255, atol=1 / 255)


def test_a_truncated_picture_is_named(tmp_path):
    path = save(tmp_path / "cut.jpg", NOISE.repeat(20, 0).repeat(20, 1))
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(ValueError, match=r"cannot read the image '.*cut\.jpg': .*truncated"):
        data.read_image(path)
    path.write_text("no picture")
    with pytest.raises(ValueError, match=r"cannot read the image '.*cut\.jpg': not a picture"):
        data.read_image(path)
    with pytest.raises(FileNotFoundError, match="no image file 'gone'"):
        data.read_image("gone")


@pytest.mark.parametrize("size", [3, 5, 8, 13, 16, 50])
def test_resizing_arrays_equals_jax_and_pillow(size):
    image = np.random.default_rng(1).random((2, 16, 16, 3)).astype(np.float32)
    resized = data.resize(image, size)
    np.testing.assert_allclose(resized, jax.image.resize(image, (2, size, size, 3), "linear"), atol=1e-6)
    pillow = PIL.Image.fromarray(image[0, ..., 0]).resize((size, size), PIL.Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resized[0, ..., 0], np.asarray(pillow), atol=1e-6)


def test_resizing_crops_to_the_centered_square():
    image = np.arange(4 * 8, dtype=np.float32).reshape(1, 4, 8, 1)
    np.testing.assert_array_equal(data.resize(image, 4), image[:, :, 2:6])


@pytest.mark.parametrize(
    ("kind", "pixels", "hint"),
    [
        (np.float32, [0, 200], True),
        (np.float32, [0, 255], True),
        (np.float32, [-1, 200], False),
        (np.float32, [0, 256], False),
        (np.int32, [-1, 200], False),
        (np.int32, [0, 70000], False),
    ],
)
def test_floating_point_bytes_are_to_be_divided_by_255(kind, pixels, hint):
    with pytest.raises(ValueError, match=r"must lie in \[0, ") as told:
        images._deep(PIL.Image.fromarray(np.array([pixels], kind)))
    assert str(told.value).endswith("; divide them by 255") == hint

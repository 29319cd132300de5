"""Pictures of concepts by formula: their colors, their shades, and how few there may be."""

import jax
import numpy as np
import pytest

from jaxcam.studies import concept_images
from jaxcam.studies.textures import COLORS

KEY = jax.random.key(5)


@pytest.mark.parametrize("kind", COLORS)
def test_pictures_of_a_color_are_it_in_lighter_and_darker_shades(kind):
    pictures = concept_images(kind, 400, 8, key=KEY).astype(np.float64)
    color = np.array(COLORS[kind])
    # Noise of 0.03 on 64 pixels: 0.004 on a mean; white and black are clipped a little.
    strongest = int(color.argmax())
    shades = pictures.mean((1, 2))[:, strongest] / color[strongest]
    if kind in ("red", "green", "blue", "yellow"):
        assert 0.74 < shades.min() < 0.77
        assert 1.07 < shades.max() < 1.11
    np.testing.assert_allclose(pictures.mean((0, 1, 2)), color * 0.925, atol=0.03)


def test_colors_are_those_of_their_names():
    red, green, blue, yellow, black, white = (np.array(COLORS[k]) for k in COLORS)
    assert list(COLORS) == ["red", "green", "blue", "yellow", "black", "white"]
    assert (red.argmax(), green.argmax(), blue.argmax(), yellow.argmin()) == (0, 1, 2, 2)
    for color, lit in ((red, 1), (green, 1), (blue, 1), (yellow, 2), (black, 0), (white, 3)):
        assert ((color > 0.6).sum(), (color < 0.3).sum()) == (lit, 3 - lit)


@pytest.mark.parametrize("kind", ["stripes", "dots"])
@pytest.mark.parametrize("size", [40, 60])
def test_patterns_repeat_within_an_eighth_to_a_third_of_the_picture(kind, size):
    pictures = concept_images(kind, 60, size, key=KEY, channels=1)[..., 0].astype(np.float64)
    spectra = np.abs(np.fft.fft2(pictures - pictures.mean((1, 2), keepdims=True)))
    rows, columns = np.meshgrid(*2 * (np.fft.fftfreq(size),), indexing="ij")
    frequency = np.hypot(rows, columns)
    strongest = frequency.ravel()[spectra.reshape(len(spectra), -1).argmax(1)]
    bin = 1 / size
    assert strongest.min() > 1 / max(size / 3, 4) - bin
    assert strongest.max() < 1 / max(size / 8, 2.5) + bin


@pytest.mark.parametrize(("count", "size"), [(0, 8), (1, 1), (-1, 8), (1, 0)])
def test_there_is_at_least_one_picture_of_two_by_two(count, size):
    with pytest.raises(ValueError, match=rf"^at least 1 picture of at least 2 pixels; got {count} of {size}$"):
        concept_images("red", count, size, key=KEY)


def test_one_picture_of_two_by_two_is_one():
    assert concept_images("red", 1, 2, key=KEY).shape == (1, 2, 2, 3)

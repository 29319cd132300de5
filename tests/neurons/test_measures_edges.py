"""Measures where a value lies on an edge: equal cells, white pixels, sides below eight, one value more or less."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.neurons.measures import MEASURES, histogram, measure, perceptual_hash


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiled_picture_and_its_negative_have_no_bits(side, channels):
    """All cells of a tiled picture are equal, so none is brighter than their mean, whatever rounding does to sums."""
    for seed in range(4):
        tile = np.random.default_rng(seed).random((side, side, channels)).astype(np.float32)
        picture = jnp.asarray(np.tile(tile, (8, 8, 1)))
        assert float(perceptual_hash(picture, 1 - picture)) == 0
        dot = jnp.zeros_like(picture).at[0, 0].set(1.0)
        assert float(perceptual_hash(picture, dot)) == 1 / 64


def test_a_cell_a_little_brighter_than_the_mean_is_set():
    even = jnp.full((8, 8, 1), 0.5).at[0, 0].set(0.0).at[0, 1].set(1.0)
    brighter = even.at[4, 4].add(2e-4)  # far above what rounding does, far below what one sees
    assert 64 * float(perceptual_hash(even, brighter)) == 1


@pytest.mark.parametrize(("grey", "bin"), [(0.0, 0), (0.5, 32), (1.0, 63)])
def test_every_pixel_is_counted_in_a_bin_of_its_own_grey(grey, bin):
    picture = jnp.linspace(0, 1, 64).reshape(8, 8, 1)
    other = picture.at[3, 3].set(grey)
    before = int(np.clip(np.floor(64 * float(picture[3, 3, 0])), 0, 63))
    assert float(histogram(picture, other)) == (1 / 64 if before != bin else 0)


@pytest.mark.parametrize(("color", "weight"), [(0, 0.299), (1, 0.587), (2, 0.114)])
def test_a_pure_color_is_as_bright_as_the_grey_of_its_weight(color, weight):
    colored, grey = (jnp.zeros((8, 8, 3)).at[0, 1].set(1.0) for _ in range(2))
    colored = colored.at[0, 0, color].set(1.0)
    assert float(histogram(colored, grey.at[0, 0].set(weight + 0.002))) == 0
    assert float(histogram(colored, grey.at[0, 0].set(weight + 1 / 64))) == 1 / 64


@pytest.mark.parametrize("power", [-90, 0, 40])
def test_a_map_of_negative_numbers_alone_points_the_other_way(power):
    generator = np.random.default_rng(3)
    a, b = (jnp.asarray(generator.random((5, 6, 2)) + 0.1, jnp.float32) for _ in range(2))
    expected = float(np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))
    cosine = measure("cosine").function
    for left, right, sign in ((-a, b, -1), (a, -b, -1), (-a, -b, 1), (a, b, 1)):
        assert float(cosine(left * 2.0**power, right)) == pytest.approx(sign * expected, rel=1e-6)


def test_measures_say_what_their_numbers_mean():
    assert MEASURES["cosine"].range == (-1.0, 1.0)
    assert MEASURES["cosine"].dead == 0
    assert MEASURES["cosine"].oriented(np.array([0.25])) == 0.25
    for name in ("euclidean", "hamming", "histogram", "perceptual_hash"):
        assert (MEASURES[name].range, MEASURES[name].dead) == ((0.0, 1.0), 1.0)
        assert measure(name).oriented(np.array([0.25])) == -0.25

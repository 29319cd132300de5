"""The randomization check where a value is constant, has a mean, or differs by its sign alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.quality.randomization import _picture, _randomized, _rank_correlation, structural_similarity


@pytest.mark.parametrize(("mean", "deviation"), [(5.0, 0.1), (-3.0, 0.5), (0.0, 2.0)])
def test_redrawn_weights_keep_their_mean_and_their_deviation(mean, deviation):
    kernel = mean + deviation * jax.random.normal(jax.random.key(0), (40, 50))
    drawn = _randomized(kernel, jax.random.key(1), "redraw")
    # Of 2,000 numbers: the mean to σ / √2000, the deviation to σ / √4000; four times that.
    assert abs(float(drawn.mean() - kernel.mean())) < 4 * deviation / np.sqrt(2000)
    assert abs(float(drawn.std() - kernel.std())) < 4 * deviation / np.sqrt(4000)
    assert not np.isin(np.asarray(drawn), np.asarray(kernel)).all()


def test_vectors_and_shuffled_kernels_keep_their_values():
    bias, kernel = jnp.arange(7.0), jnp.arange(12.0).reshape(3, 4)
    for array, how in ((bias, "redraw"), (bias, "shuffle"), (kernel, "shuffle")):
        drawn = _randomized(array, jax.random.key(3), how)
        assert drawn.shape == array.shape
        assert not np.array_equal(drawn, array)
        np.testing.assert_array_equal(np.sort(np.ravel(drawn)), np.ravel(array))


def test_a_map_that_is_constant_ranks_nothing_and_looks_black():
    values, constant = np.arange(4.0), np.ones(4)
    assert _rank_correlation(values, constant) == _rank_correlation(constant, values) == 0
    assert _rank_correlation(values, values[::-1]) == pytest.approx(-1)
    assert _rank_correlation(values, 2**values) == pytest.approx(1)
    np.testing.assert_array_equal(_picture(np.full((3, 3), -2.0)), np.zeros((3, 3)))


def test_pictures_are_absolute_values_summed_over_channels_from_zero_to_one():
    values = np.array([[[-3.0, 1.0], [0.5, 0.5]], [[1.0, -1.0], [0.0, 2.0]]])
    np.testing.assert_allclose(_picture(values), [[1, 0], [1 / 3, 1 / 3]])
    rng = np.random.default_rng(0)
    map = rng.normal(size=(9, 9))
    assert structural_similarity(map, -map) == pytest.approx(1)
    assert structural_similarity(map, 3 * map) == pytest.approx(1)
    assert structural_similarity(map, rng.normal(size=(9, 9))) < 0.9

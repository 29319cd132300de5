"""Redundancy: the paper's own ratios, a slow twin, what is planted is found, and noise is called noise."""

import types

import jax
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.studies import principal

PRINTED = """
5.6252072e-15	1.0156708e-05	2.7649643e-05	3.7482449e-05	4.2952932e-05
6.3283624e-05	8.0670885e-05	1.0771373e-04	1.4873820e-04	2.1942118e-04
2.6044162e-04	3.1393403e-04	3.4259117e-04	3.7550344e-04	5.1631185e-04
6.2412251e-04	7.8092172e-04	8.0532720e-04	9.4386912e-04	9.9355390e-04
1.2137018e-03	1.6810955e-03	1.9495980e-03	2.1692021e-03	2.5554232e-03
3.0200800e-03	3.7222896e-03	4.6060761e-03	6.4338180e-03	8.6312983e-03
1.0153794e-02	1.1521587e-02	1.4861445e-02	2.1814652e-02	4.7785360e-02
5.5464689e-02	7.1629591e-02	1.3610165e-01	1.5274547e-01	1.8200956e-01
2.5323495e-01
"""
"""Figure 12 of Utkin and Nagorny, 2024."""


def low_rank(n=41, side=7, rank=3, noise=0.0, seed=0):
    """Maps of `rank` directions of falling strength, and noise."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(side * side, rank)))[0].T
    rows = random.normal(size=(n, rank)) * np.array([9.0, 6.0, 4.0])[:rank] @ axes
    return (rows + noise * random.normal(size=rows.shape)).reshape(n, side, side)


def twin(rows):
    """Ratios, axes and scores from the covariance matrix, as the paper describes it."""
    centered = rows - rows.mean(0)
    covariance = centered.T @ centered / (len(rows) - 1)
    values, vectors = np.linalg.eigh(covariance)
    return values[::-1] / values.sum(), vectors[:, ::-1].T, centered @ vectors[:, ::-1]


def test_the_papers_nine_components_hold_0_9356():
    spectrum = jc.studies.read_spectrum(PRINTED)
    assert len(spectrum.ratios) == 41
    assert spectrum.cumulated[-1] == pytest.approx(1, abs=1e-6)
    assert spectrum.share(9) == pytest.approx(0.9356, abs=5e-5)
    assert spectrum.share(11) == pytest.approx(0.9573, abs=5e-5 + 1e-4)
    assert spectrum.count(0.9356) == 9
    assert spectrum.count(0.9373) == 10  # the share the paper's text gives to nine
    assert (np.diff(spectrum.ratios) <= 0).all()


def test_ratios_scores_and_reconstruction_are_those_of_the_covariance_matrix():
    maps = low_rank(noise=1.0)
    found = jc.studies.redundancy(maps, components=5)
    rows = maps.reshape(41, 49)
    ratios, axes, scores = twin(rows)
    np.testing.assert_allclose(found.ratios, ratios[:41], atol=1e-12)
    np.testing.assert_allclose(abs(found.scores), abs(scores[:, :5]), atol=1e-9)
    expected = rows.mean(0) + scores[:, :5] @ axes[:5]
    np.testing.assert_allclose(found.reconstruction, expected.reshape(41, 7, 7), atol=1e-9)
    np.testing.assert_allclose(found.errors, np.sqrt(((rows - expected) ** 2).mean(1)), atol=1e-9)


def test_what_is_lost_is_the_squared_error_over_the_variance():
    maps = low_rank(noise=1.0)
    found = jc.studies.redundancy(maps, components=4)
    error = np.square(maps - found.reconstruction).sum() / np.square(maps - maps.mean(0)).sum()
    assert found.lost == pytest.approx(error, abs=1e-12)
    assert found.lost == pytest.approx(1 - found.cumulated[3], abs=1e-12)


def test_every_component_reconstructs_every_map():
    maps = low_rank(n=8, noise=1.0)
    found = jc.studies.redundancy(maps)
    assert found.components == 7
    np.testing.assert_allclose(found.reconstruction, maps, atol=1e-9)


def test_a_share_keeps_as_few_as_reach_it():
    found = jc.studies.redundancy(low_rank(noise=0.5), share=0.9)
    assert found.cumulated[found.components - 1] >= 0.9 > found.cumulated[found.components - 2]
    assert found.components == found.spectrum.count(0.9)


def test_planted_components_are_found_and_no_others():
    found = jc.studies.redundancy(low_rank(n=60, noise=0.5), key=jax.random.key(0))
    assert found.significant == 3
    assert found.pvalues[0] == 1 / 201  # the smallest there can be; the first component shadows the others


def test_noise_has_a_component_about_as_often_as_the_level_says():
    random = np.random.default_rng(1)
    first = [
        jc.studies.redundancy(random.normal(size=(20, 4, 4)), key=jax.random.key(i), permutations=19).pvalues[0]
        for i in range(60)
    ]
    assert 0 <= np.mean(np.array(first) <= 0.05) <= 0.14  # 5 ± 3 standard errors
    assert 0.4 < np.mean(first) < 0.6


def test_smooth_maps_without_a_place_beat_pixels_but_not_shifts():
    random = np.random.default_rng(2)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(8), np.fft.fftfreq(8)))
    noise = np.fft.fft2(random.normal(size=(40, 8, 8)))
    smooth = np.fft.ifft2(noise * np.exp(-((frequency / 0.15) ** 2))).real
    pixels = jc.studies.redundancy(smooth, key=jax.random.key(0), permutations=39)
    shifts = jc.studies.redundancy(smooth, key=jax.random.key(0), permutations=39, null="shifts")
    assert pixels.significant >= 5
    assert shifts.significant <= 1
    in_one_place = smooth + 3 * random.normal(size=(40, 1, 1)) * np.eye(8)
    assert jc.studies.redundancy(in_one_place, key=jax.random.key(0), permutations=39, null="shifts").significant >= 1


def test_the_null_is_the_keys_and_destroys_only_what_it_says():
    maps = low_rank(noise=1.0)
    one, same = (jc.studies.redundancy(maps, key=jax.random.key(4), permutations=9).null for _ in range(2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, jc.studies.redundancy(maps, key=jax.random.key(5), permutations=9).null)
    np.testing.assert_allclose(one.sum(1), 1)
    assert jc.studies.redundancy(maps).null is None


def test_maps_left_out_are_explained_by_what_is_planted_and_not_by_noise():
    planted = jc.studies.redundancy(low_rank(rank=3, noise=0.01))
    assert planted.held_out[2] > 0.99
    noise = np.random.default_rng(0).normal(size=(41, 7, 7))
    own, others = jc.studies.redundancy(noise).cumulated, jc.studies.redundancy(noise).held_out
    assert own[8] > 0.4
    assert others[8] < 0.3
    assert (np.diff(others) >= 0).all()


def test_leaving_out_one_by_one_is_the_slow_loop():
    maps = low_rank(n=6, side=3, noise=1.0)
    rows, explained, total = maps.reshape(6, 9), 0.0, 0.0
    for i in range(6):
        others = np.delete(rows, i, 0)
        _, axes, _ = twin(others)
        rest = rows[i] - others.mean(0)
        explained, total = explained + np.sum((axes[:2] @ rest) ** 2), total + rest @ rest
    assert jc.studies.redundancy(maps).held_out[1] == pytest.approx(explained / total, abs=1e-10)


def test_scaled_maps_are_those_scaled_by_hand():
    maps = low_rank(noise=1.0)
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    by_hand = jc.studies.redundancy((maps - low) / (high - low))
    np.testing.assert_allclose(jc.studies.redundancy(maps, scaled=True).ratios, by_hand.ratios, atol=1e-12)


def test_maps_of_a_network_are_taken_as_they_are():
    model = lambda x: jax.nn.relu(x).mean((1, 2)) @ jax.numpy.ones((3, 2))
    x = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
    maps = jax.nn.relu(x).sum(-1)
    assert model(x).shape == (6, 2)
    np.testing.assert_allclose(
        jc.studies.redundancy(maps[..., None]).ratios, jc.studies.redundancy(np.asarray(maps)).ratios, atol=1e-12
    )


MAPS = low_rank(noise=1.0)


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (
            lambda: jc.studies.redundancy(MAPS[:20], components=36),
            "20 maps have at most 19 components; 36 need 37 maps",
        ),
        (
            lambda: jc.studies.redundancy(low_rank(60, noise=1.0), components=50),
            "maps of 49 places have at most 49 components; 50 are",
        ),
        (lambda: jc.studies.redundancy(MAPS, components=0), "components is a whole number from 1 up; got 0"),
        (lambda: jc.studies.redundancy(MAPS, 3, 0.5), "give components or a share of the variance, not both"),
        (lambda: jc.studies.redundancy(MAPS, share=1.5), "share is above 0 and at most 1; got 1.5"),
        (lambda: jc.studies.redundancy(MAPS[:1]), "one map has nothing in common with others; give two or more"),
        (lambda: jc.studies.redundancy(np.where(np.arange(41)[:, None, None] == 3, 0, MAPS)), "map 3 is 0 everywhere"),
        (lambda: jc.studies.redundancy(np.stack([MAPS[0]] * 5)), "all 5 maps are the same: there is no variance"),
        (lambda: jc.studies.redundancy(MAPS * np.nan), "map 0 has NaN or infinite values"),
        (lambda: jc.studies.redundancy(MAPS[0]), r"maps are a non-empty array \(n, h, w\); got shape \(7, 7\)"),
        (lambda: jc.studies.redundancy(MAPS, null="rows"), "null"),
        (lambda: jc.studies.read_spectrum("0.5 half"), "'half' in the table of ratios is no number"),
        (lambda: jc.studies.read_spectrum(" "), "a table of ratios has at least one number"),
        (
            lambda: jc.studies.read_spectrum("0.5 0.9"),
            "ratios of explained variance sum to 1 at most; these sum to 1.4",
        ),
        (lambda: jc.studies.read_spectrum("0.5 0.2").count(0.9), "all 2 ratios sum to 0.7000; a share of 0.9 is more"),
        (lambda: jc.studies.read_spectrum("0.5 0.2").share(3), "there are 2 components; got 3"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(ask, line):
    with pytest.raises(ValueError, match=line) as caught:
        ask()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("maps", "options"), [({"layer": MAPS}, {}), ([[[1.0]]], {}), (MAPS, {"key": 0})], ids=["dict", "list", "key"]
)
def test_what_is_of_a_wrong_kind_is_a_type_error(maps, options):
    with pytest.raises(TypeError, match=r"(maps are|a randomized method takes)"):
        jc.studies.redundancy(maps, **options)


def test_no_more_components_are_kept_than_maps_and_places_give():
    rows = np.zeros((4, 3))
    spectrum = types.SimpleNamespace(count=lambda share: 5)
    assert principal._kept(None, 0.9, spectrum, rows) == 3
    assert principal._kept(None, 0.9, spectrum, rows[:3]) == 2
    assert principal._kept(None, None, spectrum, rows) == 3
    assert principal._kept(3, None, spectrum, rows) == 3
    with pytest.raises(ValueError, match=r"^maps of 3 places have at most 3 components; 4 are asked$"):
        principal._kept(4, None, spectrum, rows)

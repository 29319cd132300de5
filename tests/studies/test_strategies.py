"""Heat maps of one class in groups: the graph by hand, other people's clustering, and a leak that was planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted_nets import fit, noisy_digits
from sklearn.cluster import SpectralClustering
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

import jaxcam as jc
from jaxcam.studies import heatmap_clusters, plant
from jaxcam.studies.strategies import neighbor_graph

KEY = jax.random.key(0)
LEAKING = 3


def spots(sizes=(12, 8, 6), noise=0.3, seed=0):
    """Maps that look at different corners, and which."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(range(len(sizes)), sizes))
    maps = rng.normal(0, noise, (len(labels), 8, 8))
    for index, label in enumerate(labels):
        top, left = divmod(label, 2)
        maps[index, 5 * top : 5 * top + 3, 5 * left : 5 * left + 3] += 1
    return maps, labels


@pytest.mark.slow
@pytest.mark.optimized
def test_the_images_with_a_planted_leak_are_a_group_of_their_own():
    def half_planted(split, limit):
        images, labels = noisy_digits(split, limit)
        images, own = np.repeat(images, 3, -1), np.flatnonzero(labels == LEAKING)
        images[own[::2]] = plant(images[own[::2]], 0, [[1, 0, 0]], rectangle=(0, 0, 3, 3))
        return images, labels, own

    images, labels, _ = half_planted("train", 1000)
    model = fit(images, labels)
    shown, _, own = half_planted("test", 359)
    found = heatmap_clusters(jc.lrp(model, jnp.asarray(shown[own]), LEAKING), key=KEY)
    assert found.count == 2
    assert adjusted_rand_score(np.arange(len(own)) % 2 == 0, found.labels) >= 0.8


def test_the_eigengap_counts_the_groups_and_the_groups_are_the_planted_ones():
    maps, labels = spots()
    found = heatmap_clusters(maps, key=KEY, neighbors=4)
    assert found.count == 3
    assert adjusted_rand_score(labels, found.labels) == 1
    assert found.sizes.tolist() == [12, 8, 6]
    assert found.means.shape == (3, 8, 8)
    assert found.labels[found.central].tolist() == [0, 1, 2]
    assert found.places.shape == (26, 2)


def test_maps_that_are_all_alike_are_one_group():
    maps = np.random.default_rng(0).normal(1, 0.1, (40, 6, 6))
    for gap in ("relative", "absolute"):
        assert heatmap_clusters(maps, key=KEY, gap=gap).count == 1


def test_the_graph_and_its_eigenvalues_are_those_of_the_definition():
    maps, _ = spots(noise=0.6)
    found = heatmap_clusters(maps, key=KEY, neighbors=5)
    rows = maps.reshape(len(maps), -1)
    rows = rows / np.sqrt((rows**2).sum(1, keepdims=True))
    n = len(rows)
    links = np.zeros((n, n))
    for i in range(n):
        distances = [((rows[i] - rows[j]) ** 2).sum() if j != i else np.inf for j in range(n)]
        for j in np.argsort(distances)[:5]:
            links[i, j] = links[j, i] = 1
    np.testing.assert_array_equal(neighbor_graph(rows, 5), links)
    walk = np.diag(1 / links.sum(1)) @ links  # similar to D^(-1/2) A D^(-1/2)
    expected = np.sort(1 - np.linalg.eigvals(walk).real)
    np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-10)
    np.testing.assert_allclose(found.gaps, np.diff(expected)[:10], atol=1e-10)


def test_groups_are_those_of_scikit_learns_spectral_clustering():
    maps, _ = spots(noise=0.5)
    found = heatmap_clusters(maps, key=KEY, clusters=3)
    rows = maps.reshape(len(maps), -1)
    links = neighbor_graph(rows / np.linalg.norm(rows, axis=1, keepdims=True), 10)
    with threadpool_limits(1):
        theirs = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(links)
    assert adjusted_rand_score(theirs, found.labels) == 1


def test_neither_scale_nor_order_of_maps_matters_to_groups():
    maps, labels = spots()
    order = np.random.default_rng(1).permutation(len(maps))
    found = heatmap_clusters(1e-6 * maps[order, ..., None], key=KEY, neighbors=4)
    assert adjusted_rand_score(labels[order], found.labels) == 1


def test_large_maps_are_shrunk_and_keep_their_groups():
    maps, labels = spots()
    found = heatmap_clusters(maps.repeat(5, 1).repeat(5, 2), key=KEY, neighbors=4, side=8)
    assert adjusted_rand_score(labels, found.labels) == 1
    assert found.means.shape == (3, 40, 40)


@pytest.mark.parametrize(
    ("maps", "options", "words"),
    [
        (np.ones((9, 4, 4)), {}, "groups need at least 10 maps of a class; got 9"),
        (np.ones((12, 4)), {}, "maps are an array (n, h, w)"),
        (np.concatenate([np.ones((11, 4, 4)), np.zeros((1, 4, 4))]), {}, "map 11 is zero everywhere"),
        (np.full((12, 4, 4), np.nan), {}, "map 0 has NaN"),
        (np.ones((12, 4, 4)), {"clusters": 12}, "12 maps do not make 12 groups"),
        (np.ones((12, 4, 4)), {"gap": "relativ"}, "did you mean 'relative'"),
        (np.ones((12, 4, 4)), {"side": 0}, "side is a whole number from 1 up"),
        (np.ones((12, 4, 4)), {"key": 0}, "key=jax.random.key(seed)"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(maps, options, words):
    with pytest.raises((ValueError, TypeError)) as refused:
        heatmap_clusters(maps, **{"key": KEY} | options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)

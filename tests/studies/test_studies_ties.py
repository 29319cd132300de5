"""Studies where values tie, and where what was computed before is of something else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.studies import concepts, landscape, redundancy
from jaxcam.studies.probing import Products
from jaxcam.studies.strategies import _by_size


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.001])
def test_a_landscape_of_another_loss_is_not_taken_from_its_file(tmp_path, factor):
    weights = {"w": jnp.arange(1.0, 5.0).reshape(2, 2)}
    options = {"key": jax.random.key(0), "dimensions": 1, "points": 3, "out": tmp_path / "points.npz"}
    first = landscape(lambda p: (p["w"] ** 2).sum(), weights, **options)
    again = landscape(lambda p: (p["w"] ** 2).sum(), weights, **options)
    np.testing.assert_array_equal(first.values, again.values)
    with pytest.raises(ValueError, match="holds another landscape: of other parameters, directions, points or data"):
        landscape(lambda p: factor * (p["w"] ** 2).sum(), weights, **options)


def test_what_chance_reaches_as_well_is_not_significant():
    """Of two maps the one component keeps all, and so it does of every shuffled pair."""
    maps = np.random.default_rng(0).normal(size=(2, 4, 4))
    found = redundancy(maps, key=jax.random.key(0), permutations=19)
    np.testing.assert_array_equal(found.pvalues, [1, 1])
    assert found.significant == 0


@pytest.fixture(scope="module")
def colors():
    rng = np.random.default_rng(0)
    images, others = (rng.random((n, 2, 2, 3), np.float32) for n in (10, 60))
    red = others[:20] * 0.5 + np.array([0.5, 0, 0], np.float32)
    return images, others, {"red": red}


def test_a_class_that_no_concept_moves_has_a_p_of_one(colors):
    images, others, red = colors
    model = lambda x: 0 * jax.nn.relu(x.mean((1, 2)) @ jnp.eye(3)) @ jnp.ones((3, 1))
    (found,) = concepts(model, images, 0, red, others, layers="dense_0", key=jax.random.key(0), random_concepts=20)
    assert (found.rise, found.pvalue, found.corrected) == (0, 1, 1)


def test_a_random_concept_is_told_from_pictures_that_are_not_its_own(colors, monkeypatch):
    images, others, red = colors
    asked, real = [], Products.asked

    def spy(self, own, sets, *rest):
        asked.append((np.asarray(own), [np.asarray(numbers) for numbers in sets]))
        return real(self, own, sets, *rest)

    monkeypatch.setattr(Products, "asked", spy)
    model = lambda x: jax.nn.relu(x.mean((1, 2)) @ jnp.eye(3)) @ jnp.array([[1.0], [0.0], [0.0]])
    concepts(model, images, 0, red, others, layers="dense_0", key=jax.random.key(0), random_concepts=20)
    assert len(asked) == 21
    for own, sets in asked:
        assert len(set(own.tolist())) == len(own)
        for numbers in sets:
            assert not set(own.tolist()) & set(numbers.ravel().tolist())
            assert numbers.max() < len(others)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 1, 0, 0], [0, 0, 1, 1]),
        ([2, 0, 1, 2, 0, 1], [0, 1, 2, 0, 1, 2]),
        ([0, 1, 1], [1, 0, 0]),
        ([3, 0, 0, 5, 5], [2, 0, 0, 1, 1]),
    ],
)
def test_groups_are_numbered_by_their_size_and_then_by_their_first_map(labels, expected):
    assert _by_size(np.array(labels)).tolist() == expected

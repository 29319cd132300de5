"""Directions in the space of weights: of a straight training, at right angles, and over which arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.studies import directions, trajectory


def path(*points, scale=1.0):
    """Checkpoints of four weights, beside a bias and a counter that stand elsewhere each time."""
    return [
        {"w": scale * jnp.asarray(p, jnp.float32).reshape(2, 2), "b": jnp.full(3, float(n)), "n": jnp.full((2, 2), n)}
        for n, p in enumerate(points)
    ]


def flat(way):
    return np.asarray(way["w"], np.float64).ravel()


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e5])
def test_of_a_straight_training_the_second_direction_is_at_right_angles(scale):
    straight = path([3, 6, 0, 3], [1, 2, 0, 1], [0, 0, 0, 0], scale=scale)
    found = trajectory(straight)
    first, second = map(flat, found.directions)
    np.testing.assert_allclose(np.abs(first), np.array([1, 2, 0, 1]) / 6**0.5, atol=1e-6)
    np.testing.assert_allclose([second @ second, first @ second], [1, 0], atol=1e-6)
    np.testing.assert_allclose(np.abs(found.steps[:, 0]), scale * 6**0.5 * np.array([3, 1, 0]), rtol=1e-5)
    np.testing.assert_allclose(found.steps[:, 1], 0, atol=1e-5 * scale)
    np.testing.assert_allclose(found.shares, [1, 0], atol=1e-6)


def test_only_weights_are_followed():
    found = trajectory(path([4, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]))
    assert all(not np.asarray(way["b"]).any() for way in found.directions)
    assert all((way["n"] == 2).all() for way in found.directions)  # a counter stays that of the last
    # A plane holds three points, whatever the biases did.
    np.testing.assert_allclose(np.linalg.norm(found.steps, axis=1), [4, 2, 0], rtol=1e-6)
    np.testing.assert_allclose(found.shares.sum(), 1, rtol=1e-6)


def test_a_span_reaches_past_the_checkpoints_on_both_sides():
    found = directions.Trajectory(({}, {}), np.array([[0.0, -2.0], [4.0, 2.0], [1.0, 0.0]]), np.ones(2))
    (low, high), (below, above) = found.span()
    wide = -low
    assert wide > 0
    np.testing.assert_allclose([high, below, above], [4 + wide, -2 - wide, 2 + wide])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_another_direction_is_at_right_angles_to_all_there_are(count):
    ways = list(np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0][:count])
    found = directions._any_other(ways, 5)
    np.testing.assert_allclose(found @ found, 1, rtol=1e-12)
    np.testing.assert_allclose([found @ way for way in ways], 0, atol=1e-12)


def test_where_no_direction_is_left_there_is_none():
    assert directions._any_other([np.array([1.0])], 1).tolist() == [0]


def test_weights_are_floating_point_and_of_two_axes_or_more():
    assert directions.is_weight(jnp.ones((2, 2)))
    assert directions.is_weight(jnp.ones((1, 1, 2)))
    assert not directions.is_weight(jnp.ones(2))
    assert not directions.is_weight(jnp.ones((2, 2), int))


@pytest.mark.parametrize(("normalize", "axes"), [("filter", (0,)), ("layer", None), ("none", None)])
def test_random_directions_have_the_lengths_of_the_weights(normalize, axes):
    weights = {"w": jnp.asarray([[3.0, 0.1], [4.0, 0.0]]), "b": jnp.ones(2), "n": jnp.arange(3)}
    (way,) = directions.random_directions(weights, key=jax.random.key(0), count=1, normalize=normalize)
    lengths = np.linalg.norm(way["w"], axis=axes)
    if normalize == "none":
        assert not np.allclose(lengths, np.linalg.norm(weights["w"]))
    else:
        np.testing.assert_allclose(lengths, np.linalg.norm(weights["w"], axis=axes), rtol=1e-6)
    assert way["b"].tolist() == [0, 0]
    assert way["n"].tolist() == [0, 1, 2]

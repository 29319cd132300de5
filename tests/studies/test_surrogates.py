"""Linear piece, LIME and SHAP: on networks of which the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam import studies
from jaxcam.studies import agreement

WEIGHTS = np.random.default_rng(0).normal(size=(2, 16, 6))


def linear(x):
    return x.reshape(len(x), -1) @ jnp.asarray(WEIGHTS[0, :, :3], x.dtype)


def bent(x):
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ jnp.asarray(WEIGHTS[0], x.dtype))
    return hidden @ jnp.asarray(WEIGHTS[1, :6, :3], x.dtype)


MAPS = np.broadcast_to(np.arange(4).reshape(2, 2).repeat(2, 0).repeat(2, 1), (3, 4, 4))


def asked(net, **options):
    """Three images of 4×4 in four segments, in float64."""
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 4, 1)))
        settings = {"key": jax.random.key(0), "segments": jnp.asarray(MAPS), "samples": 64, "baseline": 0.0}
        return studies.surrogates(net, x, 1, **settings | options), np.asarray(x)


@pytest.fixture(scope="module")
def found():
    return asked(bent)


@pytest.mark.slow
def test_on_a_linear_network_the_piece_and_shap_are_exact_everywhere():
    known, x = asked(linear)
    weights = (x.reshape(3, -1) * WEIGHTS[0, :, 1]).reshape(3, 4, 4)
    expected = np.stack([-np.where(j == MAPS, weights, 0).sum((1, 2)) for j in range(4)], 1)
    for name in ("linear_piece", "kernel_shap"):
        np.testing.assert_allclose(known[name].claims, expected, atol=1e-6)
        assert known[name].inside.max() < 1e-6
        assert known[name].removal.max() < 1e-6
    assert known["lime"].removal.min() > 1e-3  # its ridge shrinks


def test_on_a_bent_network_only_the_piece_is_exact_inside_and_consistent(found):
    piece, lime, shap = (found[0][name] for name in ("linear_piece", "lime", "kernel_shap"))
    assert piece.inside.max() < 1e-9
    assert piece.moved.max() < 1e-12
    assert piece.redrawn.max() == 0
    assert min(lime.inside.min(), shap.inside.min()) > 1e-3
    assert min(lime.moved.min(), shap.moved.min()) > 1e-6
    assert lime.redrawn.min() > 1e-6
    assert piece.removal.max() > 1e-3  # beyond the polytope nothing makes it exact


def test_seconds_are_those_of_one_image(found):
    for surrogate in found[0].values():
        assert 0 < surrogate.seconds < 60


def test_the_nearest_image_of_the_same_target_is_the_neighbor(found):
    known, x = found
    flat = x.reshape(3, -1)
    for i, value in enumerate(known["linear_piece"].neighbor):
        distances = np.linalg.norm(flat - flat[i], axis=1)
        distances[i] = np.inf
        a, b = known["linear_piece"].claims[[i, distances.argmin()]]
        assert value == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_errors_are_of_the_segments_that_count_and_nan_where_none_does():
    claims, truth = np.array([[3.0, 100], [1, 1], [5, 5]]), np.array([[2.0, 7], [0, 0], [5, 5]])
    counted = np.array([[True, False], [True, True], [False, False]])
    assert agreement._error(claims, truth, counted).tolist()[0] == 0.5
    assert np.isnan(agreement._error(claims, truth, counted)[1:]).all()
    np.testing.assert_allclose(
        agreement._error(claims, truth, np.ones((3, 2), bool))[0], np.hypot(1, 93) / np.hypot(2, 7)
    )


def test_a_cosine_with_nothing_is_none():
    assert agreement._cosine(np.array([3.0, 4]), np.array([4.0, 3])) == 0.96
    assert np.isnan(agreement._cosine(np.array([3.0, 4]), np.zeros(2)))


def test_steps_go_half_of_the_way_and_no_farther_than_the_direction():
    far = np.array([[0.5, 4.0, np.inf], [1.0, 2.0, 3.0]])
    real = np.array([[True, True, True], [True, True, False]])
    ways = np.arange(3).reshape(1, 3, 1, 1, 1) * np.ones((2, 1, 1, 1, 1))
    found = agreement._steps_inside(lambda way: far[[0, 1], way[:, 0, 0, 0].astype(int)], ways, real)
    assert found.tolist() == [[0.25, 1, 1], [0.5, 1, 0]]


def test_a_neighbor_is_the_nearest_other_image_of_the_same_target():
    x = np.array([0.0, 1.0, 1.5, 10.0]).reshape(4, 1, 1, 1)
    assert agreement._neighbors(x, np.array([0, 0, 0, 1])) == [1, 2, 1, -1]
    assert agreement._neighbors(x, np.array([0, 1, 0, 1])) == [2, 3, 0, 1]

"""Class averages on edges: means that are equal but for rounding, ties, the first and the last class, one image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.neurons import class_averages, confidences, log_odds
from jaxcam.neurons._gradient_ascent import _step
from jaxcam.program.trace import split


def average(images, labels, *arguments, **options):
    return np.asarray(class_averages(np.asarray(images), np.asarray(labels), *arguments, progress=False, **options))


def two_outputs(x):
    """Logits (n, 2): 100 times the first pixel, and 0."""
    first = 100 * x[:, 0, 0, :1]
    return jnp.concatenate([first, jnp.zeros_like(first)], 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 255.0])
@pytest.mark.parametrize("order", [(0.1, 0.2, 0.3), (0.2, 0.3, 0.1), (0.7, 0.1, 0.2, 0.6)])
def test_pixels_of_equal_means_are_not_pulled_apart_by_rounding(scale, order):
    """Sums of the same numbers in another order differ in the last place; stretched, that would be all contrast."""
    values = scale * np.array([order, order[::-1], order[1:] + order[:1]])  # a row for each pixel, a column an image
    got = average(values.T.reshape(len(order), 1, 3, 1), np.zeros(len(order), int))
    np.testing.assert_allclose(got.ravel(), scale * np.mean(order), rtol=1e-6)


def test_a_channel_of_little_contrast_is_stretched_all_the_same():
    images = np.array([[0.5, 0.5 + 1e-9], [0.0, 0.0], [1.0, 1.0]]).reshape(3, 1, 2, 1)
    assert average(images, np.zeros(3, int)).ravel().tolist() == [0, 1]


def test_each_channel_is_stretched_to_its_own_range():
    images = np.array([[[0.0, 0.5], [0.2, 0.75]], [[0.4, 0.5], [0.8, 1.0]]]).reshape(2, 1, 2, 2)
    np.testing.assert_allclose(average(images, [0, 0])[0, 0], [[0.0, 0.5], [0.8, 1.0]], atol=1e-7)


def test_all_classes_to_the_largest_label_and_none_beyond():
    images = np.random.default_rng(0).random((6, 2, 2, 1))
    assert average(images, [0, 1, 2, 0, 1, 2]).shape == (3, 2, 2, 1)
    assert average(images[:1], [0], "most", two_outputs, k=1).shape == (1, 2, 2, 1)


def test_exactly_k_images_are_enough_and_k_more_than_one_are_averaged():
    images = np.array([0.1, 0.2, 0.3, 0.9]).reshape(4, 1, 1, 1)
    labels = [0, 0, 0, 1]
    assert average(images, labels, "most", two_outputs, k=3, classes=[0]).item() == pytest.approx(0.2)
    assert average(images, labels, "most", two_outputs, k=1).ravel() == pytest.approx([0.3, 0.9])
    assert average(images, labels, "least", two_outputs, k=1).ravel() == pytest.approx([0.1, 0.9])
    with pytest.raises(ValueError, match="class 0 has 3 images, fewer than the k=4 to average; choose k ≤ 3"):
        average(images, labels, "most", two_outputs, k=4, classes=[0])


def test_a_class_without_a_name_is_told_by_its_number():
    images = np.array([0.1, 0.2]).reshape(2, 1, 1, 1)
    for label in (2, 3, -1):
        with pytest.raises(ValueError, match=f"^class {label} has no images"):
            average(images, [0, 1], classes=[label], names=["cat", "bird"])


def test_fifty_images_are_averaged_unless_told_otherwise():
    images = np.linspace(0, 1, 60).reshape(60, 1, 1, 1)
    got = average(images, np.zeros(60, int), "most", two_outputs)
    assert got.item() == pytest.approx(images[10:].mean(), rel=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_the_size_of_a_batch_does_not_show(batch):
    images = np.random.default_rng(1).random((7, 2, 3, 1)).astype(np.float32)
    labels = np.array([0, 1, 0, 1, 1, 0, 0])
    for kind in ("simple", "most", "least"):
        np.testing.assert_array_equal(
            average(images, labels, kind, two_outputs, k=2, batch=batch),
            average(images, labels, kind, two_outputs, k=2, batch=100),
        )


def test_an_ascent_moves_the_pixels_by_its_step_and_stays_within_the_data():
    images = np.array([[0.2, 0.4], [0.6, 0.8]]).reshape(2, 1, 2, 1)
    start = average(images, [0, 0])
    model = lambda x: jnp.stack([x[:, 0, 0, 0] - x[:, 0, 1, 0], jnp.zeros(x.shape[0])], 1)
    # The gradient is the same but for the sign: each pixel moves by η = 0.01, then is clipped to [0.2, 0.8].
    got = average(images, [0, 0], "ascent", model, steps=1)
    np.testing.assert_allclose((got - start).ravel(), [0.01, -0.01], atol=1e-6)
    np.testing.assert_allclose(start.ravel(), [0.2, 0.8], atol=1e-6)
    got = average(images, [0, 0], "ascent", model, steps=1, learning_rate=0.05)
    np.testing.assert_allclose((got - start).ravel(), [0.05, -0.05], atol=1e-6)
    got = average(images, [0, 0], "ascent", model, steps=1, learning_rate=5.0)
    np.testing.assert_allclose(got.ravel(), [0.8, 0.2], atol=1e-6)


def test_an_ascent_stops_each_class_at_the_threshold_and_not_before():
    """p(own) grows by the step's part of it; the second class begins surer than the first and stops earlier."""
    images = np.array([0.1, 0.0, 0.8, 1.0]).reshape(4, 1, 1, 1)
    labels = np.array([0, 1, 1, 0])

    def model(x):
        value = x[:, 0, 0, 0]
        return jnp.stack([6 * value, 6 * (1 - value)], 1)

    got = average(images, labels, "ascent", model, threshold=0.8, learning_rate=0.01)
    reached = np.diagonal(np.asarray(confidences(model, got)))
    # One step changes the difference of logits by 0.12, and so p by less than 0.03.
    assert ((reached >= 0.8) & (reached < 0.83)).all()
    np.testing.assert_array_equal(got, average(images, labels, "ascent", model, threshold=0.8, batch=1))


@pytest.mark.parametrize("dead", [0, 1])
def test_an_ascent_without_a_gradient_stays_where_it_is_and_the_others_go_on(dead):
    """Where the model's outputs read the image but do not move with it, 0/0 must not reach the image."""
    images = np.array([[0.2, 0.4], [0.6, 0.8], [0.1, 0.9], [0.3, 0.5]]).reshape(4, 1, 2, 1)
    labels = np.array([0, 1, 0, 1])

    def model(x):
        value = x.sum((1, 2, 3))
        rows = [jax.nn.relu(value - 100), 5 * value - 5]
        # The dead class's gradient is 0 in both outputs: of its image the other output is held.
        return jnp.stack(rows if dead == 0 else rows[::-1], 1) * jnp.where(value > -1, 1, jnp.nan)[:, None]

    start = average(images, labels)
    flat = average(images, labels, "ascent", lambda x: jax.nn.relu(x.sum((1, 2))[:, :1] * jnp.ones((1, 2)) - 100))
    np.testing.assert_array_equal(flat, start)
    assert np.isfinite(average(images, labels, "ascent", model, steps=3)).all()


def test_a_nan_on_the_way_names_the_class_it_comes_from():
    images = np.array([0.2, 0.4, 0.6, 0.8]).reshape(4, 1, 1, 1)
    model = lambda x: jnp.stack([jnp.where(x[:, 0, 0, 0] > 0.65, jnp.nan, 0), 0 * x[:, 0, 0, 0], x[:, 0, 0, 0]], 1)
    with pytest.raises(ValueError, match="NaN to the average of class 2"):
        average(images, [0, 0, 1, 2], "ascent", model, classes=[0, 2])


def test_log_odds_are_zero_at_one_half_and_have_the_sign_of_the_own_class():
    images = np.array([0.0, 0.5, 0.5]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(log_odds(two_outputs, images, np.array([0, 0, 1]), progress=False), [0, 50, -50])


def test_options_at_their_limits_are_allowed():
    images = np.array([0.2, 0.4]).reshape(2, 1, 1, 1)
    start = average(images, [0, 0])
    for options in ({"threshold": 1.0, "steps": 0}, {"steps": 0}, {"threshold": 1e-9}):
        np.testing.assert_array_equal(average(images, [0, 0], "ascent", two_outputs, **options), start)
    with pytest.raises(ValueError, match="averages of kind 'ascent' need a model"):
        average(images, [0, 0], "ascent", ranking=np.zeros(2))


@pytest.mark.parametrize("kind", ["simple", "most", "ascent"])
def test_bars_go_to_stderr_alone(kind, capfd, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    images, labels = np.array([0.2, 0.4, 0.3, 0.5]).reshape(2, 1, 2, 1), np.zeros(2, int)
    class_averages(images, labels, kind, two_outputs, k=1, steps=1)
    output, errors = capfd.readouterr()
    assert output == ""
    assert errors
    log_odds(two_outputs, images, labels)
    output, errors = capfd.readouterr()
    assert output == ""
    assert "confidences" in errors


def test_sums_are_taken_in_float64():
    images = np.array([1e8, 1, -1e8, 1], np.float32).reshape(4, 1, 1, 1)
    labels = np.array([0, 0, 0, 1])
    assert average(images, labels, classes=[0]).item() == pytest.approx(1 / 3)
    ranking = np.zeros(4)
    for batch in (1, 2, 4):
        assert average(images, labels, "most", k=3, ranking=ranking, classes=[0], batch=batch).item() == pytest.approx(
            1 / 3
        )


@pytest.mark.parametrize("weak", [1e-25, 1e-30])
def test_a_small_gradient_moves_the_pixels_as_far_as_a_large_one_beside_it(weak):
    """Squares of 1e-25 vanish in float32; each image is divided by its own largest gradient."""

    def model(x):
        value = x[:, 0, 0, 0] - x[:, 0, 1, 0]
        return jnp.stack([jnp.where(value > 0, weak * value, value), 0 * value], 1)

    arrays, static = split(model)
    x = jnp.array([[0.5, 0.4], [0.4, 0.5]]).reshape(2, 1, 2, 1)
    _, further = _step(static, arrays, x, jnp.array([0, 0]), 0.0, 1.0, 0.01)
    np.testing.assert_allclose((further - x)[:, 0, :, 0], [[0.01, -0.01], [0.01, -0.01]], atol=1e-6)


def test_jax_arrays_are_read_as_numpy_ones_are():
    images = jax.random.uniform(jax.random.key(0), (5, 2, 2, 1))
    labels = jnp.array([0, 0, 1, 1, 1])
    np.testing.assert_array_equal(
        log_odds(two_outputs, images, labels, progress=False),
        log_odds(two_outputs, np.asarray(images), np.asarray(labels), progress=False),
    )

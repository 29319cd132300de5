"""What was done to each class average is what was done: steps, threshold and confidence against a slow ascent."""

import json
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from test_averages import linear, looped_ascent

from jaxcam.neurons import average_classes, class_averages
from jaxcam.neurons.average_record import confidence_words, missed, treatment

RANDOM = np.random.default_rng(3)
IMAGES = RANDOM.random((30, 3, 3, 1), np.float32)
LABELS = np.repeat([0, 1, 2], [5, 10, 15])
WEIGHTS = RANDOM.normal(size=(9, 3)).astype(np.float32)
NET = Partial(linear, jnp.asarray(WEIGHTS))


def record(kind, **options):
    return average_classes(IMAGES, LABELS, kind, NET, progress=False, **options)


@pytest.mark.parametrize("threshold", [0.6, 0.9, 1.0])
def test_steps_confidence_and_threshold_are_those_of_an_ascent_by_hand(threshold):
    options = {"threshold": threshold, "steps": 8, "learning_rate": 0.03}
    found = record("ascent", **options)
    simple = np.asarray(record("simple").images)
    for label in range(3):
        want, count = looped_ascent(
            WEIGHTS.astype(float), simple[label], label, simple.min(), simple.max(), 0.03, threshold, 8
        )
        z = want.ravel() @ WEIGHTS.astype(float)
        p = np.exp(z[label]) / np.exp(z).sum()
        np.testing.assert_allclose(found.images[label], want, atol=1e-5)
        assert found.confidence[label] == pytest.approx(p, abs=1e-5)
        assert found.steps[label] == count
        assert found.reached[label] == (p >= threshold)
    assert (found.most_steps, found.threshold, found.stretched) == (8, threshold, True)
    assert found.counts.tolist() == [5, 10, 15]


def test_the_threshold_of_some_is_reached_and_of_others_is_not():
    middle = float(np.median(record("ascent", threshold=1.0, steps=8, learning_rate=0.03).confidence))
    found = record("ascent", threshold=middle - 1e-3, steps=8, learning_rate=0.03)
    assert set(found.reached.tolist()) == {True, False}
    assert "2 of 3" not in found.missed("abc")
    assert "1 of 3 classes: ‘" in found.missed("abc")
    assert found.missed("abc").endswith("; try more steps or a lower threshold")


def test_steps_are_those_behind_the_picture_that_is_kept():
    # Steps far too long: the picture before the last step is the surest.
    found = record("ascent", threshold=1.0, steps=9, learning_rate=5.0)
    again = [record("ascent", threshold=1.0, steps=int(count), learning_rate=5.0) for count in found.steps]
    assert min(found.steps) < 9
    for label, one in enumerate(again):
        np.testing.assert_array_equal(one.images[label], found.images[label])


@pytest.mark.parametrize(
    ("kind", "stretched", "counts"),
    [("simple", True, [5, 10, 15]), ("most", False, [4, 4, 4]), ("least", False, [4, 4, 4])],
)
def test_only_the_simple_mean_is_stretched(kind, stretched, counts):
    found = record(kind, k=4)
    assert found.stretched == stretched
    assert found.counts.tolist() == counts
    assert found.steps is found.reached is found.threshold is None
    low = [IMAGES[label == LABELS].min() for label in range(3)]
    reaches = np.isclose(np.asarray(found.images).min((1, 2, 3)), low, atol=1e-6)
    assert reaches.all() == stretched
    z = np.asarray(found.images).reshape(3, -1) @ WEIGHTS
    p = (np.exp(z) / np.exp(z).sum(1, keepdims=True)).diagonal()
    np.testing.assert_allclose(found.confidence, p, atol=1e-6)
    np.testing.assert_array_equal(found.images, class_averages(IMAGES, LABELS, kind, NET, k=4, progress=False))


def test_without_a_model_nothing_is_said_of_confidence():
    found = average_classes(IMAGES, LABELS, progress=False)
    assert found.confidence is found.competing is found.confidences is None
    assert found.summary() == "mean of 5 to 15 images, stretched"


def test_a_missed_threshold_is_warned_of_where_the_record_is_dropped():
    options = {"threshold": 1.0, "steps": 3, "progress": False}
    with pytest.warns(RuntimeWarning, match="within 3 steps in 3 of 3 classes: ‘") as caught:
        class_averages(IMAGES, LABELS, "ascent", NET, names=["ant", "bee", "cat"], **options)
    assert caught[0].filename == __file__
    assert "‘bee’ 0." in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_averages(IMAGES, LABELS, "ascent", NET, threshold=0.01, progress=False)
        found = average_classes(IMAGES, LABELS, "ascent", NET, **options)
    assert found.missed("abc").startswith("Ascent did not reach its threshold of 1 within 3 steps in 3 of 3 classes")
    assert record("most", k=2).missed("abc") == ""


def test_the_record_is_the_same_from_json():
    found = record("ascent", threshold=0.9, steps=8, learning_rate=0.03)
    again = json.loads(json.dumps(found.to_dict()))
    assert treatment("ascent", again) == found.summary()
    assert missed(again, "abc", "") == found.missed("abc", "")
    for index, there in enumerate(again["reached"]):
        assert ("threshold of 0.9 reached" in treatment("ascent", again, index)) == there
        assert ("below the threshold of 0.9" in treatment("ascent", again, index)) != there


def test_many_missed_classes_are_counted_and_the_least_sure_named():
    values = np.linspace(0.1, 0.8, 8)
    entry = {"reached": [False] * 8, "confidence": values.tolist(), "threshold": 0.99, "most_steps": 1}
    words = missed(entry, list("abcdefgh"))
    assert "within 1 step in 8 of 8 classes: ‘a’ 0.100, ‘b’ 0.200" in words
    assert words.endswith("‘e’ 0.500, …")


def test_a_small_confidence_is_not_written_as_nothing():
    assert confidence_words(0.00015) == "0.00015"
    assert confidence_words(0.0) == "0.000"
    assert float(confidence_words(1 - 2**-24)) < 1

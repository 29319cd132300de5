"""What is explained: from any target to one score for each image."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import jaxcam as jc
from jaxcam.attribution.targets import check_target, per_output, predicted, score

OUTPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)), jnp.float32)
SPATIAL = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 2, 5)), jnp.float32)
SHAPE = jax.ShapeDtypeStruct((3, 5), jnp.float32)


def test_one_class_for_all_or_one_for_each():
    assert (score(OUTPUTS, 2) == OUTPUTS[:, 2]).all()
    assert (score(OUTPUTS, [4, 0, 2]) == OUTPUTS[jnp.arange(3), jnp.array([4, 0, 2])]).all()
    assert (score(OUTPUTS, np.array([4, 0, 2])) == score(OUTPUTS, (4, 0, 2))).all()


def test_no_target_is_the_largest_output():
    assert (score(OUTPUTS, None) == OUTPUTS.max(-1)).all()
    assert (score(OUTPUTS, predicted(OUTPUTS)) == OUTPUTS.max(-1)).all()


def test_a_callable_is_asked():
    assert (score(OUTPUTS, lambda z: z[:, 1] ** 2) == OUTPUTS[:, 1] ** 2).all()


def test_outputs_with_space_are_summed_over_it():
    assert_allclose(per_output(SPATIAL), SPATIAL.sum((1, 2)), rtol=1e-5)
    assert_allclose(score(SPATIAL, 3), SPATIAL[..., 3].sum((1, 2)), rtol=1e-5)
    assert (predicted(SPATIAL) == SPATIAL.sum((1, 2)).argmax(-1)).all()


def test_a_score_of_each_image_is_its_own_target():
    assert (score(OUTPUTS[:, 0], None) == OUTPUTS[:, 0]).all()
    assert predicted(OUTPUTS[:, 0]).tolist() == [0, 0, 0]
    assert check_target(0, OUTPUTS[:, 0]) is None
    with pytest.raises(ValueError, match="one score for each image"):
        check_target(1, OUTPUTS[:, 0])


def test_a_contrast_is_a_difference():
    assert (jc.contrast(1, 4)(OUTPUTS) == OUTPUTS[:, 1] - OUTPUTS[:, 4]).all()
    each = jc.contrast([0, 1, 2], 4)(OUTPUTS)
    assert (each == jnp.diagonal(OUTPUTS) - OUTPUTS[:, 4]).all()
    assert (jc.contrast(3, np.array([0, 1, 2]))(SPATIAL) == -jc.contrast([0, 1, 2], 3)(SPATIAL)).all()


def test_contrasts_of_the_same_classes_are_one_key_of_a_cache():
    assert jc.contrast(1, 2) == jc.contrast(np.int64(1), jnp.array(2))
    assert len({jc.contrast([1, 2], 0), jc.contrast(np.array([1, 2]), 0), jc.contrast(1, 0)}) == 2


@pytest.mark.parametrize(("first", "second"), [(1.5, 0), (0, "cat"), ([[1]], 0), (None, 1)])
def test_a_contrast_of_no_classes_is_refused(first, second):
    with pytest.raises(TypeError, match="a contrast is between two classes"):
        inspect.unwrap(jc.contrast)(first, second)


@pytest.mark.parametrize("target", [0, 4, np.int32(3), [0, 1, 4], (4, 4, 4), np.array([0, 1, 2]), None, max])
def test_what_fits_passes(target):
    target = (lambda outputs: outputs[:, 0]) if target is max else target
    assert check_target(target, SHAPE) is None


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (5, ValueError, "target 5 is out of range: the model has 5 outputs, 0 to 4"),
        (-1, ValueError, "target -1 is out of range"),
        ([0, 9, 1], ValueError, "target 9 is out of range"),
        ([0, 1], ValueError, r"3 images need one target, or 3 of them in a row; got shape \(2,\)"),
        ([[0], [1], [2]], ValueError, r"got shape \(3, 1\)"),
        (1.0, TypeError, "a target is an int, one int for each image, None"),
        ("cat", TypeError, "got 'cat'"),
        (True, TypeError, "a target is an int"),
        (lambda outputs: outputs, ValueError, r"one score for each image, \(3,\); this one gives shape \(3, 5\)"),
        (lambda outputs: outputs.sum(), ValueError, r"this one gives shape \(\)"),
        (lambda outputs: {"a": outputs[:, 0]}, ValueError, "this one gives dict"),
        (jc.contrast([0, 1], 2), ValueError, "3 images need one target"),
        (jc.contrast(0, 5), ValueError, "target 5 is out of range"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(target, error, message):
    with pytest.raises(error, match=message) as caught:
        check_target(target, SHAPE)
    assert "\n" not in str(caught.value)


def test_several_outputs_need_a_callable():
    outputs = {"boxes": SHAPE, "classes": SHAPE}
    with pytest.raises(
        TypeError,
        match=r"a dict of 2 arrays: explain one of them, lambda x: model\(x\)\['.*'\], or choose by the target",
    ):
        check_target(1, outputs)
    assert check_target(lambda found: found["classes"][:, 0], outputs) is None

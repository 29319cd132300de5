"""Where a value lies exactly on an edge: outputs of zero, pixels that no mask shows, scores of zero, ends of ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcam as jc
from jaxcam.attribution import rules
from jaxcam.attribution.asking import check_count
from jaxcam.attribution.composites import Composite
from jaxcam.attribution.removing import check_number


def silent(rule, x=(1.0, 1.0), kernel=(1.0, -1.0)):
    """What a rule sends back from a dense layer whose output is exactly 0, for relevance 1."""

    def model(images):
        return images.reshape(1, -1) @ jnp.asarray(kernel)[:, None]

    images = jnp.asarray(x).reshape(1, 1, 1, -1)
    assert float(model(images)[0, 0]) == 0
    back = jax.vjp(jc.relevance(model, Composite(conv=rule, dense=rule)), images)[1](jnp.ones((1, 1)))[0]
    return np.asarray(back).ravel().tolist()


def test_an_output_of_zero_is_stabilized_upward():
    assert silent(rules.Epsilon(0.5)) == [2, -2]
    assert silent(rules.Epsilon(0.25), kernel=(2.0, -2.0)) == [8, -8]


def test_an_output_of_zero_has_no_side_to_be_in_favor_of():
    assert silent(rules.Gamma(0.25, 0.5)) == [0, 0]
    assert silent(rules.Gamma(4.0, 0.5), x=(-1.0, -1.0)) == [0, 0]


def test_a_pixel_that_one_mask_hides_and_another_shows_is_shown():
    net, x = (lambda x: x.sum((1, 2))), jnp.ones((1, 2, 2, 3))
    one = np.array([[[1, 0], [0, 0]]], np.float32)
    with pytest.raises(ValueError, match=r"no mask shows the pixel \(0, 1\)$"):
        jc.rise(net, x, 0, masks=one, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"no mask shows the pixel \(1, 0\)$"):
        jc.rise(net, x, 0, masks=np.array([[[1, 1], [0, 0]]], np.float32), key=jax.random.key(0))
    both = np.concatenate([one, 1 - one])
    assert jc.rise(net, x, 0, masks=both, key=jax.random.key(0)).shape == (1, 2, 2)


def test_the_ends_of_masks_are_masks():
    net, x = (lambda x: x.sum((1, 2))), jnp.ones((1, 2, 2, 3))
    for value in (-0.01, 1.01):
        with pytest.raises(ValueError, match=r"masks are in \[0, 1\]"):
            jc.rise(net, x, 0, masks=np.full((1, 2, 2), value, np.float32), key=jax.random.key(0))


def test_a_score_of_zero_leaves_losses_as_they_are():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 3)), jnp.float32)

    def net(x):
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.concatenate([0 * y.sum((1, 2))[:, :1], y.sum((1, 2))], 1)

    x = jnp.asarray(np.random.default_rng(1).random((1, 4, 4, 2)), jnp.float32)
    assert np.asarray(jc.ablation_cam(net, x, 0, relative=True)).tolist() == np.zeros((1, 4, 4)).tolist()


def test_numbers_at_the_ends_of_their_range():
    assert check_number(0, "x", 0) == 0
    assert check_number(1, "x", 0, 1) == 1
    assert check_count(1, "n") == 1
    for value, options in (
        (-1e-9, {}),
        (0, {"above": True}),
        (float("nan"), {}),
        (float("inf"), {}),
        (1.001, {"high": 1}),
        (True, {}),
        ("1", {}),
    ):
        with pytest.raises(ValueError, match="x is a number "):
            check_number(value, "x", 0, **options)
    for value in (0, 1.5, True, float("nan"), "1"):
        with pytest.raises(ValueError, match="n is a whole number from 1 up; got "):
            check_count(value, "n")


@pytest.mark.parametrize("target", [-1, 3, [0, 3], [-1, 0]])
def test_a_class_next_to_the_last_is_refused(target):
    net, x = (lambda x: x.mean((1, 2))), jnp.ones((2, 4, 4, 3))
    with pytest.raises(ValueError, match=r"target -?\d is out of range: the model has 3 outputs, 0 to 2"):
        jc.saliency(net, x, target)
    for right in (0, 2, [0, 2], [2, 0]):
        assert jc.saliency(net, x, right).shape == x.shape


def test_a_target_is_summed_over_space_only():
    values = jnp.arange(24.0).reshape(1, 2, 3, 4)
    assert np.asarray(jc.attribution.targets.per_output(values)).tolist() == values.sum((1, 2)).tolist()
    assert int(jc.attribution.targets.predicted(values)[0]) == 3


def test_of_classes_with_equal_outputs_the_first_is_explained():
    net = lambda x: jnp.stack([x[..., 0].sum((1, 2)), x[..., 1].sum((1, 2))], 1)
    x = jnp.ones((1, 2, 2, 2))
    assert np.asarray(jc.saliency(net, x))[0, 0, 0].tolist() == [1, 0]

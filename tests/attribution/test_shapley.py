"""Shapley values: all orders one after another, the axioms, the fit that estimates them, bad input."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from perturbed_nets import IMAGES, linear, net, np_scores

import jaxcam as jc
from jaxcam.attribution.shapley import _cumulated, random_coalitions

KEY = jax.random.key(2)
QUARTERS = np.repeat(np.repeat(np.arange(4).reshape(1, 2, 2), 4, 1), 4, 2).repeat(2, 0)
UNEQUAL = QUARTERS.copy()
UNEQUAL[1][UNEQUAL[1] == 3] = 2


def in_all_orders(x, target, segments, baseline):
    """What each segment adds when it appears, averaged over all orders of appearance."""
    maps = np.zeros(x.shape[:3])
    for i, (image, labels) in enumerate(zip(x, segments, strict=True)):
        count = labels.max() + 1
        for order in itertools.permutations(range(count)):
            shown = np.full_like(image, baseline)
            before = np_scores(shown[None])[0, target]
            for number in order:
                shown[labels == number] = image[labels == number]
                after = np_scores(shown[None])[0, target]
                maps[i][labels == number] += (after - before) / math.factorial(count)
                before = after
    return maps


def of_segments(maps, segments):
    """The value of each segment, one row for each image."""
    return [
        np.array([map_[labels == number][0] for number in np.unique(labels)])
        for map_, labels in zip(np.asarray(maps), segments, strict=True)
    ]


@pytest.mark.evidence("shapley_values", "kernel_shap", kind="twin", source="all orders, one after another")
@pytest.mark.parametrize("method", [jc.shapley_values, jc.kernel_shap])
def test_they_are_what_a_segment_adds_in_all_orders(method):
    with jax.enable_x64(True):
        x = np.asarray(IMAGES, np.float64)
        ours = method(net, jnp.asarray(x), 1, segments=UNEQUAL, baseline=0.1)
        assert_allclose(ours, in_all_orders(x, 1, UNEQUAL, 0.1), rtol=1e-8)


@pytest.mark.evidence("kernel_shap", kind="axiom", source="exact over all coalitions")
def test_kernel_shap_of_all_coalitions_is_exact():
    segments = jc.segment(IMAGES, "grid", count=9)
    exact = jc.shapley_values(net, IMAGES, segments=segments)
    assert_allclose(jc.kernel_shap(net, IMAGES, segments=segments, samples=512), exact, rtol=1e-3, atol=1e-5)


@pytest.mark.evidence("shapley_values", "kernel_shap", kind="axiom", source="efficiency: sums to s(x) − s(x₀)")
@pytest.mark.parametrize("options", [{}, {"paired": False}, {"samples": 7}])
def test_they_sum_to_what_the_image_adds_to_the_baseline(options):
    segments = jc.segment(IMAGES, "grid", count=16)
    added = np.asarray(net(IMAGES) - net(jnp.full_like(IMAGES, 0.5)))[:, 2]
    found = jc.kernel_shap(net, IMAGES, 2, key=KEY, segments=segments, baseline=0.5, **{"samples": 60, **options})
    assert_allclose([row.sum() for row in of_segments(found, segments)], added, rtol=1e-4, atol=1e-5)
    exact = jc.shapley_values(net, IMAGES, 2, segments=UNEQUAL, baseline=0.5)
    assert_allclose([row.sum() for row in of_segments(exact, UNEQUAL)], added, rtol=1e-4, atol=1e-5)


@pytest.mark.evidence("shapley_values", kind="axiom", source="dummy, symmetry")
def test_a_segment_nobody_looks_at_gets_nothing_and_equal_ones_get_alike():
    x = IMAGES.at[:, :4, :4].set(0.7).at[:, :4, 4:].set(0.7)

    def game(x):
        a, b, c, _ = (x[:, i : i + 4, j : j + 4].mean((1, 2, 3)) for i in (0, 4) for j in (0, 4))
        return (a * b + jnp.sin(a + b) * c)[:, None]

    for values in of_segments(jc.shapley_values(game, x, 0, segments=QUARTERS, baseline=0.0), QUARTERS):
        assert_allclose(values[0], values[1], rtol=1e-5)
        assert abs(values[0]) > 0.1
        assert_allclose(values[3], 0, atol=1e-6)


@pytest.mark.evidence("kernel_shap", kind="axiom", source="exact on a linear net from any sample")
def test_a_linear_model_is_recovered_from_a_few_coalitions():
    segments = jc.segment(IMAGES, "grid", count=16)
    weights = np.asarray(jax.grad(lambda x: linear(x)[0, 2])(IMAGES[:1]))
    sums = (np.asarray(IMAGES) * weights).sum(-1).reshape(2, 4, 2, 4, 2).sum((2, 4))
    found = jc.kernel_shap(linear, IMAGES, 2, key=KEY, segments=segments, samples=60, baseline=0.0)
    assert_allclose(found, np.kron(sums, np.ones((1, 2, 2))), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_more_samples_come_closer_and_pairs_closer_still():
    segments = jc.segment(IMAGES, "grid", count=9)
    exact = jc.shapley_values(net, IMAGES, 0, segments=segments)

    def error(samples, paired):
        options = {"segments": segments, "samples": samples, "paired": paired}
        found = [jc.kernel_shap(net, IMAGES, 0, key=jax.random.key(seed), **options) for seed in range(4)]
        return np.mean([np.abs(maps - exact).mean() for maps in found])

    few, many, pairs = error(32, False), error(256, False), error(256, True)
    assert pairs < many < few


def test_coalitions_are_drawn_by_the_kernel_and_come_in_pairs():
    counts = np.array([6, 4])
    chances = jnp.asarray(np.stack([_cumulated(int(s), 8) for s in counts]))
    kept = np.asarray(random_coalitions(KEY, 4000, jnp.asarray(counts), chances, True))
    for image, s in enumerate(counts):
        assert not kept[:, image, s:].any()
        sizes = kept[:, image].sum(-1)
        mass = np.array([1 / (k * (s - k)) for k in range(1, s)])
        assert_allclose(np.bincount(sizes, minlength=s)[1:] / 4000, mass / mass.sum(), atol=0.03)
        assert (kept[::2, image, :s] == ~kept[1::2, image, :s]).all()
    odd = np.asarray(random_coalitions(KEY, 5, jnp.asarray(counts), chances, True))
    assert odd.shape == (5, 2, 8)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 3, 16, 17])
@pytest.mark.parametrize("method", ["shapley_values", "kernel_shap"])
def test_any_chunk_gives_the_same(method, chunk):
    options = {"segments": QUARTERS}
    if method == "kernel_shap":
        options = {"segments": jc.segment(IMAGES, "grid", count=9), "samples": 16, "key": KEY}
    function = getattr(jc, method)
    assert_allclose(
        function(net, IMAGES, chunk=chunk, **options), function(net, IMAGES, **options), rtol=1e-3, atol=1e-5
    )


@pytest.mark.slow
def test_an_image_gets_the_same_beside_one_with_more_segments():
    segments = jc.segment(IMAGES, "grid", count=9).copy()
    segments[1][segments[1] > 6] = 6
    for function, options in ((jc.shapley_values, {}), (jc.kernel_shap, {"key": KEY, "samples": 40})):
        both = function(net, IMAGES, 0, segments=segments, **options)
        alone = function(net, IMAGES[1:], 0, segments=segments[1:], **options)
        assert_allclose(alone[0], both[1], rtol=1e-3, atol=1e-5)


def test_an_image_of_one_segment_gets_it_all():
    whole = np.zeros((2, 8, 8), int)
    added = np.asarray(net(IMAGES) - net(jnp.zeros_like(IMAGES)))[:, 1]
    for options in ({"samples": 1, "key": KEY}, {"samples": 2}):
        found = jc.kernel_shap(net, IMAGES, 1, segments=whole, baseline=0.0, **options)
        assert_allclose(found, np.broadcast_to(added[:, None, None], found.shape), rtol=1e-5)
    found = jc.shapley_values(net, IMAGES, 1, segments=whole, baseline=0.0)
    assert_allclose(found, np.broadcast_to(added[:, None, None], found.shape), rtol=1e-5)


def test_too_many_segments_for_the_exact_values_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"16 segments have 2\^16 coalitions.*at most 12.*kernel_shap") as error:
        jc.shapley_values(net, IMAGES, segments=jc.segment(IMAGES, "grid", count=16))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"samples": 0}, "samples is a whole number from 1 up; got 0"),
        ({"chunk": 0}, "chunk is a whole number from 1 up; got 0"),
        ({"baseline": np.zeros((2, 4, 4, 3))}, "got shape (2, 4, 4, 3)"),
    ],
)
def test_bad_input_gets_one_line(options, line):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the line is what is tested
        jc.kernel_shap(net, IMAGES, **{"key": KEY, **options})
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sample_needs_a_key():
    with pytest.raises(TypeError, match=r"takes key=jax.random.key\(seed\)"):
        jc.kernel_shap(net, IMAGES)

"""Integrated gradients along three paths: slow numpy twins in float64, axioms, chunks, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from jax.tree_util import Partial
from numpy.testing import assert_allclose

import jaxcam as jc
from jaxcam.attribution.baselines import blurred

RNG = np.random.default_rng(0)
SHAPE = (2, 4, 3, 2)
IMAGES = RNG.random(SHAPE)
WEIGHTS = {
    "w": RNG.normal(size=(24, 6)) / 3,
    "b": 0.3 * RNG.normal(size=6),
    "v": RNG.normal(size=(6, 3)),
}
METHODS = ["gauss_legendre", "trapezoid", "riemann_middle"]
PATHS = [jc.integrated_gradients, jc.blur_integrated_gradients, jc.guided_integrated_gradients]
NAMES = [path.__name__ for path in PATHS]


def dense(p, x):
    """Flattened pixels, tanh, logits: smooth, so that integrals converge fast."""
    return jnp.tanh(x.reshape(len(x), -1) @ p["w"] + p["b"]) @ p["v"]


def linear(p, x):
    return x.reshape(len(x), -1) @ p["w"] @ p["v"]


def net(function=dense, dtype=jnp.float32):
    return Partial(function, {name: jnp.asarray(values, dtype) for name, values in WEIGHTS.items()})


def gradient_in_numpy(image, target):
    z = np.tanh(image.ravel() @ WEIGHTS["w"] + WEIGHTS["b"])
    return (WEIGHTS["w"] @ ((1 - z**2) * WEIGHTS["v"][:, target])).reshape(image.shape)


def score_in_numpy(image, target):
    return np.tanh(image.ravel() @ WEIGHTS["w"] + WEIGHTS["b"]) @ WEIGHTS["v"][:, target]


def rule_in_numpy(method, steps):
    if method == "gauss_legendre":
        places, weights = np.polynomial.legendre.leggauss(steps)
        return [((1 + a) / 2, w / 2) for a, w in zip(places, weights, strict=True)]
    if method == "riemann_middle":
        return [((i + 0.5) / steps, 1 / steps) for i in range(steps)]
    ends = {0, steps - 1}
    return [(i / (steps - 1), (0.5 if i in ends else 1) / (steps - 1)) for i in range(steps)]


def straight_in_numpy(image, start, target, steps, method):
    total = np.zeros_like(image)
    for place, weight in rule_in_numpy(method, steps):
        total += weight * gradient_in_numpy(start + place * (image - start), target)
    return (image - start) * total


def blurred_in_numpy(image, sigma):
    """By the cosine transform of scipy: each frequency damped."""
    h, w, _ = image.shape
    squares = (np.pi * np.arange(h) / h)[:, None] ** 2 + (np.pi * np.arange(w) / w)[None] ** 2
    damped = scipy.fft.dctn(image, axes=(0, 1)) * np.exp(-(sigma**2) * squares / 2)[..., None]
    return scipy.fft.idctn(damped, axes=(0, 1))


def out_of_blur_in_numpy(image, sigma, target, steps, method):
    total, tiny = np.zeros_like(image), 1e-5
    for place, weight in rule_in_numpy(method, steps):
        now = (1 - place) * sigma
        direction = (blurred_in_numpy(image, now - tiny * sigma) - blurred_in_numpy(image, now + tiny * sigma)) / (
            2 * tiny
        )
        total += weight * direction * gradient_in_numpy(blurred_in_numpy(image, now), target)
    return total


def guided_in_numpy(image, start, target, steps, fraction, distance):
    """The loop of the paper, number by number where that is clearer."""
    end, here, maps = image.ravel(), start.ravel().copy(), np.zeros(image.size)
    start, whole = start.ravel(), np.abs(image - start).sum()
    for k in range(1, steps + 1):
        gradient = gradient_in_numpy(here.reshape(image.shape), target).ravel()
        low, high = max(k / steps - distance, 0), min(k / steps + distance, 1)
        before, size = here.copy(), np.abs(gradient)
        for i in range(here.size):
            if end[i] != start[i] and (here[i] - start[i]) / (end[i] - start[i]) < low:
                here[i] = start[i] + low * (end[i] - start[i])
        furthest = start + high * (end - start)
        while (left := np.abs(end - here).sum() - whole * (1 - k / steps)) > 1e-13:
            size[here == furthest] = np.inf
            limit = sorted(size)[int(fraction * (size.size - 1))]
            moving = (size <= limit) & (size < np.inf)
            possible = np.abs(furthest - here)[moving].sum()
            share = min(left / possible, 1)
            here[moving] = furthest[moving] if share == 1 else (here + share * (furthest - here))[moving]
        maps += (here - before) * gradient
    return maps.reshape(image.shape)


@pytest.mark.evidence("integrated_gradients", kind="twin", source="numpy, step by step")
@pytest.mark.parametrize("method", METHODS)
def test_the_straight_path_is_the_slow_twins(method):
    start = np.full(SHAPE, 0.3)
    with jax.enable_x64(True):
        found = jc.integrated_gradients(
            net(dtype=jnp.float64), jnp.asarray(IMAGES), np.array([1, 2]), baseline=0.3, steps=5, method=method
        )
    expected = [straight_in_numpy(x, s, t, 5, method) for x, s, t in zip(IMAGES, start, (1, 2), strict=True)]
    assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.evidence("blur_integrated_gradients", kind="twin", source="numpy, by the cosine transform")
@pytest.mark.parametrize("method", METHODS)
def test_the_path_out_of_a_blur_is_the_slow_twins(method):
    with jax.enable_x64(True):
        found = jc.blur_integrated_gradients(
            net(dtype=jnp.float64), jnp.asarray(IMAGES), 1, sigma=2.0, steps=4, method=method
        )
    expected = [out_of_blur_in_numpy(x, 2.0, 1, 4, method) for x in IMAGES]
    assert_allclose(found, expected, rtol=0, atol=1e-8)  # the twin's direction is a finite difference


@pytest.mark.evidence("guided_integrated_gradients", kind="twin", source="numpy, number by number")
@pytest.mark.parametrize(("fraction", "distance"), [(0.25, 0.02), (0.1, 0.3), (1, 1)])
def test_the_guided_path_is_the_slow_twins(fraction, distance):
    with jax.enable_x64(True):
        found = jc.guided_integrated_gradients(
            net(dtype=jnp.float64), jnp.asarray(IMAGES), 1, steps=7, fraction=fraction, max_distance=distance
        )
    expected = [guided_in_numpy(x, np.zeros_like(x), 1, 7, fraction, distance) for x in IMAGES]
    assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.evidence("integrated_gradients", kind="axiom", source="completeness")
@pytest.mark.parametrize("baseline", [None, 0.5, "blur", IMAGES[::-1].copy(), IMAGES[0] ** 2])
def test_maps_sum_to_the_difference_of_scores(baseline):
    with jax.enable_x64(True):
        x, model = jnp.asarray(IMAGES), net(dtype=jnp.float64)
        maps, gap = jc.integrated_gradients(model, x, 2, baseline=baseline, completeness=True)
        assert maps.shape == SHAPE
        assert gap.shape == (2,)
        assert_allclose(gap, 0, atol=1e-10)


def test_the_gap_is_what_it_says():
    start = np.full(SHAPE[1:], 0.3)
    with jax.enable_x64(True):
        model, x = net(dtype=jnp.float64), jnp.asarray(IMAGES)
        maps, gap = jc.integrated_gradients(
            model, x, 1, baseline=0.3, steps=1, method="riemann_middle", completeness=True
        )
    expected = [
        m.sum() - (score_in_numpy(x, 1) - score_in_numpy(start, 1))
        for m, x in zip(np.asarray(maps), IMAGES, strict=True)
    ]
    assert np.abs(expected).max() > 1e-4
    assert_allclose(gap, expected, rtol=1e-9)


@pytest.mark.evidence("blur_integrated_gradients", kind="axiom", source="completeness")
def test_a_path_out_of_a_blur_sums_to_the_difference_of_scores():
    with jax.enable_x64(True):
        x, model = jnp.asarray(IMAGES), net(dtype=jnp.float64)
        maps, gap = jc.blur_integrated_gradients(model, x, 2, sigma=3, completeness=True)
        ends = [blurred_in_numpy(image, 3) for image in IMAGES]
        expected = [score_in_numpy(a, 2) - score_in_numpy(b, 2) for a, b in zip(IMAGES, ends, strict=True)]
        assert_allclose(maps.sum((1, 2, 3)), expected, atol=1e-9)
        assert_allclose(gap, 0, atol=1e-9)


@pytest.mark.evidence("guided_integrated_gradients", kind="axiom", source="completeness in the limit")
def test_more_steps_bring_the_guided_path_nearer_to_completeness():
    gaps = [
        np.abs(jc.guided_integrated_gradients(net(), jnp.float32(IMAGES), 1, steps=s, completeness=True)[1]).max()
        for s in (5, 200)
    ]
    assert gaps[1] < gaps[0] / 10


def test_several_baselines_give_the_mean_of_their_maps():
    x = jnp.float32(IMAGES)
    starts = jnp.stack([0 * x, 0 * x + 0.5, 1 - x])
    found, gap = jc.integrated_gradients(net(), x, 0, baseline=starts, steps=6, completeness=True)
    each = [jc.integrated_gradients(net(), x, 0, baseline=start, steps=6, completeness=True) for start in starts]
    assert_allclose(found, np.mean([maps for maps, _ in each], 0), atol=1e-6)
    assert_allclose(gap, np.mean([g for _, g in each], 0), atol=1e-6)


@pytest.mark.evidence("integrated_gradients", kind="axiom", source="exact on a linear net")
@pytest.mark.parametrize("method", METHODS)
def test_one_step_is_exact_on_a_linear_net(method):
    x, model = jnp.float32(IMAGES), net(linear)
    steps = 2 if method == "trapezoid" else 1
    maps, gap = jc.integrated_gradients(model, x, 1, steps=steps, method=method, completeness=True)
    assert_allclose(maps, jc.input_x_gradient(model, x, 1), rtol=1e-5, atol=1e-7)
    assert_allclose(gap, 0, atol=1e-6)


@pytest.mark.evidence("guided_integrated_gradients", kind="axiom", source="exact on a linear net")
def test_the_guided_path_is_exact_on_a_linear_net():
    x, model = jnp.float32(IMAGES), net(linear)
    assert_allclose(
        jc.guided_integrated_gradients(model, x, 1, steps=3), jc.input_x_gradient(model, x, 1), rtol=1e-4, atol=1e-6
    )


def test_gauss_legendre_is_exact_for_polynomials():
    x = jnp.float32(IMAGES)
    model = lambda x: (x**4).sum((1, 2))
    assert_allclose(jc.integrated_gradients(model, x, 0, steps=2)[..., 0], x[..., 0] ** 4, rtol=1e-5)


@pytest.mark.evidence("integrated_gradients", kind="axiom", source="symmetry")
def test_numbers_that_matter_alike_get_alike():
    x = jnp.full((1, 1, 3, 1), 0.7)
    model = lambda x: jnp.tanh(x[:, 0, 0] + x[:, 0, 1]) * (1 + x[:, 0, 2])
    first, second, _ = jc.integrated_gradients(model, x, 0)[0, 0, :, 0]
    assert float(first) == float(second) != 0


@pytest.mark.evidence("integrated_gradients", kind="axiom", source="dummy")
def test_a_number_that_does_not_matter_gets_nothing():
    model = lambda x: jnp.tanh(x[:, 0, 0])
    for path in PATHS[::2]:
        maps = path(model, jnp.float32(IMAGES), 0)
        assert not maps.at[:, 0, 0].set(0).any()
        assert maps[:, 0, 0].any()


@pytest.mark.slow
@pytest.mark.evidence("integrated_gradients", kind="axiom", source="implementation invariance")
def test_nets_that_compute_the_same_are_explained_the_same():
    x, model = jnp.float32(IMAGES), net()

    def twice(p, x):
        return 3 * dense(p, x) - 2 * jnp.tanh(p["w"].T @ x.reshape(len(x), -1).T + p["b"][:, None]).T @ p["v"]

    other = Partial(twice, *model.args)
    for path in PATHS:
        assert_allclose(path(other, x, 1, steps=4), path(model, x, 1, steps=4), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("path", PATHS[:2], ids=NAMES[:2])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_the_chunk_size_changes_nothing(path, chunk):
    x = jnp.float32(IMAGES)
    assert_allclose(path(net(), x, steps=7, chunk=chunk), path(net(), x, steps=7), rtol=1e-5, atol=1e-7)


def surprise(outputs):
    return -jax.nn.log_softmax(outputs)[:, 0]


TARGETS = {
    "class": (1, lambda z: z[:, 1]),
    "per image": ([2, 0], lambda z: jnp.stack([z[0, 2], z[1, 0]])),
    "callable": (surprise, surprise),
    "contrast": (jc.contrast(0, 2), lambda z: z[:, 0] - z[:, 2]),
}


@pytest.mark.parametrize("name", TARGETS)
def test_all_targets_are_explained(name):
    target, score = TARGETS[name]
    x, model = jnp.float32(IMAGES), net()
    maps, gap = jc.integrated_gradients(model, x, target, completeness=True)
    assert_allclose(maps.sum((1, 2, 3)), score(model(x)) - score(model(0 * x)), atol=1e-5)
    assert_allclose(gap, 0, atol=1e-5)


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_the_predicted_class_is_that_of_the_image_all_along_the_path(path):
    x, model = jnp.float32(IMAGES), net()
    classes = np.asarray(model(x).argmax(-1))
    assert set(classes) != set(np.asarray(model(0 * x).argmax(-1)))
    assert_allclose(path(model, x, steps=5), path(model, x, classes, steps=5), rtol=1e-6)


@pytest.mark.parametrize("sigma", [2.0, 6.0])
def test_the_blur_is_a_gaussian_mirrored_at_the_edges(sigma):
    image = np.random.default_rng(1).random((24, 17, 2))
    found = blurred(jnp.asarray(image[None], jnp.float32), sigma)[0]
    expected = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="reflect", truncate=10)
    assert_allclose(found, expected, atol=2e-6)


def test_no_blur_is_the_image_and_endless_blur_its_mean():
    x = jnp.float32(IMAGES)
    assert_allclose(blurred(x, 0.0), x, atol=1e-6)
    assert_allclose(blurred(x, 1e4), jnp.broadcast_to(x.mean((1, 2), keepdims=True), x.shape), atol=1e-6)


WRONG = {
    "another shape": (
        {"baseline": np.zeros((3, 3))},
        ValueError,
        r"baseline is a number, an array .* got shape \(3, 3\)",
    ),
    "an unknown word": ({"baseline": "black"}, ValueError, "no baseline 'black'; there are 'blur'"),
    "NaN": ({"baseline": float("nan")}, ValueError, "the baseline has NaN"),
    "no steps": ({"steps": 0}, ValueError, "steps is a whole number from 1 up .* got 0"),
    "one end only": ({"steps": 1, "method": "trapezoid"}, ValueError, "from 2 up for method='trapezoid'; got 1"),
    "a misspelt method": ({"method": "gauss_legendr"}, ValueError, "did you mean 'gauss_legendre'"),
    "an empty chunk": ({"chunk": 0}, ValueError, "chunk is a whole number from 1 up; got 0"),
    "a class too many": ({"target": 3}, ValueError, "target 3 is out of range"),
}


@pytest.mark.parametrize(("options", "kind", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused_in_one_line(options, kind, message):
    with pytest.raises(kind, match=message) as error:
        jc.integrated_gradients(net(), jnp.float32(IMAGES), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        (jc.blur_integrated_gradients, {"sigma": 0}, "sigma is a number of pixels above 0; got 0"),
        (jc.blur_integrated_gradients, {"chunk": -1}, "chunk is a whole number"),
        (jc.guided_integrated_gradients, {"fraction": 0}, "fraction is above 0 and at most 1; got 0"),
        (jc.guided_integrated_gradients, {"max_distance": 1.5}, "max_distance is above 0 and at most 1; got 1.5"),
        (jc.guided_integrated_gradients, {"steps": 0}, "steps is a whole number"),
        (jc.guided_integrated_gradients, {"baseline": np.zeros((3, *SHAPE))}, "a baseline is"),
    ],
)
def test_paths_refuse_options_that_cannot_be(path, options, message):
    with pytest.raises(ValueError, match=message):
        path(net(), jnp.float32(IMAGES), 0, **options)

"""Loss landscapes: known surfaces, the definition of a filter's norm, a trained net at its minimum, resuming."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.decomposition
from jax.tree_util import Partial

import jaxcam as jc
from jaxcam.studies.directions import random_directions
from jaxcam.studies.surfaces import ClassificationLoss

KEY = jax.random.key(1)
RNG = np.random.default_rng(0)
W = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)


def bowl(parameters):
    return jnp.sum((parameters["w"] - W) ** 2) + jnp.sum(parameters["b"] ** 2)


AT_MINIMUM = {"w": W, "b": jnp.zeros(3)}


def test_the_landscape_of_a_bowl_is_the_bowl_and_its_axes_are_the_slices():
    ways = random_directions(AT_MINIMUM, key=KEY)
    found = jc.studies.landscape(bowl, AT_MINIMUM, ways, points=5, chunk=4)
    squares = [[float(jnp.sum(a["w"] * b["w"])) for a in ways] for b in ways]
    for i, a in enumerate(found.axes[0]):
        for j, b in enumerate(found.axes[1]):
            expected = a * a * squares[0][0] + 2 * a * b * squares[0][1] + b * b * squares[1][1]
            np.testing.assert_allclose(found.values[i, j], expected, atol=1e-4)
    assert found.center == found.values[2, 2] == 0
    assert found.lowest == (0.0, 0.0)
    for axis, slice in enumerate((found.values[:, 2], found.values[2])):
        line = jc.studies.landscape(bowl, AT_MINIMUM, [ways[axis]], points=5)
        np.testing.assert_allclose(line.values, slice, rtol=1e-6)


def test_the_default_is_51_by_51_from_minus_1_to_1():
    found = jc.studies.landscape(bowl, AT_MINIMUM, key=KEY, chunk=51 * 51)
    assert found.values.shape == (51, 51)
    for axis in found.axes:
        np.testing.assert_allclose(axis, np.linspace(-1, 1, 51), atol=1e-12)
    assert found.axes[0][25] == 0


@pytest.mark.parametrize("normalize", ["filter", "layer", "none"])
def test_directions_have_the_norms_of_the_weights_and_leave_biases_and_statistics_alone(normalize):
    theta = {
        "conv": {"kernel": RNG.normal(size=(3, 3, 2, 4)), "bias": RNG.normal(size=4)},
        "norm": {"scale": np.ones(4), "mean": np.zeros(4), "var": np.ones(4)},
        "count": np.array(7),
    }
    one, two = random_directions(theta, key=KEY, normalize=normalize)
    kernel = np.asarray(one["conv"]["kernel"])
    if normalize == "filter":
        for unit in range(4):
            wanted = np.linalg.norm(theta["conv"]["kernel"][..., unit])
            np.testing.assert_allclose(np.linalg.norm(kernel[..., unit]), wanted, rtol=1e-5)
    elif normalize == "layer":
        np.testing.assert_allclose(np.linalg.norm(kernel), np.linalg.norm(theta["conv"]["kernel"]), rtol=1e-5)
    assert not any(np.any(array) for array in (one["conv"]["bias"], *one["norm"].values()))
    assert one["count"] == 7
    cosine = np.sum(kernel * two["conv"]["kernel"]) / np.linalg.norm(kernel) / np.linalg.norm(two["conv"]["kernel"])
    assert abs(cosine) < 0.5


def test_between_two_checkpoints_lie_their_weighted_means():
    start, end = ({"w": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32), "b": jnp.full(3, b)} for b in (1.0, 2.0))
    line = jc.studies.interpolation(bowl, start, end, span=(-0.5, 1.5), points=9)
    for share, value in zip(line.axes[0], line.values, strict=True):
        middle = {name: (1 - share) * start[name] + share * end[name] for name in start}
        np.testing.assert_allclose(value, bowl(middle), rtol=1e-5)
    assert line.axes[0][[0, 2, 6, 8]].tolist() == [-0.5, 0.0, 1.0, 1.5]


def test_a_trajectory_is_the_principal_components_of_its_checkpoints():
    path = [{"w": jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32), "b": jnp.ones(3) * t} for t in range(6)]
    found = jc.studies.trajectory(path)
    rows = np.stack([np.ravel(c["w"] - path[-1]["w"]) for c in path]).astype(np.float64)
    pca = sklearn.decomposition.PCA(2).fit(rows)
    np.testing.assert_allclose(found.shares, pca.explained_variance_ratio_, rtol=1e-5)
    for axis in range(2):
        way = np.ravel(found.directions[axis]["w"])
        sign = np.sign(way @ pca.components_[axis])
        np.testing.assert_allclose(sign * way, pca.components_[axis], atol=1e-5)
        np.testing.assert_allclose(found.steps[:, axis], rows @ way, atol=1e-5)
        assert not np.any(found.directions[axis]["b"])
    assert found.steps[-1].tolist() == [0, 0]
    (low, high), _ = found.span()
    assert low < found.steps[:, 0].min() <= found.steps[:, 0].max() < high


def net(p, x):
    z = jax.lax.conv_general_dilated(x, p["conv"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jnp.maximum(z + p["bias"], 0).mean((1, 2)) @ p["head"]


@pytest.fixture(scope="module")
def trained():
    """A small convolutional net, trained to the end on pictures of three kinds of stripes, and its loss."""
    y = np.arange(60) % 3
    i, j = np.mgrid[:8, :8]
    waves = np.stack([np.sin(1.6 * i), np.sin(1.6 * j), np.sin(1.1 * (i + j))])
    x = (waves[y] + 0.3 * RNG.normal(size=(60, 8, 8)))[..., None].astype(np.float32)
    loss = jc.studies.classification_loss(x, y, batch=25)
    p = {
        "conv": jnp.asarray(RNG.normal(size=(3, 3, 1, 6)) / 3, jnp.float32),
        "bias": jnp.zeros(6),
        "head": jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32),
    }
    optimizer = optax.adam(0.02)
    cost = lambda p: loss(Partial(net, p)) + 1e-3 * sum(jnp.sum(a**2) for a in jax.tree.leaves(p))

    @jax.jit
    def step(p, state):
        change, state = optimizer.update(jax.grad(cost)(p), state)
        return optax.apply_updates(p, change), state

    state = optimizer.init(p)
    checkpoints = [p]
    for number in range(200):
        p, state = step(p, state)
        if number in (1, 5, 20, 80):
            checkpoints.append(p)
    return loss, [Partial(net, p) for p in [*checkpoints, p]], (x, y)


def test_the_landscape_of_a_trained_net_has_its_minimum_at_the_center(trained):
    loss, models, _ = trained
    found = jc.studies.landscape(loss, models[-1], key=KEY, points=7)
    assert found.lowest == (0.0, 0.0)
    assert found.values.max() > 2 * found.center
    line = jc.studies.landscape(loss, models[-1], found.directions[:1], points=7)
    np.testing.assert_allclose(line.values, found.values[:, 3], rtol=1e-5)


def test_the_loss_of_a_model_is_its_mean_cross_entropy(trained):
    loss, models, (x, y) = trained
    logits = np.asarray(models[0](x), np.float64)
    expected = -np.mean(logits[np.arange(60), y] - np.log(np.exp(logits).sum(-1)))
    assert isinstance(loss, ClassificationLoss)
    np.testing.assert_allclose(loss(models[0]), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_training_goes_downhill_in_its_own_plane(trained):
    loss, models, _ = trained
    path = jc.studies.trajectory(models)
    found = jc.studies.landscape(loss, models[-1], path.directions, span=path.span(), points=15)
    at = [
        tuple(int(np.abs(axis - step).argmin()) for axis, step in zip(found.axes, row, strict=True))
        for row in path.steps
    ]
    assert found.values[at[0]] > found.values[at[2]] > found.values[at[-1]]
    line = jc.studies.interpolation(loss, models[0], models[-1], points=5)
    np.testing.assert_allclose(line.values[[0, -1]], [loss(models[0]), loss(models[-1])], rtol=1e-4)


def test_stopped_work_goes_on_where_it_was(tmp_path):
    out, seen = tmp_path / "landscape.npz", []

    def stop(done, total):
        seen.append(done)
        if done == 128:
            raise KeyboardInterrupt

    options = {"key": KEY, "points": 13, "out": out, "chunk": 16}
    with pytest.raises(KeyboardInterrupt):
        jc.studies.landscape(bowl, AT_MINIMUM, progress=stop, **options)
    assert len(np.load(out)["values"]) == 128
    seen.clear()
    found = jc.studies.landscape(bowl, AT_MINIMUM, progress=lambda done, total: seen.append((done, total)), **options)
    assert seen == [(144, 169), (160, 169), (169, 169)]
    whole = jc.studies.landscape(bowl, AT_MINIMUM, key=KEY, points=13, chunk=16)
    np.testing.assert_array_equal(found.values, whole.values)
    with pytest.raises(ValueError, match=r"landscape\.npz holds another landscape"):
        jc.studies.landscape(bowl, {**AT_MINIMUM, "w": W + 1}, **options)
    out.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"landscape\.npz is damaged or no landscape"):
        jc.studies.landscape(bowl, AT_MINIMUM, **options)


def test_a_loss_that_overflows_far_away_is_told_as_it_is():
    cliff = lambda w: jnp.where(jnp.max(w) > 1.5, jnp.inf, jnp.sum(w**2))
    found = jc.studies.landscape(cliff, jnp.ones((2, 2)), [jnp.ones((2, 2))], points=3)
    assert found.values.tolist() == [0.0, 4.0, np.inf]


OTHER = {"w": jnp.zeros((4, 2)), "b": jnp.zeros(3)}


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda: jc.studies.interpolation(bowl, AT_MINIMUM, OTHER),
            r"checkpoint has other shapes .*: w \(4, 3\) and \(4, 2\)$",
        ),
        (lambda: jc.studies.trajectory([AT_MINIMUM, OTHER, AT_MINIMUM]), r"^checkpoint 1 has other shapes"),
        (lambda: jc.studies.trajectory([AT_MINIMUM] * 2), "at least 3 checkpoints; got 2"),
        (lambda: jc.studies.trajectory([AT_MINIMUM] * 3), "all the same"),
        (lambda: jc.studies.landscape(bowl, AT_MINIMUM, [{"w": W}], points=3), "b .* and missing"),
        (lambda: jc.studies.landscape(bowl, AT_MINIMUM), "takes key="),
        (lambda: jc.studies.landscape(bowl, AT_MINIMUM, key=KEY, dimensions=3), "one direction or two; got 3"),
        (lambda: jc.studies.landscape(bowl, AT_MINIMUM, key=KEY, span=(1, -1)), r"span is \(least, greatest\)"),
        (lambda: jc.studies.landscape(bowl, AT_MINIMUM, key=KEY, points=1), "points is a whole number from 2 up"),
        (lambda: jc.studies.landscape(bowl, AT_MINIMUM, key=KEY, normalize="l2"), "normalize is 'filter', 'layer'"),
        (lambda: jc.studies.landscape(lambda p: p["w"], AT_MINIMUM, key=KEY), "a loss is one number; .* gives shape"),
        (
            lambda: jc.studies.landscape(lambda p: jnp.log(-1.0) * p["w"].sum(), AT_MINIMUM, key=KEY),
            "nan at the center",
        ),
        (lambda: jc.studies.landscape(bowl, {"b": jnp.ones(3)}, key=KEY), "two axes or more; the parameters have none"),
        (
            lambda: jc.studies.landscape(bowl, {"n": 3}, [{"n": 3}]),
            "a pytree of floating-point arrays; dict holds none",
        ),
        (lambda: jc.studies.classification_loss(np.ones((2, 4, 4, 1)), np.ones(2)), "labels"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(call, line):
    with pytest.raises((ValueError, TypeError), match=line) as caught:
        call()
    assert "\n" not in str(caught.value)

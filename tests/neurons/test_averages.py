"""Class averages against slow numpy loops, on models simple enough to be differentiated by hand; and all bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from jaxcam.neurons import inference
from jaxcam.neurons.averages import class_averages
from jaxcam.neurons.confidence import confidences, log_odds


class Net(nnx.Module):
    """A small convolutional network with three classes."""

    def __init__(self, seed=0, channels=2):
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(channels, 6, (3, 3), rngs=rngs)
        self.dense = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.dense(jax.nn.relu(self.conv(x)).mean((1, 2)))


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    images = generator.random((50, 5, 4, 2)).astype(np.float32)
    images[..., 1] = images[..., 1] * 0.5 + 0.1
    labels = generator.integers(0, 3, 50).astype(np.int32)
    return images, labels


@pytest.fixture(scope="module")
def net():
    return Net()


def average(images, labels, *arguments, **options):
    return np.asarray(class_averages(images, labels, *arguments, progress=False, **options))


def looped_simple(images, labels, label):
    members = [image.astype(np.float64) for image, own in zip(images, labels, strict=True) if own == label]
    mean = sum(members) / len(members)
    out = np.empty_like(mean)
    for channel in range(mean.shape[-1]):
        low = min(image[..., channel].min() for image in members)
        high = max(image[..., channel].max() for image in members)
        plane = mean[..., channel]
        for place in np.ndindex(plane.shape):
            share = (plane[place] - plane.min()) / (plane.max() - plane.min())
            out[(*place, channel)] = low + share * (high - low)
    return out


def looped_confidence(model, image, label):
    z = np.asarray(model(image[None])[0], np.float64)
    return float(np.exp(z[label]) / np.exp(z).sum())


def test_simple_averages_equal_a_slow_loop(data):
    images, labels = data
    got = average(images, labels)
    assert got.shape == (3, 5, 4, 2)
    for label in range(3):
        np.testing.assert_allclose(got[label], looped_simple(images, labels, label), atol=1e-6)


def test_a_simple_average_spans_the_range_of_its_own_class_in_each_channel(data):
    images, labels = data
    got = average(images, labels)
    for label in range(3):
        own = images[labels == label]
        np.testing.assert_allclose(got[label].min((0, 1)), own.min((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(got[label].max((0, 1)), own.max((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_stays_the_constant_mean(data):
    images, labels = data[0].copy(), data[1]
    # Constant in the mean only: each image has it, in another brightness.
    images[..., 1] = np.linspace(0, 1, len(images))[:, None, None]
    got = average(images, labels)
    for label in range(3):
        np.testing.assert_allclose(got[label, ..., 1], images[labels == label][..., 1].mean(), rtol=1e-6)
    assert np.isfinite(average(np.full_like(images, 0.3), labels)).all()


@pytest.mark.parametrize("kind", ["most", "least"])
def test_most_and_least_equal_sorting_by_slow_confidences(data, net, kind):
    images, labels = data
    got = average(images, labels, kind, net, k=4)
    for label in range(3):
        members = [i for i in range(50) if labels[i] == label]
        members.sort(key=lambda i: looped_confidence(net, images[i], labels[i]), reverse=kind == "most")
        np.testing.assert_allclose(got[label], images[members[:4]].astype(float).mean(0), atol=1e-6)


def test_confidences_that_float32_cannot_tell_apart_are_ranked_nevertheless():
    # All are sure beyond float32: softmax gives exactly 1 for each.
    images = np.array([0.5, 0.9, 0.6, 0.8], np.float32).reshape(4, 1, 1, 1)
    labels = np.zeros(4, np.int32)

    def model(x):
        return jnp.concatenate([100 * x[:, 0, 0], jnp.zeros_like(x[:, 0, 0])], 1)

    assert (confidences(model, images)[:, 0] == 1).all()
    assert average(images, labels, "most", model, k=2).item() == pytest.approx(0.85)
    assert average(images, labels, "least", model, k=2).item() == pytest.approx(0.55)


def test_log_odds_are_those_of_slow_confidences(data, net):
    images, labels = data
    got = log_odds(net, images, labels, batch=8, progress=False)
    p = np.array([looped_confidence(net, image, label) for image, label in zip(images, labels, strict=True)])
    np.testing.assert_allclose(got, np.log(p / (1 - p)), atol=1e-4)


def test_a_ranking_at_hand_spares_the_model(data, net):
    images, labels = data
    ranking = log_odds(net, images, labels, progress=False)
    for kind in ("most", "least"):
        want = average(images, labels, kind, net, k=4)
        np.testing.assert_array_equal(average(images, labels, kind, ranking=ranking, k=4), want)
    for broken in (ranking[:-1], np.where(labels == 1, np.nan, ranking)):
        with pytest.raises(ValueError, match="a ranking has a number for each of 50 images"):
            average(images, labels, "most", ranking=broken, k=4)


def test_equal_confidences_are_taken_in_the_order_of_the_data(data):
    images, labels = data

    def undecided(x):
        return jnp.zeros((x.shape[0], 3))

    first = np.stack([images[labels == label][:5].astype(float).mean(0) for label in range(3)])
    np.testing.assert_allclose(average(images, labels, "most", undecided, k=5), first, atol=1e-6)
    np.testing.assert_allclose(average(images, labels, "least", undecided, k=5), first, atol=1e-6)


@pytest.mark.slow
def test_the_batch_size_does_not_show(data, net):
    images, labels = data
    for kind, options in (("simple", {}), ("most", {"k": 3}), ("least", {"k": 3}), ("ascent", {"steps": 3})):
        whole = average(images, labels, kind, net, **options)
        for batch in (1, 2, 7, 50, 51):
            got = average(images, labels, kind, net, batch=batch, **options)
            np.testing.assert_allclose(got, whole, atol=1e-6)


def linear(weights, x):
    return x.reshape(x.shape[0], -1) @ weights


def looped_ascent(weights, start, label, low, high, rate, threshold, steps):
    x, best, surest = start.ravel().astype(np.float64), None, -1.0
    for step in range(steps + 1):
        z = x @ weights
        p = np.exp(z) / np.exp(z).sum()
        if p[label] > surest:
            best, surest = x, p[label]
        if surest >= threshold or step == steps:
            return best.reshape(start.shape), step
        gradient = weights[:, label] - weights @ p  # ∂ log softmax of a linear model
        x = np.clip(x + rate * gradient / np.sqrt((gradient**2).mean()), low, high)
    raise AssertionError


@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.0])
def test_ascent_equals_gradients_derived_by_hand(data, threshold):
    images, labels = data
    weights = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32) * 0.3
    model = Partial(linear, jnp.asarray(weights))
    options = {"threshold": threshold, "steps": 25, "learning_rate": 0.02}
    got = average(images, labels, "ascent", model, **options)
    simple = average(images, labels)
    taken = []
    for label in range(3):
        want, count = looped_ascent(
            weights.astype(float), simple[label], label, simple.min(), simple.max(), 0.02, threshold, 25
        )
        np.testing.assert_allclose(got[label], want, atol=1e-5)
        taken.append(count)
    # Otherwise nothing here would stop by itself, or all would at once.
    assert threshold == 1.0 or min(taken) < max(taken)


def test_ascent_makes_the_network_surer_and_stays_in_the_range_of_the_data(data, net):
    images, labels = data
    simple = average(images, labels)
    got = average(images, labels, "ascent", net, steps=40, learning_rate=0.05)
    before, after = (np.diagonal(confidences(net, x)) for x in (simple, got))
    assert (after > before + 0.005).all()
    assert got.min() >= images.min()
    assert got.max() <= images.max()


def test_ascent_never_ends_below_its_start(data, net):
    images, labels = data
    # Steps far too long: the image jumps between the corners of its range.
    got = average(images, labels, "ascent", net, steps=6, learning_rate=3.0)
    assert (np.diagonal(confidences(net, got)) >= np.diagonal(confidences(net, average(images, labels))) - 1e-6).all()


def test_no_steps_or_a_threshold_already_met_give_the_simple_average(data, net):
    images, labels = data
    simple = average(images, labels)
    np.testing.assert_array_equal(average(images, labels, "ascent", net, steps=0), simple)
    np.testing.assert_array_equal(average(images, labels, "ascent", net, threshold=0.01), simple)


def test_ascent_is_deterministic_and_stands_still_where_there_is_no_gradient(data, net):
    images, labels = data
    one, other = (average(images, labels, "ascent", net, steps=5) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    flat = average(images, labels, "ascent", lambda x: jnp.zeros((x.shape[0], 3)), steps=5)
    np.testing.assert_array_equal(flat, average(images, labels))


def test_confidences_are_softmax_of_the_logits(data, net):
    images, _ = data
    got = confidences(net, images[:10], batch=4)
    z = np.asarray(net(images[:10]), np.float64)
    np.testing.assert_allclose(got, np.exp(z) / np.exp(z).sum(1, keepdims=True), atol=1e-6)


def test_classes_come_in_the_order_asked_for(data):
    images, labels = data
    np.testing.assert_array_equal(average(images, labels, classes=[2, 0]), average(images, labels)[[2, 0]])
    np.testing.assert_array_equal(
        average(images, labels, "most", Net(), k=2, classes=[2]), average(images, labels, "most", Net(), k=2)[[2]]
    )


def test_numpy_jax_and_mapped_files_give_the_same(data, net, tmp_path):
    images, labels = data
    mapped = np.memmap(tmp_path / "images", np.float32, "w+", shape=images.shape)
    mapped[:] = images
    for kind in ("simple", "most"):
        whole = average(images, labels, kind, net, k=3, batch=8)
        np.testing.assert_array_equal(average(mapped, labels, kind, net, k=3, batch=8), whole)
        np.testing.assert_array_equal(average(jnp.asarray(images), jnp.asarray(labels), kind, net, k=3, batch=8), whole)


def test_images_are_read_a_batch_at_a_time(data, net):
    images, labels = data

    class Counting:
        shape, dtype = images.shape, images.dtype
        most = 0

        def __getitem__(self, rows):
            self.most = max(self.most, len(images[rows]))
            return images[rows]

    for kind in ("simple", "most", "ascent"):
        counting = Counting()
        # Past the annotation: anything with shape, dtype and slices will do.
        bare = class_averages.__wrapped__ if hasattr(class_averages, "__wrapped__") else class_averages
        bare(counting, labels, kind, net, k=12, batch=4, steps=1, progress=False)
        assert counting.most == 4


def test_other_weights_and_a_last_batch_need_no_second_compilation(data):
    images, labels = data
    average(images, labels, "most", Net(0), k=3, batch=16)
    compiled = inference.own_log_odds._cache_size()
    average(images, labels, "least", Net(1), k=3, batch=16)
    average(images[:40], labels[:40], "least", Net(2), k=3, batch=16)
    assert inference.own_log_odds._cache_size() == compiled


def test_images_are_left_as_they_were(data, net):
    images, labels = data
    before = images.copy(), labels.copy()
    for kind in ("simple", "most", "least", "ascent"):
        average(images, labels, kind, net, k=2, steps=2)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_unknown_kinds_name_the_closest_and_a_missing_model_says_what_it_is_for(data):
    with pytest.raises(
        ValueError, match=r"no average 'mosst'; did you mean 'most'\? there are simple, most, least, asc"
    ):
        average(*data, "mosst")
    with pytest.raises(ValueError, match="averages of kind 'least' need a model"):
        average(*data, "least")


def test_an_empty_class_is_named(data, net):
    images, labels = data
    with pytest.raises(ValueError, match="class 3 has no images"):
        average(images, labels, classes=range(5))
    with pytest.raises(ValueError, match=r"class 1 \('bird'\) has no images"):
        average(images, np.where(labels == 1, 2, labels), names=["cat", "bird", "dog"])
    with pytest.raises(ValueError, match="`classes` is empty"):
        average(images, labels, classes=[])


def test_a_class_of_fewer_than_k_images_is_named_with_its_count(data, net):
    images, labels = data
    count = int((labels == 0).sum())
    with pytest.raises(ValueError, match=rf"class 0 \('cat'\) has {count} images, fewer than the k={count + 30}"):
        average(images, labels, "most", net, k=count + 30, names=["cat", "bird", "dog"])
    with pytest.raises(ValueError, match="at least 1 image; got k=0"):
        average(images, labels, "most", net, k=0)
    # K plays no part in the others.
    assert average(images, labels, "simple", k=1000).shape == (3, 5, 4, 2)


@pytest.mark.parametrize("kind", ["simple", "most", "ascent"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_image_is_named(data, net, kind, value):
    images = data[0].copy()
    images[[17, 31], 2, 2, 1] = value
    with pytest.raises(ValueError, match="image 17 has NaN or infinite values"):
        average(images, data[1], kind, net, k=3, batch=8)


def test_labels_that_do_not_fit_are_refused(data, net):
    images, labels = data
    with pytest.raises(ValueError, match=r"50 images need labels of shape \(50,\); got \(49,\)"):
        average(images, labels[:-1])
    with pytest.raises(TypeError, match="labels are integers; got float32"):
        average(images, labels.astype(np.float32))
    with pytest.raises(ValueError, match="labels count from 0; image 4 has label -1"):
        average(images, np.where(np.arange(50) == 4, -1, labels))
    with pytest.raises(ValueError, match="the model has 3 outputs, but labels go up to 7"):
        average(images, np.where(labels == 2, 7, labels), "most", net, k=2, classes=[0, 1])


def test_arrays_that_are_no_images_are_refused(data):
    images, labels = data
    with pytest.raises(TypeError, match=r"floating point, usually in \[0, 1\]; got uint8 \(divide bytes by 255\)"):
        average((images * 255).astype(np.uint8), labels)
    with pytest.raises(
        ValueError, match=r"\(n, h, w, c\); got shape \(50, 5, 4\); one image needs a batch axis, x\[None\]$"
    ):
        average(images[..., 0], labels)
    with pytest.raises(ValueError, match=r"non-empty array \(n, h, w, c\); got shape \(0, 5, 4, 2\)"):
        average(images[:0], labels[:0])
    with pytest.raises(ValueError, match="non-empty array"):
        confidences(Net(), images[0])
    with pytest.raises(ValueError, match="batch=0"):
        average(images, labels, batch=0)


def test_models_that_do_not_classify_are_refused(data, net):
    images, labels = data
    with pytest.raises(
        ValueError, match=r"a model gives logits \(n, k\); for 50 images this one gives \(50, 5, 4, 2\)"
    ):
        confidences(lambda x: x, images)
    darkened = images.copy()
    darkened[[13, 20]] = 0
    with pytest.raises(ValueError, match="the model answers NaN to image 13"):
        confidences(lambda x: jnp.log(x.mean((1, 2)) - 0.01), darkened, batch=8)
    with pytest.raises(ValueError, match="the model answers NaN to the average of class 0"):
        average(images, labels, "ascent", lambda x: jnp.log(net(x) - 1e6))


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.1}, {"steps": -1}, {"learning_rate": 0.0}])
def test_impossible_options_are_refused(data, net, options):
    with pytest.raises(ValueError, match="ascent needs 0 < threshold"):
        average(*data, "ascent", net, **options)


def test_no_bar_is_drawn_unless_asked_for(data, capsys):
    class_averages(*data, progress=False)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""
    class_averages(*data, progress=True)
    assert capsys.readouterr().out == ""

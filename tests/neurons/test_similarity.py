"""`similarity` against its definition: a measure of every unit's map and the reference, one after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from neurons_nets import NETS, classifier, images
from neurons_twins import compilations, cosines, definition

import jaxcam as jc
from jaxcam.neurons import MEASURES, maps, similarity
from jaxcam.neurons.engine import Engine
from jaxcam.neurons.similarity import AGAINST


@pytest.fixture(scope="module")
def small():
    return classifier(shift=-0.1)


@pytest.fixture(scope="module")
def batch():
    return jnp.concatenate([images((8, 7, 2), seed) for seed in (1, 2, 3)])


def target_map(model, x, target, rule, steps):
    """The map of a logit, by `jax.grad`."""
    ruled = {"guided": jc.guided, "deconv": jc.deconv}.get(rule, lambda model: model)(model)
    gradient = jax.jit(jax.grad(lambda x: ruled(x)[0, target]))
    if rule != "integrated":
        return gradient(x)
    return x * sum(gradient(x * ((i + 0.5) / steps)) for i in range(steps)) / steps


@pytest.mark.parametrize("metric", MEASURES)
def test_similarity_is_the_measure_of_each_map_and_the_image(small, metric):
    found = similarity(small.model, small.x, ["b"], metric=metric)["b"]
    some = maps(small.model, small.x, "b")
    wanted = jax.jit(MEASURES[metric].function)(some, small.x)
    assert found.shape == (1, len(some))
    np.testing.assert_allclose(found[0], wanted[:, 0], atol=2e-6)
    dead = np.all(np.asarray(some) == 0, axis=(1, 2, 3, 4))
    assert 0 < dead.sum() < len(dead)
    np.testing.assert_array_equal(found[0, dead], MEASURES[metric].dead)


@pytest.mark.parametrize("rule", ["guided", "integrated"])
def test_against_confidence_maps_are_compared_with_the_map_of_the_target(small, rule):
    found = similarity(small.model, small.x, ["b"], rule=rule, against="confidence", target=2, steps=3)["b"]
    wanted = target_map(small.model, small.x, 2, rule, 3)
    some = definition(small.model, small.x, ["b"], rule, 3)["b"]
    assert np.abs(wanted).max() > 0
    np.testing.assert_allclose(found[0], cosines(some, wanted), atol=1e-5)


def test_the_target_is_the_predicted_class_one_for_all_or_one_for_each(small, batch):
    def found(target):
        return np.asarray(similarity(small.model, batch, ["b"], against="confidence", target=target)["b"])

    rows = np.stack([found(target) for target in range(3)])
    np.testing.assert_allclose(found([2, 0, 1]), rows[[2, 0, 1], range(3)], atol=1e-6)
    predicted = np.asarray(small.model(batch)).argmax(-1)
    np.testing.assert_allclose(found(None), rows[predicted, range(3)], atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 0.01


def test_a_map_that_is_the_reference_has_similarity_one():
    # One linear unit: its gradient is its kernel; so is the image.
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(24, 1)), jnp.float32)
    found = similarity(
        lambda x: x.reshape(len(x), -1) @ kernel, kernel.reshape(1, 4, 3, 2), ["dense_0"], rule="gradient"
    )
    np.testing.assert_allclose(found["dense_0"], [[1.0]], rtol=1e-6)


@pytest.mark.parametrize("shift", [-0.3, -0.6, -1.0])
def test_skipping_dead_units_changes_nothing(shift):
    # Biases shifted down kill units as training does; the definition sends every unit back.
    mostly_dead = classifier(shift)
    found = similarity(mostly_dead.model, mostly_dead.x)
    wanted = definition(mostly_dead.model, mostly_dead.x, ["a", "b"], "guided")
    for layer, values in found.items():
        np.testing.assert_allclose(values[0], cosines(wanted[layer], mostly_dead.x), atol=1e-5)
    dead = np.mean(np.concatenate([values[0] == 0 for values in found.values()]))
    assert dead >= {-0.3: 0.1, -0.6: 0.5, -1.0: 0.8}[shift]


@pytest.mark.parametrize("against", AGAINST)
def test_a_batch_gives_what_its_images_give_one_by_one(small, batch, against):
    found = similarity(small.model, batch, against=against)
    for i in range(3):
        one = similarity(small.model, batch[i : i + 1], against=against)
        for layer in ("a", "b"):
            np.testing.assert_allclose(found[layer][i], one[layer][0], atol=1e-6)


@pytest.mark.parametrize("against", AGAINST)
def test_under_jit_with_the_model_as_an_argument_it_is_the_same(small, batch, against):
    def function(model, x):
        return similarity(model, x, against=against)

    eager, compiled = function(small.model, batch), jax.jit(function)(small.model, batch)
    for layer in ("a", "b"):
        np.testing.assert_allclose(compiled[layer], eager[layer], atol=1e-6)


def test_under_vmap_it_is_the_same(small, batch):
    found = jax.jit(jax.vmap(lambda x: similarity(small.model, x[None], ["b"], memory=1)["b"][0]))(batch)
    np.testing.assert_allclose(found, similarity(small.model, batch, ["b"])["b"], atol=1e-6)


def test_any_memory_budget_gives_the_same(small):
    wanted = similarity(small.model, small.x, ["b"])["b"]
    for memory in (1, 8_000):
        found = similarity(small.model, small.x, ["b"], memory=memory)["b"]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("metric", MEASURES)
def test_a_black_image_gives_finite_values(small, metric):
    for against in ("image", "confidence"):
        for values in similarity(small.model, 0 * small.x, metric=metric, against=against).values():
            assert np.isfinite(values).all()
            low, high = MEASURES[metric].range
            assert (values >= low).all()
            assert (values <= high).all()
            if against == "image":
                np.testing.assert_array_equal(values, MEASURES[metric].dead)


def test_an_image_that_no_unit_answers_to_sends_nothing_back(small, monkeypatch):
    silent = classifier(shift=-100.0)

    def never(*arguments):
        raise AssertionError("a dead unit was sent back")

    monkeypatch.setattr("jaxcam.neurons.engine.LayerUnits.maps", never)
    for values in similarity(silent.model, silent.x).values():
        np.testing.assert_array_equal(values, 0)


def test_images_stay_as_they_are(small):
    x = np.array(small.x)
    before, weights = x.copy(), jax.tree.map(np.array, small.model)
    similarity(small.model, x)
    np.testing.assert_array_equal(x, before)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, small.model), weights)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_other_weights_and_images_of_the_same_shapes_compile_nothing(small, batch, rule):
    similarity(small.model, small.x, rule=rule, against="confidence")
    # Fewer units die: a compiled program must not depend on how many there are.
    other = jax.tree.map(lambda p: p + np.float32(0.02), small.model)
    x = batch[1:2]
    with compilations() as compiled:
        found = similarity(other, x, rule=rule, against="confidence")
    assert compiled == []
    monochrome = similarity(small.model, small.x, rule=rule, against="confidence")
    assert np.abs(found["b"] - monochrome["b"]).max() > 0


def test_every_convolution_is_asked_unless_layers_are_named(small):
    assert list(similarity(small.model, small.x)) == ["a", "b"]
    for name in ("residual", "grouped", "nnx"):
        some = NETS[name]()
        convolutions = [layer.name for layer in jc.layers(some.model, some.x) if layer.kind == "conv"]
        assert list(Engine(some.model, some.x.shape, None, "guided").layers) == convolutions


def test_layers_may_be_any_kind_named_twice_or_by_number(small):
    found = similarity(small.model, small.x, ["logits", "b", "conv_1", "b"])
    assert {layer: values.shape for layer, values in found.items()} == {"logits": (1, 3), "b": (1, 6)}
    assert list(found) == ["logits", "b"]
    assert list(similarity(small.model, small.x, "b")) == ["b"]


def bad(message, error=ValueError, **options):
    return pytest.param(options, error, message, id=message[:30])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        bad("no layer 'c'; there are a, pool_0, b, pool_1, logits. jc.layers(model, x)", layers=["c"]),
        bad("no rule 'gide'; did you mean 'guided'", rule="gide"),
        bad("no measure 'cosin'; did you mean 'cosine'", metric="cosin"),
        bad("similarity is against 'image' or 'confidence'; got against='picture'", against="picture"),
        bad("targets are classes 0 to 2; got target=3", against="confidence", target=3),
        bad("targets are classes 0 to 2; got target=-1", against="confidence", target=-1),
        bad(
            "a target is one class, or one for each of 1 images; got target=[0, 1, 2]",
            against="confidence",
            target=[0, 1, 2],
        ),
        bad("the model has no convolution", model=Partial(jnp.sum), layers=None),
        bad("needs a model with outputs (n, k)", model=Partial(jax.nn.relu), layers=["relu_0"], against="confidence"),
        bad("fails on images of shape (1, 8, 7, 1), float32: ", x=np.zeros((1, 8, 7, 1), "f")),
        bad("image 0 has NaN or infinite values", x=np.full((1, 8, 7, 2), np.inf, "f")),
        bad("images are floating point", TypeError, x=np.zeros((1, 8, 7, 2), int)),
    ],
)
def test_bad_input_is_told_in_one_line(small, options, error, message):
    with pytest.raises(error) as caught:
        similarity(**{"model": small.model, "x": small.x} | options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)

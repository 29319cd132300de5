"""Which outputs compete: all by default, and only the candidates where that is asked, against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import jaxcam as jc
from jaxcam.neurons import average_classes, class_averages, confidences, log_odds, pruning_study, restrict, sweep
from jaxcam.neurons.candidates import Candidates, compete, one_to_one

RANDOM = np.random.default_rng(0)
OWN = [7, 2]  # what classes 0 and 1 of the data are among ten outputs
IMAGES = RANDOM.random((24, 4, 4, 2), np.float32)
LABELS = np.array(OWN)[np.arange(24) % 2]


def forward(p, x):
    return jax.nn.relu(x.reshape(len(x), -1) @ p["hidden"]) @ p["last"]


NET = Partial(
    forward,
    {
        "hidden": jnp.asarray(RANDOM.normal(size=(32, 6)), jnp.float32),
        "last": jnp.asarray(RANDOM.normal(size=(6, 10)), jnp.float32),
    },
)


def softmax(z):
    odds = np.exp(z - z.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def logits(x):
    p = {name: np.asarray(values, np.float64) for name, values in NET.args[0].items()}
    return np.maximum(np.asarray(x, np.float64).reshape(len(x), -1) @ p["hidden"], 0) @ p["last"]


def test_confidences_are_of_all_outputs_unless_candidates_are_given():
    z = logits(IMAGES)
    np.testing.assert_allclose(confidences(NET, IMAGES), softmax(z), atol=1e-6)
    np.testing.assert_allclose(confidences(NET, IMAGES, candidates=OWN), softmax(z[:, OWN]), atol=1e-6)
    np.testing.assert_allclose(confidences(NET, IMAGES, candidates=[4]), np.ones((24, 1)))


@pytest.mark.parametrize("candidates", [None, OWN, [2, 3, 7], [7, 2, 9, 0, 4]])
def test_log_odds_are_against_those_that_compete(candidates):
    outputs = list(range(10)) if candidates is None else candidates
    p = softmax(logits(IMAGES)[:, outputs])[np.arange(24), [outputs.index(label) for label in LABELS]]
    found = log_odds(NET, IMAGES, LABELS, candidates=candidates, progress=False)
    np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("candidates", [None, OWN, [2, 3, 7]])
@pytest.mark.parametrize("kind", ["most", "least"])
def test_the_most_confident_images_are_those_among_what_competes(kind, candidates):
    outputs = list(range(10)) if candidates is None else candidates
    p = softmax(logits(IMAGES)[:, outputs])
    options = {"k": 3, "classes": OWN, "candidates": candidates, "progress": False}
    found = average_classes(IMAGES, LABELS, kind, NET, **options)
    for picture, own in zip(found.images, OWN, strict=True):
        rows = sorted(np.flatnonzero(own == LABELS), key=lambda i: p[i, outputs.index(own)])
        chosen = rows[-3:] if kind == "most" else rows[:3]
        np.testing.assert_allclose(picture, IMAGES[chosen].mean(0), atol=1e-6)
    assert found.competing == len(outputs)
    expected = softmax(logits(found.images)[:, outputs])
    np.testing.assert_allclose(found.confidences, expected, atol=1e-6)
    columns = [outputs.index(own) for own in OWN]
    np.testing.assert_allclose(found.confidence, expected[[0, 1], columns], atol=1e-6)


def test_the_choice_depends_on_what_competes():
    options = {"k": 3, "classes": OWN, "progress": False}
    all_outputs, own = (class_averages(IMAGES, LABELS, "most", NET, candidates=c, **options) for c in (None, OWN))
    assert np.abs(np.asarray(all_outputs) - np.asarray(own)).max() > 0.05


@pytest.mark.parametrize("candidates", [None, OWN])
def test_ascent_climbs_the_confidence_among_what_competes(candidates):
    outputs = list(range(10)) if candidates is None else candidates
    options = {"classes": OWN, "candidates": candidates, "steps": 12, "progress": False}
    found = average_classes(IMAGES, LABELS, "ascent", NET, threshold=1.0, **options)
    p = softmax(logits(found.images)[:, outputs])[[0, 1], [outputs.index(own) for own in OWN]]
    np.testing.assert_allclose(found.confidence, p, atol=1e-5)
    start = class_averages(IMAGES, LABELS, classes=OWN, progress=False)
    before = softmax(logits(start)[:, outputs])[[0, 1], [outputs.index(own) for own in OWN]]
    assert (p > before).all()


@pytest.mark.parametrize("candidates", [None, OWN, [2, 3, 7]])
def test_accuracy_without_units_is_among_what_competes(candidates):
    outputs = np.arange(10) if candidates is None else np.array(candidates)
    scores = RANDOM.random((2, 6))
    dead = np.zeros((2, 6), bool)
    options = {"fraction": 0.5, "seeds": 1, "candidates": candidates, "progress": False}
    (layer, _) = (one.name for one in jc.layers(NET, IMAGES[:1]))
    rows = pruning_study(NET, IMAGES, LABELS, {layer: scores}, {layer: dead}, **options)
    p = {name: np.asarray(values, np.float64) for name, values in NET.args[0].items()}
    for which, kept in (("none", np.ones(6)), ("most", np.argsort(np.argsort(scores.mean(0))) < 3)):
        z = (np.maximum(IMAGES.reshape(24, -1) @ p["hidden"], 0) * kept) @ p["last"]
        expected = (outputs[z[:, outputs].argmax(1)] == LABELS).mean()
        (row,) = [row for row in rows if row.which == which]
        assert row.accuracy == expected
        assert row.competing == len(outputs)


def test_the_sweep_is_told_which_output_each_class_is(tmp_path):
    averages = np.asarray(class_averages(IMAGES, LABELS, classes=OWN, progress=False))
    layer = jc.layers(NET, IMAGES[:1])[0].name
    options = {"layers": [layer], "against": "confidence", "progress": False}
    found = sweep(NET, averages, tmp_path / "a.zarr", outputs=OWN, **options)
    same = sweep(restrict(NET, OWN), averages, tmp_path / "b.zarr", **options)
    other = sweep(NET, averages, tmp_path / "c.zarr", **options)
    np.testing.assert_allclose(found.similarity(layer), same.similarity(layer), atol=1e-6)
    assert np.abs(found.similarity(layer) - other.similarity(layer)).max() > 1e-3
    np.testing.assert_allclose(found.confidence, softmax(logits(averages)), atol=1e-6)
    np.testing.assert_allclose(same.confidence, softmax(logits(averages)[:, OWN]), atol=1e-6)
    with pytest.raises(ValueError, match="outputs None instead of"):
        sweep(NET, averages, tmp_path / "c.zarr", outputs=OWN, **options)
    with pytest.raises(ValueError, match="2 class averages need an output of the model each; got 3"):
        sweep(NET, averages, tmp_path / "d.zarr", outputs=[1, 2, 3], **options)


def test_a_restricted_model_is_one_like_any_other():
    model = restrict(NET, OWN)
    x = jnp.asarray(IMAGES[:3])
    np.testing.assert_allclose(jax.jit(model)(x), NET(x)[:, jnp.array(OWN)], rtol=1e-5)
    assert [one.name for one in jc.layers(model, x)] == [one.name for one in jc.layers(NET, x)]
    np.testing.assert_allclose(jc.saliency(model, x, 1), jc.saliency(NET, x, 2), atol=1e-6)
    assert len(jax.tree.leaves(model)) == 2


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ([], r"candidates are one output or several; got \[\]"),
        ([3, 3], "each output once; got output 3 twice"),
        ([-1, 3], "candidates count from 0, each output once; got -1"),
        ([2, 7, 10], "there is no output 10 among the 10 of the model, 0 to 9"),
        ([2, 3], r"label 7 \(number 0\) is no candidate; the candidates are the outputs 2, 3"),
    ],
)
def test_candidates_that_cannot_be_are_refused(candidates, words):
    for ask in (log_odds, pruned):
        with pytest.raises(ValueError, match=words):
            ask(NET, IMAGES, LABELS, candidates=candidates, progress=False)
    if "label" not in words:
        with pytest.raises(ValueError, match=words):
            confidences(NET, IMAGES, candidates=candidates)


def pruned(model, images, labels, **options):
    layer = jc.layers(model, images[:1])[0].name
    values = {layer: np.zeros((2, 6))}
    return pruning_study(model, images, labels, values, {layer: np.zeros((2, 6), bool)}, **options)


def test_candidates_are_whole_numbers_of_a_model_with_logits():
    with pytest.raises(TypeError, match="candidates are whole numbers, the model's outputs; got float64"):
        restrict(NET, [0.5])
    with pytest.raises(ValueError, match=r"candidates are some of the outputs \(n, k\) of a model; this one gives"):
        restrict(lambda x: x, [0])(IMAGES)
    assert compete(NET, LABELS, None)[0] is NET


OLD, FULL = {"outputs": [283, 511]}, {"classes": ["cat", "car"]}


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({"model": OLD, "results": FULL}, "the 2 outputs of the data’s classes only"),
        ({"model": {}, "results": FULL}, "all 2 outputs"),
        ({"model": None, "results": {"checks": []}}, None),
        (
            {"results": FULL | {"candidates": Candidates("data", (283, 511), 1000).to_dict()}},
            "the 2 outputs of the data’s classes only, of 1,000",
        ),
        ({"results": {"candidates": Candidates("all", (283, 511), 1000).to_dict()}}, "all 1,000 outputs"),
        ({"model": {"candidates": Candidates("data", (1, 0), 2).to_dict()}}, "all 2 outputs"),
    ],
)
def test_a_manifest_says_which_outputs_competed_and_one_of_before_is_understood(manifest, words):
    found = Candidates.of_manifest(manifest)
    assert (found and found.words) == words


def test_places_are_those_among_what_competes():
    assert Candidates("all", (283, 511), 1000).columns == (283, 511)
    assert Candidates("data", (283, 511), 1000).columns == (0, 1)
    assert one_to_one(3) == Candidates("all", (0, 1, 2), 3)


@pytest.mark.parametrize(
    ("count", "shown"), [(10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9;"), (11, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …;")]
)
def test_ten_candidates_are_shown_and_of_more_the_first_ten(count, shown):
    with pytest.raises(ValueError, match=rf"the candidates are the outputs {shown}"):
        compete(lambda x: x, [50], range(count))


def test_a_label_above_all_candidates_is_none_and_the_largest_is_one():
    with pytest.raises(ValueError, match=r"^label 9 \(number 1\) is no candidate"):
        compete(lambda x: x, [8, 9], [8, 2])
    assert compete(lambda x: x, [8, 2, 8], [8, 2])[1].tolist() == [0, 1, 0]

"""`jaxcam maximize` and `jaxcam landscape`: what they write is what the library finds; errors are one line."""

import json

import jax
import numpy as np
import pytest
from cli_helpers import TRAIN, refused, reported, successful, table

import jaxcam as jc
from jaxcam.cli.networks import open_network

MODEL = ("--model", "tinynet:make", "--image-size", 8)
FEW = ("--steps", 2, "--canvas", "pixel", "--rotation", 0, "--scale", 0)
PLAIN = {"steps": 2, "canvas": "pixel", "rotation": 0.0, "scale": 0.0}
DIGITS = ("--data", "digits", "--limit", 20)


@pytest.fixture(scope="module")
def units(workplace, photos, tmp_path_factory):
    """Pictures for two units of a network of a user's own."""
    run = tmp_path_factory.mktemp("maximized") / "run"
    return run, successful(
        workplace,
        *("maximize", *MODEL, *FEW, "--layer", "conv1", "--target", 3, "--target", 5, "--seed", 2),
        *("--images", photos / "cat", "--from-mean", "--out", run),
    )


@pytest.fixture(scope="module")
def learned(workplace, tmp_path_factory):
    """A training that kept its epochs."""
    run = tmp_path_factory.mktemp("learned") / "train"
    successful(workplace, *TRAIN, "--keep-every", 1, "--out", run)
    return run


def test_pictures_are_those_of_the_library_beside_the_most_exciting_real_ones(units, workplace, photos, monkeypatch):
    run, said = units
    monkeypatch.chdir(workplace)
    names = ["manifest.json", "maximized.npz", "maximized.png", "units.csv"]
    assert sorted(path.name for path in run.iterdir()) == names
    hidden = jc.tap(open_network("tinynet:make").model, "conv1")
    x = np.stack([jc.data.read_image(photos / f"cat/{i}.png", 8, channels=1) for i in range(10)])
    expected = jc.studies.maximize(hidden, x, [3, 5], key=jax.random.key(2), **PLAIN)
    real = jc.studies.most_exciting(hidden, x)
    with np.load(run / "maximized.npz") as found:
        assert found["units"].tolist() == [3, 5]
        np.testing.assert_allclose(found["images"], expected.images, atol=1e-4)
        np.testing.assert_array_equal(found["real_indices"], real.indices[[3, 5]])
        assert found["real"].shape == (2, 9, 8, 8, 1)
    assert [row["name"] for row in table(run / "units.csv")] == ["unit 3", "unit 5"]
    assert said.out.splitlines()[0].split() == ["unit", "score"]


@pytest.mark.slow
def test_a_line_through_a_network_is_the_librarys(jaxcam, tmp_path):
    run = tmp_path / "run"
    said = jaxcam("landscape", *MODEL, *DIGITS, "--dimensions", 1, "--points", 3, "--seed", 4, "--out", run)
    assert said.code == 0, said
    assert said.out.startswith("loss ")
    files = ["landscape.npz", "landscape.png", "manifest.json", "points.npz"]
    assert sorted(path.name for path in run.iterdir()) == files
    model, data = open_network("tinynet:make").model, jc.data.load("digits", "train", image_size=8, limit=20)
    loss = jc.studies.classification_loss(data.images, data.labels)
    expected = jc.studies.landscape(loss, model, key=jax.random.key(4), dimensions=1, points=3)
    with np.load(run / "landscape.npz") as found:
        np.testing.assert_allclose(found["values"], expected.values, rtol=1e-4)
        assert found["center"] == pytest.approx(expected.center, rel=1e-5)


@pytest.mark.slow
def test_a_landscape_of_a_training_has_its_epochs_in_it(learned, jaxcam, tmp_path):
    run = tmp_path / "run"
    plane = ("landscape", "--model", learned, "--limit", 40, "--points", 5, "--trajectory", "--span", -2, 2)
    said = jaxcam(*plane, "--out", run)
    assert said.code == 0, said
    files = ["landscape.html", "landscape.npz", "landscape.png", "manifest.json", "points.npz"]
    assert sorted(path.name for path in run.iterdir()) == files
    with np.load(run / "landscape.npz") as found:
        assert found["values"].shape == (5, 5)
        assert found["values"][2, 2] == pytest.approx(found["center"], rel=1e-5)
        assert found["path"].shape == (4, 2)
        assert found["path"][-1].tolist() == [0, 0]
    results = json.loads((run / "manifest.json").read_text())["results"]
    assert results["points"] == [5, 5]
    assert results["span"] == [[-2, 2], [-2, 2]]
    assert reported(run, tmp_path / "page.html")[0].startswith("The loss is ")


@pytest.mark.slow
def test_frames_follow_a_unit_through_the_epochs_and_a_line_leads_to_another_network(learned, jaxcam, tmp_path):
    run = tmp_path / "frames"
    said = jaxcam("maximize", "--model", learned, *FEW, "--target", 1, "--together", "--frames", "--out", run)
    assert said.code == 0, said
    with np.load(run / "frames.npz") as found:
        assert found["frames"].shape == (1, 4, 8, 8, 1)
    assert json.loads((run / "manifest.json").read_text())["results"]["frames"] == [f"epoch {i}" for i in range(4)]
    line = tmp_path / "line"
    model = ("landscape", "--model", learned, "--limit", 40, "--points", 4)
    assert jaxcam(*model, "--to", learned, "--out", line).code == 0
    with np.load(line / "landscape.npz") as found:
        np.testing.assert_allclose(found["values"], found["center"], rtol=1e-5)
    random = tmp_path / "random"
    assert jaxcam(*model, "--dimensions", 1, "--split", "test", "--out", random).code == 0
    assert not (random / "landscape.html").exists()


@pytest.fixture
def out(tmp_path):
    """Where a run would be; nothing may be there after an error."""
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--target", "cat"), "--target cat: nothing names the network's outputs; give a number, or --classes FILE"),
        (("--target", 10), "--target 10 is out of range: the network has 10 outputs, 0 to 9"),
        (("--layer", "conv7"), "no layer 'conv7'"),
        (("--together",), "--together adds up units that are named"),
        (("--from-mean",), "--from-mean needs real images; give --images or --data"),
        (("--target", 1, "--diversity", 1, "--answers", 2), "diversity needs answers=2 or more and layer"),
        (("--frames",), "tinynet:make kept no epochs to follow"),
    ],
)
def test_what_is_wrong_with_a_picture_is_said_in_one_line(jaxcam, out, words, line):
    assert refused(jaxcam("maximize", *MODEL, *FEW, *words, "--out", out)).startswith(line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--to", "tinynet:in_linen"), "other shapes than the parameters: "),
        (("--to", "tinynet:make", "--trajectory"), "--to is a line and --trajectory a plane"),
        (("--trajectory",), "tinynet:make kept no epochs to follow; jaxcam train --keep-every 1"),
        (("--statistics", "batch"), "--statistics batch is for Flax NNX modules with batch norm"),
        (("--span", 1, 0), "span is (least, greatest)"),
    ],
)
def test_what_is_wrong_with_a_landscape_is_said_in_one_line(jaxcam, out, words, line):
    said = refused(jaxcam("landscape", *MODEL, *DIGITS, "--points", 3, *words, "--out", out))
    assert line in said


def test_its_report_says_what_was_found(units, tmp_path):
    run, _ = units
    assert reported(run, tmp_path / "page.html") == ["2 units, conv1."]

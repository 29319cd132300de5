"""`jaxcam linear-piece`: what it writes is the library's; what is wrong is said in one line."""

import json

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from cli_helpers import refused, reported, successful, table

import jaxcam as jc
from jaxcam.cli.networks import open_network

MODEL = ("--model", "tinynet:make", "--image-size", 8)


@pytest.fixture(scope="module")
def pieces(workplace, photos, tmp_path_factory):
    """One run on two pictures."""
    place = tmp_path_factory.mktemp("pieces")
    said = successful(
        workplace,
        *("linear-piece", photos / "cat/1.png", photos / "dog/3.png", *MODEL, "--target", 2),
        *("--directions", 2, "--out", place / "run"),
    )
    return said, place / "run"


def test_a_run_holds_weights_that_are_the_network(pieces, workplace, photos, monkeypatch):
    monkeypatch.chdir(workplace)
    _, run = pieces
    names = ["images.csv", "linear_piece.png", "manifest.json", "pieces.npz", "sharing.csv"]
    assert sorted(path.name for path in run.iterdir()) == names
    model = open_network("tinynet:make").model
    with np.load(run / "pieces.npz") as found:
        values = np.einsum("nhwc,nhwc->n", found["W"], found["images"]) + found["b"]
        np.testing.assert_allclose(values, model(jnp.asarray(found["images"]))[:, 2], atol=1e-5)
        x, polytope = found["images"], found["polytope"]
    np.testing.assert_array_equal(polytope, jc.studies.polytopes(model, x).whole)
    rows = table(run / "images.csv")
    assert [row["image"] for row in rows] == ["1", "3"]
    assert all(float(row["error"]) < 1e-5 and float(row["facet"]) >= 0 for row in rows)
    assert [row["polytope"] for row in rows] == polytope.tolist()
    layers = [row["layer"] for row in table(run / "sharing.csv")]
    assert layers == ["(whole)", "conv0", "conv1"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["command"] == "linear-piece"
    assert len(manifest["results"]["images"]) == 2


def test_it_says_what_it_found_and_draws_it(pieces):
    said, run = pieces
    lines = said.out.splitlines()
    assert lines[0].split()[:3] == ["image", "explained", "output"]
    assert any(line.startswith("(whole)") for line in lines)
    with PIL.Image.open(run / "linear_piece.png") as picture:
        assert picture.width > 800


def test_what_is_wrong_is_said_in_one_line(jaxcam, photos, tmp_path):
    said = refused(jaxcam("linear-piece", photos / "cat", *MODEL, "--target", 99, "--out", tmp_path / "run"))
    assert "out of range" in said


def test_its_report_says_what_was_found(pieces, tmp_path):
    _, run = pieces
    assert reported(run, tmp_path / "page.html")[1] == "They lie in 2 polytopes."

"""`jaxcam redundancy`: what it writes is what the library finds in the maps; what is wrong is said in one line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from cli_helpers import refused, reported, successful, table

import jaxcam as jc
from jaxcam.cli.networks import open_network

MODEL = ("--model", "tinynet:make", "--image-size", 8)


@pytest.fixture(scope="module")
def analyzed(workplace, photos, tmp_path_factory):
    """One run on ten pictures, four to a batch."""
    place = tmp_path_factory.mktemp("analyzed")
    said = successful(
        workplace,
        *("redundancy", photos / "cat", *MODEL, "--components", 3, "--permutations", 19, "--target", 2),
        *("--seed", 5, "--batch", 4, "--out", place / "run"),
    )
    return said, place / "run"


def test_a_run_holds_its_files_and_no_others(analyzed):
    _, run = analyzed
    names = ["components.csv", "manifest.json", "redundancy.npz", "redundancy.png"]
    assert sorted(path.name for path in run.iterdir()) == names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["results"]["method"] == "cam"
    assert manifest["results"]["maps"] == [10, 4, 4]
    assert manifest["results"]["components"] == 3
    assert {row["explained"]["output"] for row in manifest["results"]["images"]} == {2}


def test_its_components_are_those_of_the_library(analyzed, workplace, photos, monkeypatch):
    monkeypatch.chdir(workplace)
    _, run = analyzed
    model = open_network("tinynet:make").model
    x = jnp.asarray(np.stack([jc.data.read_image(photos / f"cat/{i}.png", 8, channels=1) for i in range(10)]))
    expected = jc.studies.redundancy(jc.cam(model, x, 2), 3, key=jax.random.key(5), permutations=19)
    with np.load(run / "redundancy.npz") as found:
        np.testing.assert_allclose(found["maps"], expected.maps, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["reconstruction"], expected.reconstruction, rtol=1e-3, atol=1e-5)
        assert found["scores"].shape == (10, 3)
    rows = table(run / "components.csv")
    np.testing.assert_allclose([float(row["ratio"]) for row in rows], expected.ratios, atol=1e-5)
    np.testing.assert_allclose([float(row["p"]) for row in rows][:3], expected.pvalues[:3], atol=0.051)


def test_it_says_what_is_kept_and_what_is_more_than_noise(analyzed):
    said, run = analyzed
    lines = said.out.splitlines()
    assert lines[0].split() == ["component", "ratio", "cumulated", "left", "out", "p"]
    assert lines[-3].startswith("10 maps of 4×4: 3 components keep ")
    assert lines[-3].endswith(" more than noise")
    assert lines[-1] == str(run)


def test_its_picture_is_not_blank(analyzed):
    with PIL.Image.open(analyzed[1] / "redundancy.png") as picture:
        assert (np.ptp(np.asarray(picture.convert("RGB"), int), axis=-1) > 60).mean() > 0.01


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--components", 10), "10 maps have at most 9 components; 10 need 11 maps or more"),
        (("--limit", 1), "one map has nothing in common with others; give two or more of one class"),
        (("--components", 2, "--share", 0.5), "give components or a share of the variance, not both"),
        (("--method", "cam", "--method", "grad_cam"), "redundancy is of the maps of one method at one layer"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(jaxcam, photos, tmp_path, words, line):
    said = refused(jaxcam("redundancy", photos / "cat", *MODEL, *words, "--out", tmp_path / "run"))
    assert said.startswith(line)
    assert not (tmp_path / "run").exists()


def test_its_report_says_what_was_found(analyzed, tmp_path):
    _, run = analyzed
    assert "3 components of the 10 maps of 4×4 (cam) keep" in reported(run, tmp_path / "page.html")[0]


def test_a_share_of_the_variance_is_at_most_all_of_it(jaxcam, photos, tmp_path):
    said = jaxcam("redundancy", photos / "cat", *MODEL, "--share", 2, "--out", tmp_path / "run")
    assert said.code == 2
    assert "Invalid value for '--share': 2 is too large; give a number above 0 and up to 1" in said.err
    assert not (tmp_path / "run").exists()

"""`jaxcam leak-check`, `clusters` and `concepts`: their files hold what the library finds; errors are one line."""

import json
import shutil

import jax
import numpy as np
import PIL.Image
import pytest
from cli_helpers import TINY, refused, reported, successful, table

import jaxcam as jc
from jaxcam.cli.examples import pictures
from jaxcam.cli.networks import open_network

MODEL = ("--model", "tinynet:make", "--data", "digits", "--image-size", 8)
SMALL = ("--explained", 3, "--samples", 4)


@pytest.fixture(scope="module")
def place(workplace):
    """The workplace, with a network for color images too."""
    (workplace / "colornet.py").write_text(TINY.replace("nnx.Conv(1, 6", "nnx.Conv(3, 6"))
    return workplace


@pytest.fixture(scope="module")
def planted(place, tmp_path_factory):
    """A run that trains twice."""
    out = tmp_path_factory.mktemp("planted") / "leak"
    words = ("--data", "digits", "--image-size", 8, "--limit", 60, "--epochs", 1, "--rectangle", "0,0,2,2", *SMALL)
    return successful(place, "leak-check", "--model", "colornet:make", *words, "--out", out), out


@pytest.fixture(scope="module")
def done(place, tmp_path_factory):
    """One run of each command."""
    out = tmp_path_factory.mktemp("suspicions")
    said = {
        "clusters": successful(place, *("clusters", *MODEL, "--target", 3, "--seed", 1, "--out", out / "clusters")),
        "concepts": successful(
            place,
            *("concepts", *MODEL, "--target", 3, "--concept", "stripes", "--layer", "conv0"),
            *("--random-concepts", 19, "--images", 8, "--out", out / "concepts"),
        ),
    }
    return said, out


def test_each_run_holds_its_files_and_no_others(done):
    _, out = done
    files = {
        "clusters": ["clusters.csv", "clusters.npz", "clusters.png", "manifest.json"],
        "concepts": ["concepts.csv", "concepts.npz", "concepts.png", "manifest.json"],
    }
    for name, wanted in files.items():
        assert sorted(path.name for path in (out / name).iterdir()) == wanted


@pytest.mark.slow
def test_a_planted_leak_says_the_same_of_its_networks_as_its_files(planted):
    said, out = planted
    names = ["clean", "leaking", "leaks.csv", "leaks.png", "manifest.json", "maps.npz", "sheet.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    kept = {path.name for path in (out / "clean").iterdir()} - {"tensorboard"}
    assert kept == {"history.csv", "model.safetensors"}
    rows = table(out / "leaks.csv")
    assert [row["network"] for row in rows] == ["leaking", "clean"]
    results = json.loads((out / "manifest.json").read_text())["results"]["checks"]
    for row, result in zip(rows, results, strict=True):
        assert float(row["removed"]) == result["removed"]
    with np.load(out / "maps.npz") as found:
        assert found["leaking:saliency"].shape == (3, 8, 8, 3)
        assert found["region"].sum() == 4
        assert np.ptp(found["images"][:, :2, :2].reshape(3, 4, 3), axis=1).max() == 0
    assert "the region is 6.2% of the image" in said.out


@pytest.mark.slow
def test_a_suspected_region_is_measured_as_the_library_does(place, jaxcam, tmp_path):
    out = tmp_path / "region"
    said = jaxcam("leak-check", *MODEL, "--region", "0,0,8,1", "--limit", 60, *SMALL, "--out", out)
    names = ["leaks.csv", "leaks.png", "manifest.json", "maps.npz", "sheet.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    images, labels, _ = jc.data.load("digits", "test", image_size=8, limit=60)
    model, none = open_network("tinynet:make").model, {"saliency": jc.saliency}
    expected = jc.studies.region_check(
        model, images, labels, (0, 0, 8, 1), key=jax.random.key(0), explained=3, methods=none
    )
    (row,) = table(out / "leaks.csv")
    assert float(row["accuracy"]) == expected.accuracy
    assert float(row["followed"]) == expected.followed
    assert float(row["saliency × area"]) == pytest.approx(expected.times_area["saliency"], rel=1e-4)
    assert "the region is 12.5% of the image" in said.out


def test_groups_are_those_of_the_library(done, place, monkeypatch):
    monkeypatch.chdir(place)
    _, out = done
    images, labels, _ = jc.data.load("digits", "test", image_size=8)
    own = np.flatnonzero(labels == 3)
    maps = jc.lrp(open_network("tinynet:make").model, jax.numpy.asarray(images[own]), 3)
    expected = jc.studies.heatmap_clusters(maps, key=jax.random.key(1))
    rows = table(out / "clusters" / "clusters.csv")
    assert [int(row["image"]) for row in rows] == own.tolist()
    assert [int(row["group"]) for row in rows] == expected.labels.tolist()


def test_concepts_are_those_of_the_library(done, place, monkeypatch):
    monkeypatch.chdir(place)
    _, out = done
    images, labels, _ = jc.data.load("digits", "test", image_size=8)
    (expected,) = jc.studies.concepts(
        open_network("tinynet:make").model,
        images[labels == 3][:8],
        3,
        pictures(["stripes"], (8, 8, 1), 0),
        images[labels != 3],
        layers="conv0",
        key=jax.random.key(0),
        random_concepts=19,
    )
    (row,) = table(out / "concepts" / "concepts.csv")
    assert (row["layer"], row["concept"]) == ("conv0", "stripes")
    assert float(row["rise"]) == pytest.approx(expected.rise, rel=1e-4)
    assert float(row["pvalue"]) == expected.pvalue


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("leak-check", "--rectangle", "30,30,6,6"), "reaches outside the images of 32×32"),
        (("leak-check", "--rectangle", "1,1,6"), "--rectangle '1,1,6' is not TOP,LEFT,HEIGHT,WIDTH in pixels"),
        (("leak-check", "--rectangle", "0,0,1,1", "--region", "0,0,1,1"), "give one of them"),
        (("leak-check", *MODEL, "--region", "0,0,9,1"), "reaches outside the images of 8×8"),
        (("clusters", *MODEL, "--target", "three"), "digits has no class 'three'"),
        (("clusters", *MODEL, "--target", "3", "--limit", 40), "groups need at least 10"),
        (("concepts", *MODEL, "--target", "3", "--concept", "strips"), "did you mean 'stripes'?"),
        (("concepts", *MODEL, "--target", "3", "--concept", "red"), "grey pictures are never red"),
        (("concepts", *MODEL, "--target", "3", "--concept", "dots", "--layer", "conv9"), "conv9"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_leaves_nothing(place, jaxcam, words, said, tmp_path):
    assert said in refused(jaxcam(*words, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_of_too_few_pictures_is_no_concept(place, jaxcam, photos, tmp_path):
    words = ("concepts", *MODEL, "--target", "3", "--concept", photos / "dog", "--layer", "conv0")
    line = refused(jaxcam(*words, "--out", tmp_path / "run"))
    assert line == "the concept 'dog' has 5 pictures; at least 10 are needed"


def test_a_mask_is_a_picture_as_large_as_the_images(place, jaxcam, tmp_path):
    PIL.Image.new("L", (4, 4), 255).save(tmp_path / "mask.png")
    words = ("leak-check", *MODEL, "--mask", tmp_path / "mask.png", "--out", tmp_path / "run")
    assert refused(jaxcam(*words)) == "a mask is as large as the images, 8×8; got 4×4"


def test_data_of_one_class_cannot_leak(place, jaxcam, photos, tmp_path):
    shutil.copytree(photos / "cat", tmp_path / "one" / "cat")
    line = refused(jaxcam("leak-check", "--data", tmp_path / "one", "--image-size", 8, "--out", tmp_path / "run"))
    assert line == "a color can give a class away where there are two or more; got 1"


def test_their_reports_say_what_was_found(done, tmp_path):
    _, out = done
    assert reported(out / "clusters", tmp_path / "a.html")[0].startswith("The maps of ")
    assert reported(out / "concepts", tmp_path / "b.html")


@pytest.mark.slow
def test_the_report_of_a_planted_leak_is_about_both_networks(planted, tmp_path):
    _, out = planted
    findings = reported(out, tmp_path / "page.html")
    assert [finding.split(":")[0] for finding in findings] == ["leaking", "clean"]

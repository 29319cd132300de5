"""`jaxcam compare`: its figures are the library's, its summary is their mean, a control stands beside the methods."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from cli_helpers import refused, reported, successful, table

import jaxcam as jc
from jaxcam.attribution.methods import METHODS
from jaxcam.cli.figures_of_quality import cells, control, markdown, summary
from jaxcam.cli.methods import maps_of
from jaxcam.cli.networks import open_network

MODEL = ("--model", "tinynet:make", "--image-size", 8)
FIGURES = ("--figure", "deletion", "--figure", "average_drop")


@pytest.fixture(scope="module")
def compared(workplace, photos, tmp_path_factory):
    """One run on a folder of five pictures, two to a batch."""
    place = tmp_path_factory.mktemp("compared")
    said = successful(
        workplace,
        *("compare", photos / "dog", *MODEL, "--method", "saliency", "--method", "occlusion", *FIGURES),
        *("--option", "window=4", "--option", "stride=2", "--steps", 4, "--batch", 2, "--out", place / "run"),
    )
    return said, place / "run"


def test_a_run_holds_its_files_and_no_others(compared):
    _, run = compared
    names = ["figures.csv", "manifest.json", "summary.csv", "summary.md", "summary.png"]
    assert sorted(path.name for path in run.iterdir()) == names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["files"] == ["figures.csv", "summary.csv", "summary.md", "summary.png"]
    assert manifest["data"]["count"] == 5
    assert [row["method"] for row in manifest["results"]["methods"]] == ["saliency", "occlusion", "random"]


def test_its_figures_are_those_of_the_library(compared, workplace, photos, monkeypatch):
    monkeypatch.chdir(workplace)
    _, run = compared
    model = open_network("tinynet:make").model
    x = jnp.asarray(np.stack([jc.data.read_image(photos / f"dog/{i}.png", 8, channels=1) for i in range(5)]))
    target = model(x).argmax(-1)
    maps = jc.saliency(model, x)
    expected = {
        "deletion": jc.quality.deletion(model, x, maps, target, steps=4).area,
        "average_drop": jc.quality.average_drop(model, x, maps, target),
    }
    rows = table(run / "figures.csv")
    assert len(rows) == 3 * 2 * 5
    for name, values in expected.items():
        found = {r["image"]: float(r["value"]) for r in rows if (r["method"], r["figure"]) == ("saliency", name)}
        np.testing.assert_allclose([found[str(i)] for i in range(5)], values, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("short", "count", "timed", "asked"), [(60, 5, True, 4), (0, 5, True, 3), (0, 2, True, 1), (60, 5, False, 3)]
)
def test_only_a_short_first_batch_is_asked_twice_to_be_timed(monkeypatch, short, count, timed, asked):
    calls = []
    monkeypatch.setattr("jaxcam.cli.methods.SHORT", short)
    monkeypatch.setattr("jaxcam.cli.methods.asking", lambda *_: lambda x, _: calls.append(1) or jnp.asarray(x))
    saliency, images = METHODS["saliency"], np.zeros((count, 4, 4, 1), np.float32)
    target = np.zeros(count, int)
    maps, seconds, _ = maps_of([saliency], None, images, target, {"saliency": {}}, batch=2, timed=timed)
    assert len(calls) == asked
    assert maps["saliency"].shape == images.shape
    assert seconds["saliency"] > 0


def test_its_summary_is_the_mean_of_its_figures_and_times_stand_in_the_manifest(compared):
    said, run = compared
    rows = table(run / "figures.csv")
    timed = {row["method"]: row for row in json.loads((run / "manifest.json").read_text())["results"]["methods"]}
    for row in table(run / "summary.csv"):
        for name in ("deletion", "average_drop"):
            own = [float(r["value"]) for r in rows if (r["method"], r["figure"]) == (row["method"], name)]
            assert float(row[name]) == pytest.approx(np.mean(own))
        assert "seconds" not in row  # no two runs have them alike
        seconds = timed[row["method"]]["seconds"]
        assert seconds is None if row["method"] == "random" else seconds > 0
        assert row["blank"] == "0"
    page = (run / "summary.md").read_text()
    assert page.startswith("| method | deletion ↓ | average_drop ↓ |\n")
    assert page.count("**") == 4  # the best of each figure
    assert "Means over 5 images" in page
    assert "; bold: the best method, the control aside; random: maps that know nothing." in page
    assert said.out.splitlines()[0].split() == ["method", "deletion", "↓", "average_drop", "↓", "s/image"]
    assert said.out.splitlines()[-1] == str(run)


def test_a_blank_map_has_no_figure_and_is_counted():
    found = {
        "cam": {"deletion": np.array([0.2, np.nan]), "insertion": np.array([0.5, np.nan])},
        "blank": {"deletion": np.array([np.nan] * 2), "insertion": np.array([np.nan] * 2)},
        "random": {"deletion": np.array([0.1, 0.1]), "insertion": np.array([0.1, 0.3])},
    }
    rows = summary(found, {"cam": 0.5, "blank": 1.0})
    assert rows[0] == {"method": "cam", "deletion": 0.2, "insertion": 0.5, "seconds": 0.5, "blank": 1}
    assert rows[1]["deletion"] is None
    header, lines = cells(rows, ["deletion", "insertion"])
    assert header == ["method", "deletion ↓", "insertion ↑", "s/image", "blank maps"]
    assert lines[1] == ["blank", "–", "–", "1.00", "2"]
    # The control is never the best, whatever its numbers.
    assert "| cam | **0.200** | **0.500** | 1 |" in markdown(rows, ["deletion", "insertion"], 2)


def test_the_control_knows_nothing_and_is_the_same_for_a_seed():
    images = np.zeros((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(control(images, 3), control(images, 3))
    assert not np.array_equal(control(images, 3), control(images, 4))
    assert not np.array_equal(*control(images, 3))
    assert control(images, 0).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--figure", "deltion"), "no figure 'deltion'; did you mean 'deletion'? There are deletion, insertion, "),
        (("--method", "rice"), "no method 'rice'; did you mean 'rise'?"),
        (("--method", "saliency", "--option", "window=3"), "--option window=3: saliency has no option 'window'"),
        (("--method", "saliency", "--steps", 65), "steps is at most the number of pixels, 64; got 65"),
        (("--method", "saliency", "--target", "11"), "--target 11 is out of range: the network has 10 outputs"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(jaxcam, photos, tmp_path, words, line):
    said = refused(jaxcam("compare", photos / "dog/1.png", *MODEL, *words, "--out", tmp_path / "run"))
    assert said.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_takes_pictures_evenly(jaxcam, photos, tmp_path):
    words = (*MODEL, "--method", "saliency", "--figure", "average_increase", "--limit", 3, "--out", tmp_path / "run")
    said = jaxcam("compare", photos, *words)
    assert said.code == 0, said
    rows = json.loads((tmp_path / "run/manifest.json").read_text())["results"]["images"]
    assert [row["file"].removeprefix(f"{photos}/") for row in rows] == ["cat/0.png", "cat/5.png", "dog/0.png"]


def test_its_report_says_what_was_found(compared, tmp_path):
    _, run = compared
    rows = table(run / "summary.csv")
    low = min(rows, key=lambda row: float(row["deletion"]))
    assert reported(run, tmp_path / "page.html")[0] == (
        f"By deletion, best is {low['method']} ({float(low['deletion']):.3f})."
    )

"""`jaxcam distributions`: its numbers are the library's, corrected together; what is wrong is said in one line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from cli_helpers import refused, reported, successful, table

import jaxcam as jc
from jaxcam.cli import laws
from jaxcam.cli.networks import open_network
from jaxcam.studies.monte_carlo import corrections

MODEL = ("--model", "tinynet:make", "--image-size", 8)
LAYERS = ("--layer", "conv0", "--layer", "conv1")


@pytest.fixture(scope="module")
def tested(workplace, photos, tmp_path_factory):
    """One run on five pictures, two to a batch."""
    place = tmp_path_factory.mktemp("tested")
    said = successful(
        workplace,
        *("distributions", photos / "dog", *MODEL, *LAYERS, "--draws", 899, "--correction", "holm"),
        *("--seed", 3, "--batch", 2, "--out", place / "run"),
    )
    return said, place / "run"


def test_a_run_holds_its_files_and_no_others(tested):
    _, run = tested
    names = ["distributions.csv", "distributions.png", "manifest.json", "summary.csv", "values.npz"]
    assert sorted(path.name for path in run.iterdir()) == names
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["data"]["count"] == 5
    assert len(manifest["results"]["layers"]) == 9  # three layers, three laws


def test_its_numbers_are_those_of_the_library_corrected_together(tested, workplace, photos, monkeypatch):
    monkeypatch.chdir(workplace)
    _, run = tested
    model = open_network("tinynet:make").model
    x = jnp.asarray(np.stack([jc.data.read_image(photos / f"dog/{i}.png", 8, channels=1) for i in range(5)]))
    values = jc.studies.layer_values(model, x, ["conv0", "conv1"])
    rows = table(run / "distributions.csv")
    assert len(rows) == 5 * 3 * 3
    with np.load(run / "values.npz") as found:
        assert found["conv0"].shape == (5, 64)
        for layer, expected in values.items():
            np.testing.assert_allclose(found[layer], expected, rtol=1e-4, atol=1e-6)
            key = jax.random.fold_in(jax.random.key(3), list(values).index(layer))
            one = jc.studies.distributions(found[layer], key=key, draws=899)
            for law in ("norm", "lognorm", "logistic"):
                own = [row for row in rows if (row["layer"], row["law"]) == (layer, law)]
                np.testing.assert_allclose([float(row["p"]) for row in own], one.pvalue[law])
                np.testing.assert_allclose([float(row["D"] or "nan") for row in own], one.statistic[law])
                if law != "lognorm":
                    np.testing.assert_allclose([float(row["published"]) for row in own], one.published[law])
    pvalues = np.array([float(row["p"]) for row in rows])
    np.testing.assert_allclose([float(row["p_corrected"]) for row in rows], corrections(pvalues, "holm"))


def test_its_summary_counts_what_is_not_rejected(tested):
    said, run = tested
    rows = table(run / "distributions.csv")
    for line in table(run / "summary.csv"):
        own = [row for row in rows if (row["layer"], row["law"]) == (line["layer"], line["law"])]
        assert int(line["not rejected"]) == sum(float(row["p_corrected"]) > 0.05 for row in own)
    assert said.out.splitlines()[0].split()[:4] == ["layer", "values", "law", "published"]
    assert said.out.splitlines()[-1] == str(run)


def test_its_picture_is_not_blank(tested):
    with PIL.Image.open(tested[1] / "distributions.png") as picture:
        assert (np.ptp(np.asarray(picture.convert("RGB"), int), axis=-1) > 60).mean() > 0.003


def test_a_constant_stage_is_named_with_its_image():
    values = {"conv0": np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])}
    with pytest.raises(ValueError, match="conv0 has the same value everywhere on dog: it has no distribution"):
        laws.measured(values, ["cat", "dog"], 0, 9, progress=False)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--layer", "conv9"), "no layer 'conv9'; did you mean 'conv"),
        (("--image-size", 0), "Invalid value for '--image-size': 0 is too small; give 1 or more"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_left(jaxcam, photos, tmp_path, words, line):
    words = ("distributions", photos / "dog", *MODEL, *words, "--draws", 9, "--out", tmp_path / "run")
    said = refused(jaxcam(*words), 2 if "Invalid" in line else 1)
    assert said.startswith(line)
    assert not (tmp_path / "run").exists()


def test_its_report_says_what_was_found(tested, tmp_path):
    _, run = tested
    assert reported(run, tmp_path / "page.html")[0].startswith("conv0: of 5 images, not rejected at 5 %: norm on ")

"""A network of more outputs than the data has classes: all of them compete, unless a user says otherwise, and it is
said which did, in every table, figure, manifest and page."""

import html
import json
import shutil

import jax
import numpy as np
import PIL.Image
import pytest
from cli_helpers import refused, run_here, table

import jaxcam as jc
from jaxcam.cli.examples import pictures
from jaxcam.cli.networks import open_network
from jaxcam.data import load
from jaxcam.neurons import class_averages, open_sweep
from jaxcam.studies import classification_loss
from jaxcam.viewing.report import report

CROWD = """
import jax
from flax import nnx


class Crowd(nnx.Module):
    # Six outputs; the data's classes are 4 (cat) and 1 (dog), and 2 is what it predicts nearly always.
    def __init__(self, rngs):
        self.conv0 = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.conv1 = nnx.Conv(8, 6, (3, 3), rngs=rngs)
        self.head = nnx.Linear(6, 6, rngs=rngs)
        self.head.bias[...] = self.head.bias[...].at[2].set(2.0)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv1(jax.nn.relu(self.conv0(x)))).mean((1, 2)) * 4)


def make():
    return Crowd(nnx.Rngs(0))
"""
OWN = [4, 1]
ALL, DATA = "all 6 outputs", "the 2 outputs of the data’s classes only, of 6"
WORDS = {"all": ALL, "data": DATA}


def softmax(z):
    odds = np.exp(z - z.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def crowd(workplace, photos):
    """The words by which a command is told of the network and its data."""
    (workplace / "crowd.py").write_text(CROWD)
    return ("--model", "crowd:make", "--data", photos, "--image-size", 8)


@pytest.fixture(scope="module")
def read(workplace, crowd, photos, tmp_path_factory):
    """Averages, units and pruning, with all outputs and with those of the data."""
    place = tmp_path_factory.mktemp("read")
    said = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        for kind in ("all", "data"):
            out = place / kind
            words = ("--candidates", kind) if kind == "data" else ()  # all is the default
            told = (*crowd, "--outputs", "4,1", "-k", 3, "--steps", 4, *words)
            said[kind] = {
                "averages": run_here("averages", *told, "--out", out / "averages"),
                "neurons": run_here("neurons", "--averages", out / "averages", "--out", out / "neurons"),
                "prune": run_here(
                    *("prune", "--neurons", out / "neurons", "--split", "train", "--seeds", 2, *words),
                    *("--out", out / "prune"),
                ),
            }
            for command, one in said[kind].items():
                assert one.code == 0, (command, one)
    return said, place


@pytest.fixture
def network(workplace, crowd, monkeypatch):
    monkeypatch.chdir(workplace)
    return open_network("crowd:make").model


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.mark.parametrize("kind", ["all", "data"])
def test_confidences_are_over_what_competes(read, network, kind):
    run = read[1] / kind / "averages"
    with np.load(run / "averages.npz") as images, np.load(run / "confidence.npz") as confidence:
        results = manifest(run)["results"]
        for average in images.files:
            z = np.asarray(network(images[average]), np.float64)
            p = softmax(z if kind == "all" else z[:, OWN])
            np.testing.assert_allclose(confidence[average], p, rtol=1e-4)
            own = p[[0, 1], OWN if kind == "all" else [0, 1]]
            np.testing.assert_allclose(results["own_confidence"][average], own, rtol=1e-4)
        assert results["candidates"] == {
            "kind": kind,
            "count": 6 if kind == "all" else 2,
            "available": 6,
            "outputs": OWN,
        }
        assert results["pictures"]["most"]["competing"] == results["candidates"]["count"]
    model = manifest(run)["model"]
    assert model["outputs"] == OWN
    assert model["candidates"]["kind"] == kind


@pytest.mark.parametrize("kind", ["all", "data"])
def test_the_images_chosen_are_the_most_confident_among_what_competes(read, network, photos, kind):
    images, labels, _ = load(str(photos), "train", image_size=8)
    outputs = list(range(6)) if kind == "all" else OWN
    z = np.asarray(network(images), np.float64)
    labels = np.array(OWN)[labels]
    with np.load(read[1] / kind / "averages" / "averages.npz") as found:
        p = softmax(z[:, outputs])
        for place, own in enumerate(OWN):
            rows = sorted(np.flatnonzero(labels == own), key=lambda i: p[i, outputs.index(own)])
            np.testing.assert_allclose(found["most"][place], images[rows[-3:]].mean(0), atol=1e-6)
        expected = class_averages(
            images, labels, "ascent", network, classes=OWN, candidates=outputs, threshold=1e-9, progress=False
        )
        np.testing.assert_allclose(found["simple"], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["all", "data"])
def test_accuracies_are_among_what_competes(read, network, photos, kind):
    images, labels, _ = load(str(photos), "train", image_size=8)
    outputs = np.arange(6) if kind == "all" else np.array(OWN)
    expected = (outputs[np.asarray(network(images))[:, outputs].argmax(1)] == np.array(OWN)[labels]).mean()
    run = read[1] / kind / "prune"
    assert manifest(run)["results"]["accuracy"] == pytest.approx(expected)
    assert {row["competing"] for row in table(run / "pruning.csv")} == {str(len(outputs))}
    assert f"accuracy {expected:.3f} among {WORDS[kind]}; without" in read[0][kind]["prune"].out


def test_the_two_readings_differ_here(read):
    own = [manifest(read[1] / kind / "averages")["results"]["own_confidence"] for kind in ("all", "data")]
    assert np.max(own[0]["simple"]) < 0.5 < np.max(own[1]["simple"])
    accuracies = [manifest(read[1] / kind / "prune")["results"]["accuracy"] for kind in ("all", "data")]
    assert accuracies[0] < accuracies[1]


@pytest.mark.parametrize("kind", ["all", "data"])
def test_which_outputs_compete_is_named_wherever_it_is_shown(read, tmp_path, kind):
    said, place = read
    assert f"\nconfidence: softmax over {WORDS[kind]}\n" in said[kind]["averages"].out
    page = html.unescape(report(place / kind, tmp_path / "page.html").read_text())
    assert f"a softmax over {WORDS[kind]}." in page
    assert f"among {WORDS[kind]}" in page
    assert f"An answer is the largest among {WORDS[kind]}; accuracy is the share of right ones." in page
    assert WORDS["data" if kind == "all" else "all"] not in page
    assert ("The last column has what all other outputs have together." in page) == (kind == "all")
    folder = tmp_path / "atlas"
    assert run_here("report", place / kind, "--out", folder, "--quiet").code == 0
    pages = {path.name: html.unescape(path.read_text()) for path in folder.glob("*.html")}
    shown = [path.read_text() for path in (folder / "data").glob("layer-*.js")]
    assert f"the network’s answers to it: a softmax over {WORDS[kind]}." in pages["class-0.html"]
    assert f"among {WORDS[kind]}" in pages["index.html"]
    assert all(f"the accuracy, among {WORDS[kind]}," in json.loads(f'"{text}"') for text in costs(shown))


def costs(scripts):
    found = [part.split('"')[0] for script in scripts for part in script.split('"said":"')[1:]]
    assert found
    return found


def test_the_page_does_not_say_recognized_of_what_the_network_takes_for_something_else(read, tmp_path):
    page = html.unescape(report(read[1] / "all" / "averages", tmp_path / "all.html").read_text())
    assert f"recognizes 0 of 2 among {ALL}; takes “" in page
    assert "for “class 2” (" in page
    page = html.unescape(report(read[1] / "data" / "averages", tmp_path / "data.html").read_text())
    assert f" of 2 among {DATA}; takes" in page or f"recognizes all 2 among {DATA}" in page


def test_a_run_of_before_is_still_read_and_its_reading_named(read, tmp_path, jaxcam):
    _, place = read
    for name in ("averages", "neurons", "prune"):
        run = tmp_path / "old" / name
        run.parent.mkdir(exist_ok=True)
        shutil.copytree(place / "data" / name, run)
        entry = manifest(run)
        del entry["model"]["candidates"]
        for key in ("candidates", "pictures", "output_names"):
            entry["results"].pop(key, None)
        del entry["checksums"], entry["seal"]
        (run / "manifest.json").write_text(json.dumps(entry))
    rows = (tmp_path / "old/prune/pruning.csv").read_text().splitlines()
    (tmp_path / "old/prune/pruning.csv").write_text("\n".join(row.rpartition(",")[0] for row in rows) + "\n")
    page = html.unescape(report(tmp_path / "old", tmp_path / "page.html").read_text())
    words = "the 2 outputs of the data’s classes only"
    assert f"a softmax over {words}." in page
    assert f"the largest among {words}; accuracy" in page
    assert jaxcam("report", tmp_path / "old", "--out", tmp_path / "atlas", "--quiet").code == 0
    # What is made from it goes on with its reading, and says so; pruning counts all outputs again.
    assert jaxcam("neurons", "--averages", tmp_path / "old/averages", "--out", tmp_path / "n").code == 0
    assert manifest(tmp_path / "n")["model"]["candidates"]["kind"] == "data"
    new, old = (open_sweep(one / "sweep.zarr") for one in (tmp_path / "n", place / "data/neurons"))
    np.testing.assert_array_equal(new.similarity("conv1"), old.similarity("conv1"))
    words = ("prune", "--neurons", tmp_path / "old/neurons", "--split", "train", "--seeds", 2)
    said = jaxcam(*words, "--out", tmp_path / "p")
    assert said.out.splitlines()[0] == read[0]["all"]["prune"].out.splitlines()[0]
    assert f"among {ALL};" in said.out


@pytest.mark.parametrize("kind", ["all", "data"])
def test_a_landscape_is_of_the_loss_over_what_competes(jaxcam, crowd, network, photos, tmp_path, kind):
    words = ("--outputs", "4,1", "--candidates", kind, "--dimensions", 1, "--points", 3, "--out", tmp_path / "run")
    said = jaxcam("landscape", *crowd, *words)
    assert said.code == 0, said
    images, labels, _ = load(str(photos), "train", image_size=8)
    outputs = list(range(6)) if kind == "all" else OWN
    p = softmax(np.asarray(network(images), np.float64)[:, outputs])
    loss = -np.log(p[np.arange(len(labels)), [outputs.index(OWN[label]) for label in labels]]).mean()
    results = manifest(tmp_path / "run")["results"]
    assert results["center"] == pytest.approx(loss, rel=1e-4)
    assert results["candidates"]["kind"] == kind
    assert f"softmax over {WORDS[kind]}" in said.out
    page = html.unescape(report(tmp_path / "run", tmp_path / "page.html").read_text())
    assert f"cross-entropy of a softmax over {WORDS[kind]}." in page
    if kind == "all":
        whole = classification_loss(images, np.array(OWN)[labels])(network)
        assert float(whole) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", ["all", "data"])
def test_a_leak_check_counts_answers_among_what_competes(jaxcam, crowd, network, photos, tmp_path, kind):
    words = ("--region", "0,0,3,3", "--explained", 2, "--samples", 4, "--outputs", "4,1", "--candidates", kind)
    said = jaxcam("leak-check", *crowd, *words, "--out", tmp_path / "run")
    assert said.code == 0, said
    images, labels, _ = load(str(photos), "test", image_size=8)
    outputs = np.arange(6) if kind == "all" else np.array(OWN)
    right = (outputs[np.asarray(network(images))[:, outputs].argmax(1)] == np.array(OWN)[labels]).mean()
    results = manifest(tmp_path / "run")["results"]
    assert results["checks"][0]["accuracy"] == pytest.approx(right)
    assert f"images, among {WORDS[kind]}" in said.out
    page = html.unescape(report(tmp_path / "run", tmp_path / "page.html").read_text())
    assert f", among {WORDS[kind]}." in page


def test_concepts_and_clusters_explain_the_output_of_the_class(jaxcam, crowd, network, tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("cat", 13), ("dog", 26)):
        (tmp_path / "many" / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(tmp_path / "many" / name / f"{number}.png")
    told = ("--model", "crowd:make", "--data", tmp_path / "many", "--image-size", 8, "--outputs", "4,1")
    told = (*told, "--target", "cat", "--split", "train")
    images, labels, _ = load(str(tmp_path / "many"), "train", image_size=8)
    cats = images[labels == 0]

    said = jaxcam("clusters", *told, "--groups", 1, "--seed", 1, "--out", tmp_path / "clusters")
    assert said.code == 0, said
    with np.load(tmp_path / "clusters/clusters.npz") as found:
        expected = np.asarray(jc.lrp(network, jax.numpy.asarray(cats), 4))
        np.testing.assert_allclose(found["maps"], expected, atol=1e-5 * np.abs(expected).max())

    words = ("--concept", "stripes", "--layer", "conv1", "--random-concepts", 19, "--out", tmp_path / "concepts")
    said = jaxcam("concepts", *told, *words)
    assert said.code == 0, said
    (row,) = table(tmp_path / "concepts/concepts.csv")
    options = {"layers": "conv1", "key": jax.random.key(0), "random_concepts": 19}
    stripes = pictures(["stripes"], (8, 8, 3), 0)
    (test,) = jc.studies.concepts(network, cats, 4, stripes, images[labels != 0], **options)
    assert float(row["rise"]) == pytest.approx(test.rise, rel=1e-4)


def test_where_the_data_has_all_classes_both_readings_are_one(jaxcam, workplace, tmp_path):
    words = ("averages", "--model", "tinynet:make", "--data", "digits", "--image-size", 8, "--kind", "simple")
    said = [jaxcam(*words, "--candidates", kind, "--out", tmp_path / kind).out for kind in ("all", "data")]
    assert said[0].replace("/all", "") == said[1].replace("/data", "")
    assert "softmax over all 10 outputs" in said[0]


def test_json_says_which_outputs_compete(jaxcam, crowd, tmp_path):
    words = ("--outputs", "4,1", "--kind", "simple", "--json", "--out", tmp_path / "run")
    found = json.loads(jaxcam("averages", *crowd, *words).out)
    assert found["candidates"] == {"kind": "all", "count": 6, "available": 6, "outputs": OWN}
    assert len(found["output_names"]) == 6


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("averages", "--outputs", "4,4"),
            "has 2 classes for the one output 4 of crowd:make, 'cat', 'dog'; put their images in one folder",
        ),
        (("leak-check", "--candidates", "data"), "--candidates is for a trained network and a --region or --mask"),
        (("leak-check", "--outputs", "4,1"), "--outputs says nothing about a leak that is planted"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(jaxcam, crowd, photos, tmp_path, words, line):
    assert line in refused(jaxcam(words[0], *crowd, *words[1:], "--out", tmp_path / "run"))


def test_units_take_the_reading_of_their_averages(jaxcam, read, tmp_path):
    words = ("neurons", "--averages", read[1] / "all/averages", "--candidates", "data", "--out", tmp_path / "run")
    assert refused(jaxcam(*words)) == "--candidates says nothing about --averages, which has it; leave it out"

"""Every command, one after another, on a network of a user's own: what each leaves, and what the next one reads."""

import ast
import base64
import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import xarray
from cli_helpers import TRAIN, refused, run_here

from jaxcam import cli as jaxcam_cli
from jaxcam import models
from jaxcam.cli.networks import open_network
from jaxcam.cli.run_directory import ATLAS, MARK, RESULTS, clear
from jaxcam.data import load
from jaxcam.neurons import open_sweep
from jaxcam.program import tap
from jaxcam.viewing.atlas import building


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.mark.parametrize("command", ["train", "averages", "neurons", "prune"])
def test_every_run_has_a_manifest_that_says_what_was_done_with_what(runs, workplace, command):
    found = manifest(workplace / "runs" / command)
    assert found["command"] == command
    assert found["arguments"]["out"] == f"runs/{command}"
    assert set(found["versions"]) == {"jaxcam", "jax", "flax", "numpy", "python"}
    assert found["model"]["name"] == "tinynet:make"
    assert found["model"]["parameters"] == 6 * 10 + 8 * 55 + 90
    assert found["data"]["name"] == "digits"
    assert len(found["data"]["fingerprint"]) == 64
    assert found["seconds"] > 0


@pytest.mark.parametrize("command", ["train", "averages", "neurons", "prune"])
def test_a_run_holds_its_files_and_no_others(runs, workplace, command):
    run = workplace / "runs" / command
    listed = manifest(run)["files"]
    assert {path.name for path in run.iterdir()} == {*listed, "manifest.json"}
    expected = {
        "train": ["model.safetensors", "history.csv", "history.png"],
        "averages": ["averages.npz", "confidence.npz", "averages.png", "confidence.png"],
        "neurons": ["sweep.zarr", "similarity.csv", "similarity.png", "dead_units.png", "extremes"],
        "prune": ["pruning.csv", "pruning.png"],
    }
    assert [name for name in listed if name != "tensorboard"] == expected[command]


def test_training_reports_the_accuracy_of_each_class(runs, workplace):
    results = manifest(workplace / "runs/train")["results"]
    assert results["epoch"] == 3
    assert list(results["per_class_accuracy"]) == results["classes"] == list("0123456789")
    counts = np.full(10, 20)  # --limit takes as many of each class
    mean = np.average(list(results["per_class_accuracy"].values()), weights=counts)
    assert mean == pytest.approx(results["test_accuracy"])
    assert f"{results['test_accuracy']:.1%} of 200 test images" in runs["train"].out


def test_averages_of_all_kinds_come_with_their_confidences(runs, workplace):
    with (
        np.load(workplace / "runs/averages/averages.npz") as images,
        np.load(workplace / "runs/averages/confidence.npz") as confidence,
    ):
        assert images.files == confidence.files == ["simple", "most", "least", "ascent"]
        assert {images[kind].shape for kind in images.files} == {(10, 8, 8, 1)}
        for kind in confidence.files:
            np.testing.assert_allclose(confidence[kind].sum(1), 1, rtol=1e-5)
        assert np.diag(confidence["most"]).mean() > np.diag(confidence["least"]).mean()
        own = manifest(workplace / "runs/averages")["results"]["own_confidence"]
        np.testing.assert_allclose(own["ascent"], np.diag(confidence["ascent"]))


def test_the_sweep_is_about_the_averages_of_the_run_it_was_given(runs, workplace):
    sweep = open_sweep(workplace / "runs/neurons/sweep.zarr")
    with np.load(workplace / "runs/averages/averages.npz") as images:
        np.testing.assert_array_equal(sweep.average, images["most"])
    assert sweep.layers == ["conv0", "conv1"]
    assert sweep.attrs["average"] == "most"
    assert sweep.attrs["model"]["name"] == "tinynet:make"
    assert sweep.attrs["data"]["name"] == "digits"
    layer = xarray.open_zarr(workplace / "runs/neurons/sweep.zarr", group="conv1")
    assert layer.similarity.sizes == {"class": 10, "unit": 8}


def test_the_table_of_similarities_is_the_store_line_by_line(runs, workplace):
    sweep = open_sweep(workplace / "runs/neurons/sweep.zarr")
    with open(workplace / "runs/neurons/similarity.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 * (6 + 8)
    row = next(row for row in rows if (row["class"], row["layer"], row["unit"]) == ("7", "conv1", "5"))
    assert np.float32(row["similarity"]) == sweep.similarity("conv1")[7, 5]
    assert np.float32(row["activation"]) == sweep.activation("conv1")[7, 5]
    assert bool(int(row["dead"])) == sweep.dead("conv1")[7, 5]


def test_pruning_prints_a_line_for_each_layer(runs, workplace):
    lines = runs["prune"].out.splitlines()
    accuracy = manifest(workplace / "runs/prune")["results"]["accuracy"]
    assert lines[0].startswith(f"accuracy {accuracy:.3f}")
    assert [line.split()[0] for line in lines if line.startswith("conv")] == ["conv0", "conv1"]
    ways = "most similar  least similar  random"
    header = "  ".join(re.split(" {2,}", lines[2]))
    assert header == f"layer  all units:  {ways}  |  live units, of them:  {ways}"
    assert [line.split("|")[1].split()[0] for line in lines[3:5]] == [
        str(layer["live"]) for layer in manifest(workplace / "runs/prune")["results"]["layers"]
    ]
    assert runs["neurons"].out.splitlines()[0].endswith("dead, mean over classes")


def test_the_pruned_network_is_the_one_that_was_trained(runs, workplace):
    assert manifest(workplace / "runs/prune")["results"]["accuracy"] == pytest.approx(
        manifest(workplace / "runs/train")["results"]["test_accuracy"]
    )


def exciting_images(workplace, layer, count):
    """The images of the training that excite each unit, from its activations."""
    network = open_network(str(workplace / "runs/train"))
    images = load("digits", "train", image_size=8, limit=200).images
    values = np.asarray(tap(network.model, layer)(np.asarray(images, np.float32))).max((1, 2))
    order = np.argsort(-values, axis=0, kind="stable")[:count].T
    return [{int(i) for i in images if values[i, unit] > 0} for unit, images in enumerate(order)]


def test_the_report_is_a_folder_about_all_four_runs(runs, workplace):
    folder = workplace / "runs/report"
    page = (folder / "summary.html").read_text()
    assert "tinynet:make" in page
    assert all(f"jaxcam {command}" in page for command in ("train", "averages", "neurons", "prune"))
    assert runs["report"].out.strip() == "runs/report/index.html"
    sweep = open_sweep(workplace / "runs/neurons/sweep.zarr")
    for number, layer in enumerate(sweep.layers):
        script = (folder / f"data/layer-{number}.js").read_text()
        found = json.loads(script.removeprefix("atlas.layer = ").removesuffix(";\n"))
        places = np.frombuffer(base64.b64decode(found["places"]), "<i2").reshape(10, -1)
        # The network was opened again: every unit that is not dead has a picture.
        assert np.array_equal(places < 0, sweep.dead(layer))
        assert all((folder / file).is_file() for file in found["files"] if file)
        shown = [{image for image in images if image >= 0} for images in found["real"]]
        assert shown == exciting_images(workplace, layer, len(found["real"][0]))


def test_units_whose_network_is_gone_show_the_maps_that_the_sweep_kept(runs, jaxcam, workplace, tmp_path):
    place = tmp_path / "neurons"
    shutil.copytree(workplace / "runs/neurons", place)
    found = json.loads((place / "manifest.json").read_text())
    found["model"]["source"]["spec"] = "nowhere"
    (place / "manifest.json").write_text(json.dumps(found))
    said = jaxcam("report", place)
    assert said.code == 0, said
    assert said.err.startswith("the network could not be opened, so only the maps that the sweep keeps are shown: ")
    assert "nowhere" in (place / "report/layer-0.html").read_text()
    assert "nowhere" in refused(jaxcam("report", place, "--units", "all", "--out", tmp_path / "all"))


def test_the_extreme_units_alone_are_shown_without_real_images_if_asked(runs, jaxcam, workplace, tmp_path):
    said = jaxcam("report", "runs/neurons", "--units", "extreme", "--images", 0, "--out", tmp_path / "atlas")
    assert said.code == 0, said
    script = (tmp_path / "atlas/data/layer-1.js").read_text()
    found = json.loads(script.removeprefix("atlas.layer = ").removesuffix(";\n"))
    assert found["real"] is None
    places = np.frombuffer(base64.b64decode(found["places"]), "<i2").reshape(10, -1)
    extreme, _ = open_sweep(workplace / "runs/neurons/sweep.zarr").extremes("conv1")
    assert [set(np.flatnonzero(row >= 0)) for row in places] == [set(row[row >= 0]) for row in extreme]


def test_an_atlas_does_not_replace_what_it_did_not_write(runs, jaxcam, workplace, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    said = refused(jaxcam("report", "runs", "--out", tmp_path / "mine"))
    assert said.endswith("mine holds files that no atlas wrote; give another folder for the atlas")
    assert refused(jaxcam("report", "runs", "--out", "runs/train")).endswith(
        "runs/train holds a run; give another folder for the atlas"
    )


def test_a_run_that_is_replaced_takes_its_atlas_with_it_and_nothing_else(tmp_path):
    for folder, name in (("ours", MARK), ("theirs", "notes.txt")):
        run = tmp_path / folder
        (run / ATLAS).mkdir(parents=True)
        (run / ATLAS / name).write_text("{}")
        (run / ".report.building").mkdir()
        (run / "manifest.json").write_text(json.dumps({"command": "prune"}))
        clear(run)
    assert not list((tmp_path / "ours").iterdir())
    # Beside a file of somebody else's, run.json says whose run stood here.
    assert {path.name for path in (tmp_path / "theirs").rglob("*")} == {ATLAS, "run.json", "notes.txt"}
    assert (ATLAS, MARK) == (building.FOLDER, building.MARK)


def test_neurons_computes_averages_of_its_own_where_no_run_is_given(runs, jaxcam, workplace, tmp_path):
    said = jaxcam("neurons", "--model", "runs/train", "-k", 5, "--layer", "conv1", "--out", tmp_path / "own")
    assert said.code == 0, said
    own, given = (open_sweep(run / "sweep.zarr") for run in (tmp_path / "own", workplace / "runs/neurons"))
    assert own.layers == ["conv1"]
    np.testing.assert_array_equal(own.similarity("conv1"), given.similarity("conv1"))


def test_fewer_bits_and_less_memory_are_told_of(runs, jaxcam, tmp_path):
    words = ("neurons", "--averages", "runs/averages", "--layer", "conv1", "--out", tmp_path / "run")
    said = jaxcam(*words, "--precision", "bfloat16", "--memory", "1000GB")
    assert said.code == 0, said
    results = manifest(tmp_path / "run")["results"]
    assert results["memory"]["budget"] == 10**12
    assert f"peak memory {results['memory']['peak'] / 1e9:.1f} GB of 1000.0 GB" in said.out
    found, exact = (
        open_sweep(run / "sweep.zarr").similarity("conv1") for run in (tmp_path / "run", Path("runs/neurons"))
    )
    change = results["precision"]["layers"]["conv1"]
    assert change["largest_difference"] == pytest.approx(np.abs(found - exact)[0].max(), rel=1e-4)
    assert f"bfloat16 against float32, class {results['precision']['class']}: rank correlation from" in said.out


def test_a_finished_training_can_be_trained_further(runs, jaxcam, tmp_path):
    words = [word if word != "tinynet:make" else "runs/train" for word in TRAIN]
    said = jaxcam(*words, "--out", tmp_path / "further")
    assert said.code == 0, said
    first, further = (manifest(run)["results"]["train_loss"] for run in (Path("runs/train"), tmp_path / "further"))
    assert further < first


@pytest.mark.slow
def test_the_first_convolutions_alone_can_be_trained(jaxcam, tmp_path):
    words = ("--image-size", 8, "--limit", 20, "--epochs", 1, "--convolutions", 1, "--quiet")
    said = jaxcam("train", *words, "--keep-every", 1, "--out", tmp_path / "cut")
    assert said.code == 0, said
    assert said.err == ""
    assert models.load(tmp_path / "cut/model.safetensors").config.convolutions == 1
    assert (tmp_path / "cut/epochs/epoch_001.safetensors").is_file()
    # The network, the data and their limit are all known from the run.
    assert jaxcam("averages", "--model", tmp_path / "cut", "--kind", "simple", "--out", tmp_path / "averages").code == 0
    assert manifest(tmp_path / "averages")["data"]["count"] == 20


def test_layers_lists_names_kinds_shapes_units_parameters_work_and_fields(jaxcam):
    said = jaxcam("layers", "vgg11", "--image-size", 32, "--classes", 10)
    assert said.code == 0
    assert "9,488,266 parameters" in said.out
    rows = [line.split() for line in said.out.splitlines()]
    row = ["features.conv7", "conv", "2", "×", "2", "×", "512", "512", "2,359,808", "18.87", "134", "×", "134"]
    assert row in rows
    assert "0.31 GFLOP" in said.out


def test_layers_draws_the_weights_of_a_network(jaxcam, tmp_path):
    words = ("layers", "tinynet:make", "--image-size", 8, "--channels", 1)
    assert jaxcam(*words, "--weights", tmp_path / "net.png").code == 0
    with PIL.Image.open(tmp_path / "net.png") as picture:
        assert np.ptp(np.asarray(picture.convert("L"))) > 100
    assert "must end in .pdf, .png, .svg" in refused(jaxcam(*words, "--weights", tmp_path / "net.jpg"))


def test_layers_draws_the_graph_of_a_network(jaxcam, tmp_path):
    words = ("layers", "tinynet:make", "--image-size", 8, "--channels", 1)
    assert jaxcam(*words, "--graph", tmp_path / "net.svg").code == 0
    drawn = (tmp_path / "net.svg").read_text()
    assert all(name in drawn for name in ("images", "conv0", "conv1", "head"))
    said = jaxcam(*words, "--graph", tmp_path / "net.jpg")
    assert said.code == 1
    assert "the name must end in .pdf, .png, .svg" in said.err


def test_layers_with_rules_lists_the_rule_of_each_equation(jaxcam):
    said = jaxcam("layers", "tinynet:make", "--image-size", 8, "--channels", 1, "--rules", "epsilon_plus_flat")
    assert said.code == 0
    rules = [line.split()[:3] for line in said.out.splitlines()[1:] if " conv " in line]
    assert rules == [["conv0", "conv", "Flat(stabilizer=1e-06)"], ["conv1", "conv", "ZPlus(stabilizer=1e-06)"]]
    assert "all have a rule" in said.out


def test_layers_without_a_model_lists_the_networks(jaxcam):
    said = jaxcam("layers")
    assert all(name in said.out for name in models.names())


def test_layers_of_a_network_of_your_own_are_listed_too(jaxcam):
    said = jaxcam("layers", "tinynet:make", "--image-size", 8, "--channels", 1)
    assert [line.split()[:2] for line in said.out.splitlines()[1:3]] == [["conv0", "conv"], ["conv1", "conv"]]


def test_layers_tells_the_size_of_a_network_that_does_not_say_it(jaxcam):
    note = "tinynet:make does not say its size: layers are those for 224×224; --image-size PIXELS sets another\n"
    assert jaxcam("layers", "tinynet:make", "--channels", 1).err == note
    assert jaxcam("layers", "tinynet:make", "--image-size", 8, "--channels", 1).err == ""
    assert jaxcam("layers", "vgg11", "--image-size", 32).err == ""


def test_networks_of_other_libraries_go_all_the_way_too(jaxcam, tmp_path):
    said = jaxcam("layers", "tinynet:in_linen", "--image-size", 8, "--channels", 1)
    rows = [line.split() for line in said.out.splitlines()[1:4]]
    assert [rows[0][7:9], rows[1][2:5], rows[2][2:5]] == [["6", "60"], ["6", "6", "all"], ["10", "10", "70"]]
    words = ("--data", "digits", "--limit", 50, "--image-size", 8, "--average", "simple")
    assert jaxcam("neurons", "--model", "tinynet:in_linen", *words, "--out", tmp_path / "neurons").code == 0
    said = jaxcam("prune", "--neurons", tmp_path / "neurons", "--seeds", 1, "--out", tmp_path / "prune")
    assert said.code == 0, said
    assert manifest(tmp_path / "prune")["data"]["count"] == 50


def test_help_need_not_wait_for_jax():
    heavy = {"networks", "factories", "outputs", "weighing", "datasets", "class_images", "units", "findings"}
    heavy |= {"atlas", "calling", "checkpoints", "examples", "excitement", "reopened", "surfaces"}
    heavy |= {"classes", "explanations", "facets", "figures_of_quality", "laws", "methods", "photographs", "suspicions"}
    for path in Path(jaxcam_cli.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        names = {node.module for node in froms if node.module != "jaxcam"}
        names |= {f"jaxcam.{a.name}" for node in froms if node.module == "jaxcam" for a in node.names}
        names |= {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        if path.stem not in heavy:
            light = (
                "jaxcam.checksums",
                "jaxcam.cli",
                "jaxcam.files",
                "jaxcam.interrupts",
                "jaxcam.manifest_paths",
                "jaxcam.version",
            )
            allowed = ("click", *light, *sys.stdlib_module_names)
            assert all(name.startswith(allowed) for name in names), (path.name, names)
            assert not {f"jaxcam.cli.{name}" for name in heavy} & names, path.name


def test_a_network_of_more_classes_than_the_data_is_asked_about_those_of_the_data(jaxcam, photos, tmp_path):
    network = models.load("vgg11", classes=4, image_size=8, convolutions=1)
    path = models.save(network, tmp_path / "four.safetensors", names=["bird", "dog", "fish", "cat"])
    words = ("averages", "--model", path, "--data", photos, "--kind", "simple", "--out", tmp_path / "run")
    assert jaxcam(*words).code == 0
    found = manifest(tmp_path / "run")
    assert found["model"]["outputs"] == [3, 1]
    with np.load(tmp_path / "run/averages.npz") as images, np.load(tmp_path / "run/confidence.npz") as confidence:
        logits = np.asarray(network(images["simple"]))
        np.testing.assert_allclose(
            confidence["simple"], np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4
        )
    assert jaxcam("neurons", "--averages", tmp_path / "run", "--average", "simple", "--out", tmp_path / "n").code == 0
    assert open_sweep(tmp_path / "n/sweep.zarr").layers == ["features.conv0"]


def test_folders_named_by_wordnet_are_the_outputs_of_an_imagenet_network(jaxcam, photos, tmp_path):
    place = tmp_path / "imagenet"
    place.mkdir()
    (place / "n02123394_persian_cat").symlink_to(photos / "cat")
    (place / "n02099601").symlink_to(photos / "dog")
    network = models.load("squeezenet1_1", image_size=65)
    weights = models.save(network, tmp_path / "weights.safetensors", layout="torchvision")
    # A file of torchvision's says nothing about itself.
    from safetensors.numpy import load_file, save_file

    save_file(load_file(weights), weights)
    words = ("averages", "--model", "squeezenet1_1", "--weights", weights, "--data", place, "--image-size")
    said = jaxcam(*words, 8, "--kind", "simple", "--out", tmp_path / "run")
    assert said.code == 1
    assert "give image_size=65 or more" in said.err
    words = (*words, 65)
    said = jaxcam(*words, "--kind", "simple", "--out", tmp_path / "run")
    assert said.code == 0, said
    found = manifest(tmp_path / "run")["model"]
    assert found["outputs"] == [207, 283]
    assert found["normalize"] == "imagenet"
    assert found["classes"] == 1000


def test_the_outputs_of_a_network_can_be_named_one_by_one(jaxcam, photos, tmp_path):
    path = models.save(models.load("vgg11", classes=4, image_size=8, convolutions=1), tmp_path / "w.safetensors")
    words = ("averages", "--model", path, "--data", photos, "--kind", "simple", "--out", tmp_path / "run")
    assert jaxcam(*words, "--outputs", "2,0").code == 0
    assert manifest(tmp_path / "run")["model"]["outputs"] == [2, 0]


def test_quiet_commands_say_their_results_only(runs, jaxcam, tmp_path):
    said = jaxcam("averages", "--model", "runs/train", "--kind", "simple", "--quiet", "--out", tmp_path / "run")
    assert said.err == ""
    assert said.out.startswith("average")


def test_reports_know_what_commands_take_by_its_place():
    import click

    from jaxcam.cli.main import cli
    from jaxcam.viewing.sections import POSITIONAL

    taken = {
        command: parameter.name
        for command in RESULTS
        for parameter in cli.commands[command].params
        if isinstance(parameter, click.Argument)
    }
    assert taken == POSITIONAL


def test_the_examples_of_every_help_begin_with_the_command():
    for command in ("demo", "train", "layers", "averages", "neurons", "prune", "report"):
        said = run_here(command, "--help")
        assert said.code == 0
        assert f"\n    jaxcam {command}" in said.out.split("Examples:")[1]


def test_the_help_is_a_map_of_the_tool():
    said = run_here("--help")
    headings = ["Start here:", "A network:", "What its units learned:", "For reading:", "Exit codes:"]
    places = [said.out.index(heading) for heading in headings]
    assert places == sorted(places)


def test_the_version_is_the_package_s():
    from jaxcam.version import __version__

    assert run_here("--version").out == f"jaxcam {__version__}\n"

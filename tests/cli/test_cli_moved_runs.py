"""A run is found and used from any directory, after its folder was moved or copied, and says what is missing."""

import html
import json
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from cli_helpers import digest, refused, run_here, successful

from jaxcam import models
from jaxcam.cli.factories import made_by
from jaxcam.manifest_paths import candidates, locate, record

NETWORK = """
import jax
from flax import nnx


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv0 = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(jax.nn.relu(self.conv0(x)).mean((1, 2)))


def make():
    return Net(nnx.Rngs(0))
"""

TRAIN = ("train", "--model", "mynet:make", "--data", "photos", "--image-size", 8, "--batch", 4, "--keep-every", 1)
STEPS = {
    "averages": ("averages", "--model", "runs/train", "-k", 2, "--kind", "simple,most"),
    "neurons": ("neurons", "--averages", "runs/averages"),
    "prune": ("prune", "--neurons", "runs/neurons", "--seeds", 1),
}


def slow(parameters):
    return pytest.param(*parameters, marks=pytest.mark.slow)


def pictures(place, seed=0):
    random = np.random.default_rng(seed)
    for name, low in (("cat", 0), ("dog", 60), ("fox", 120)):
        (place / name).mkdir(parents=True)
        for number in range(14):
            pixels = random.integers(low, low + 100, (10, 10, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).save(place / name / f"{number}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tree with a module, a folder of photographs and four runs, every path of which was typed as short as it is."""
    tree = tmp_path_factory.mktemp("made") / "tree"
    tree.mkdir()
    (tree / "mynet.py").write_text(NETWORK)
    pictures(tree / "photos")
    successful(tree, *TRAIN, "--epochs", 2, "--out", "runs/train")
    for name, words in STEPS.items():
        successful(tree, *words, "--out", f"runs/{name}")
    return tree


@pytest.fixture
def moved(made, tmp_path):
    """The same tree at another place, with nothing where it was made."""
    shutil.copytree(made, tmp_path / "elsewhere" / "tree")
    made.rename(made.with_name("away"))
    yield tmp_path / "elsewhere" / "tree"
    made.with_name("away").rename(made)


@pytest.fixture(autouse=True)
def fresh_interpreter(monkeypatch):
    """Modules as a new process would find them."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    yield
    sys.modules.pop("mynet", None)


def manifest(run):
    return json.loads((run / "manifest.json").read_text())


def again(tree, place, out):
    """The steps after the training, each reading the runs of a tree, and the atlas, from another directory."""
    place.mkdir(exist_ok=True)
    for name, (command, option, run, *words) in STEPS.items():
        successful(place, command, option, tree / run, *words, "--out", out / name)
    successful(place, "report", tree / "runs/neurons", "--units", "all", "--images", 4, "--out", out / "report")
    return out


def check_same(tree, out):
    """What came out is what the commands gave in the directory of the tree."""
    for file in ("averages/averages.npz", "neurons/similarity.csv", "prune/pruning.csv"):
        assert digest(out / file) == digest(tree / "runs" / file), file
    assert "could not be opened" not in (out / "report/index.html").read_text()


def test_runs_are_read_from_any_directory(made, tmp_path):
    check_same(made, again(made, tmp_path / "here", tmp_path / "out"))


def test_a_tree_that_was_moved_is_read_from_any_directory(moved, tmp_path):
    check_same(moved, again(moved, tmp_path / "here", tmp_path / "out"))


@pytest.mark.slow
def test_what_a_moved_run_gave_can_be_read_from_a_third_directory(moved, tmp_path):
    """The runs that come of it name the paths as they are, not as they were."""
    first = again(moved, tmp_path / "here", tmp_path / "out")
    words = ("prune", "--neurons", first / "neurons", "--seeds", 1, "--out", tmp_path / "prune")
    (tmp_path / "third").mkdir()
    successful(tmp_path / "third", *words)
    assert digest(tmp_path / "prune/pruning.csv") == digest(first / "prune/pruning.csv")


def test_a_run_that_was_moved_alone_finds_what_stayed(made, tmp_path):
    shutil.copytree(made / "runs/averages", tmp_path / "alone")
    successful(tmp_path, "neurons", "--averages", "alone", "--out", "neurons")
    assert digest(tmp_path / "neurons/similarity.csv") == digest(made / "runs/neurons/similarity.csv")


def test_a_copy_goes_on_with_its_own_network_and_images_when_those_beside_the_original_change(made, tmp_path):
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(made, copy / "first")
    shutil.copytree(made, copy / "second")
    successful(copy / "first", *TRAIN, "--epochs", 1, "--out", "runs/train", "--overwrite")
    shutil.rmtree(copy / "first/photos")
    pictures(copy / "first/photos", seed=1)
    check_same(made, again(copy / "second", tmp_path / "here", out))


@pytest.mark.slow
def test_a_stranger_s_network_at_the_same_place_beside_a_moved_run_is_not_taken(made, tmp_path):
    shutil.copytree(made / "runs/averages", tmp_path / "runs/averages")
    (tmp_path / "mynet.py").write_text(NETWORK)
    successful(tmp_path, *TRAIN[:4], made / "photos", *TRAIN[5:], "--epochs", 1, "--out", "runs/train")
    successful(tmp_path, "neurons", "--averages", "runs/averages", "--out", "runs/neurons")
    assert digest(tmp_path / "runs/neurons/similarity.csv") == digest(made / "runs/neurons/similarity.csv")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("explain", ("photos/cat/0.png", "--method", "saliency")),
        slow(("compare", ("photos/cat/0.png", "--method", "saliency"))),
        slow(("clusters", ("--target", "cat", "--split", "train"))),
        ("concepts", ("--target", "cat", "--concept", "dots", "--split", "train", "--random-concepts", 9)),
        slow(("maximize", ("--target", "cat", "--steps", 1, "--answers", 1, "--frames"))),
        ("landscape", ("--trajectory", "--points", 3)),
        slow(("redundancy", ("photos/cat", "--permutations", 5))),
        slow(("distributions", ("photos/cat/0.png", "--layer", "conv0", "--draws", 20))),
        slow(("linear-piece", ("photos/cat/0.png",))),
        slow(("leak-check", ("--region", "0,0,3,3", "--explained", 2, "--samples", 4))),
        ("train", ("--data", "photos", "--image-size", 8, "--epochs", 1)),
    ],
)
def test_every_command_takes_a_training_run_that_was_moved(moved, tmp_path, name, words):
    (tmp_path / "here").mkdir()
    words = [moved / word if str(word).startswith("photos") else word for word in words]
    said = successful(tmp_path / "here", name, *words, "--model", moved / "runs/train", "--out", tmp_path / "out")
    assert manifest(tmp_path / "out")["model"]["fingerprint"], said


def test_the_end_of_a_landscape_may_have_been_moved_too(moved, tmp_path):
    (tmp_path / "here").mkdir()
    words = ("--model", moved / "runs/train", "--to", moved / "runs/train", "--points", 2)
    successful(tmp_path / "here", "landscape", *words, "--out", tmp_path / "out")


def older(tree):
    """Manifests as they were before they said more of a path than what was typed."""
    for file in (tree / "runs").glob("*/manifest.json"):
        found = json.loads(file.read_text())
        for name in ("paths", "checksums", "seal"):
            found.pop(name, None)
        file.write_text(json.dumps(found))


def test_older_manifests_are_read_where_they_were_made_and_after_a_move(moved, tmp_path):
    older(moved)
    (tmp_path / "in place").mkdir()
    for name, words in STEPS.items():
        successful(moved, *words, "--out", tmp_path / "in place" / name)
    check_same(moved, again(moved, tmp_path / "here", tmp_path / "out"))
    assert digest(tmp_path / "in place/prune/pruning.csv") == digest(moved / "runs/prune/pruning.csv")


def line_of(place, monkeypatch, *words, code=3):
    monkeypatch.chdir(place)
    return refused(run_here(*words), code)


def test_what_is_nowhere_is_asked_for_by_the_option_that_gives_it(moved, tmp_path, monkeypatch):
    averages, neurons, train = (tmp_path / name for name in ("averages", "neurons", "kept/train"))
    train.parent.mkdir()
    for run in (averages, neurons):
        (moved / "runs" / run.name).rename(run)
    (moved / "runs/train").rename(train)
    away = moved.rename(tmp_path / "away")
    out = ("--out", tmp_path / "out")
    line = line_of(tmp_path, monkeypatch, "neurons", "--averages", "averages", *out)
    assert line.startswith("averages was made from the network runs/train, which is neither at ")
    assert line.endswith("; give --model with where it is now")
    line = line_of(tmp_path, monkeypatch, "prune", "--neurons", "neurons", *out)
    assert line.startswith("neurons was made from the network runs/train, which is neither at ")
    # The network is there again, its module is not.
    line = line_of(tmp_path, monkeypatch, "neurons", "--averages", "averages", "--model", train, *out, code=1)
    assert line.startswith("no module 'mynet' for --model mynet:make, neither in ")
    monkeypatch.syspath_prepend(away)
    line = line_of(tmp_path, monkeypatch, "prune", "--neurons", "neurons", "--model", train, *out)
    assert re.fullmatch(
        r"the images of mynet:make were in .*photos, and there is no such folder now; give --data with where they are",
        line,
    )
    line = line_of(tmp_path, monkeypatch, "averages", "--model", train, *out)
    assert line.endswith("; give --data with where they are")
    words = ("report", "neurons", "--model", train, "--images", 4, "--out", tmp_path / "atlas")
    assert line_of(tmp_path, monkeypatch, *words).endswith("photos, where they were; --images 0 does without")
    # What the lines ask for is enough.
    assert run_here(*words[:4], *words[6:], "--units", "all").code == 0
    said = run_here("prune", "--neurons", "neurons", "--model", train, "--data", away / "photos", "--seeds", 1, *out)
    assert said.code == 0, said
    assert digest(tmp_path / "out/pruning.csv") == digest(away / "runs/prune/pruning.csv")


@pytest.fixture
def named(tmp_path):
    """A network by its name, with a file of weights beside it, and averages of it."""
    tree = tmp_path / "named"
    tree.mkdir()
    pictures(tree / "photos")
    network = models.load("alexnet", classes=3, image_size=8, convolutions=1)
    models.save(network, tree / "net.safetensors")
    words = ("--model", "alexnet", "--weights", "net.safetensors", "--data", "photos", "--kind", "simple")
    successful(tree, "averages", *words, "--out", "runs/averages")
    return tree


def test_weights_are_found_beside_a_moved_run_or_asked_for(named, tmp_path, monkeypatch):
    tree = named.rename(tmp_path / "renamed")
    words = ("neurons", "--averages", tree / "runs/averages", "--average", "simple")
    (tmp_path / "here").mkdir()
    successful(tmp_path / "here", *words, "--out", tmp_path / "first")
    (tree / "net.safetensors").rename(tmp_path / "net.safetensors")
    line = line_of(tmp_path, monkeypatch, *words, "--out", tmp_path / "second")
    assert line.startswith(f"{tree / 'runs/averages'} was made with the weights net.safetensors, which are neither at ")
    assert line.endswith("; give --weights with where they are now")
    given = ("--weights", tmp_path / "net.safetensors")
    successful(tmp_path / "here", *words, *given, "--out", tmp_path / "second")
    assert digest(tmp_path / "first/similarity.csv") == digest(tmp_path / "second/similarity.csv")
    line = line_of(tmp_path, monkeypatch, "prune", "--neurons", "first", "--out", "prune")
    assert line.endswith("; give --weights with where they are now")
    successful(tmp_path / "here", "prune", "--neurons", tmp_path / "first", *given, "--out", tmp_path / "prune")
    # A network that has its own weights needs none.
    words = (*words, "--model", tmp_path / "net.safetensors")
    successful(tmp_path / "here", *words, "--out", tmp_path / "third")
    assert digest(tmp_path / "first/similarity.csv") == digest(tmp_path / "third/similarity.csv")


def test_a_run_s_factory_is_the_one_of_its_own_module(made, tmp_path, monkeypatch):
    """Another module of the same name lies where the command is started, and was imported before."""
    (tmp_path / "mynet.py").write_text(NETWORK.replace("jax.nn.relu", "jax.nn.tanh"))
    monkeypatch.chdir(tmp_path)
    made_by("mynet:make")
    successful(tmp_path, "averages", "--model", made / "runs/train", *STEPS["averages"][3:], "--out", "averages")
    assert digest(tmp_path / "averages/confidence.npz") == digest(made / "runs/averages/confidence.npz")
    # As typed, it is the one that lies here.
    line = line_of(
        tmp_path, monkeypatch, "neurons", "--averages", "averages", "--model", "mynet:make", "--out", "n", code=1
    )
    assert line.startswith("mynet:make has other weights than when averages was made from it")
    assert Path(sys.modules["mynet"].__file__) == tmp_path / "mynet.py"


def test_an_unfinished_sweep_that_was_moved_goes_on(moved, tmp_path, monkeypatch):
    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(moved)
    with monkeypatch.context() as patch:
        patch.setattr("jaxcam.cli.units.write_similarity", killed)
        assert run_here(*STEPS["neurons"], "--out", "runs/stopped").code == 130
    tree = moved.rename(tmp_path / "again")
    words = ("neurons", "--averages", tree / "runs/averages", "--out", tree / "runs/stopped")
    line = line_of(tmp_path, monkeypatch, *words, "--average", "simple", code=1)
    assert "(average was most, is simple)" in line
    said = successful(tmp_path, *words)
    assert "going on with the unfinished sweep" in said.err
    assert digest(tree / "runs/stopped/sweep.zarr/conv0") == digest(tree / "runs/neurons/sweep.zarr/conv0")


def commands(page):
    """The lines of a report that say how to reproduce it."""
    return [
        html.unescape(re.sub(r"</?span>", "", line)).strip()
        for line in re.findall(r"<code>(.*jaxcam .*)</code>", page.read_text())
    ]


def pasted(line, place, monkeypatch, out):
    """What a shell does with a line, except that it writes elsewhere."""
    words = shlex.split(line)
    with monkeypatch.context() as patch:
        if words[0].startswith("PYTHONPATH="):
            patch.syspath_prepend(words.pop(0).removeprefix("PYTHONPATH="))
        assert words[0] == "jaxcam"
        words[words.index("--out") + 1] = out
        sys.modules.pop("mynet", None)
        successful(place, *words[1:])


def test_reports_say_commands_as_they_were_typed_in_the_directory_they_were_typed_in(made, tmp_path):
    successful(made, "report", "runs", "--out", tmp_path / "page.html")
    said = " ".join(commands(tmp_path / "page.html"))
    assert "jaxcam averages --model runs/train" in said
    assert "jaxcam neurons --averages runs/averages" in said
    assert "PYTHONPATH" not in said
    assert said.count(os.sep + "runs") == 0


@pytest.mark.parametrize("inside", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_commands_of_a_report_do_the_same_where_it_was_made(moved, tmp_path, monkeypatch, inside):
    place = moved.parent if inside else tmp_path / "here"
    place.mkdir(exist_ok=True)
    successful(place, "report", moved / "runs", "--out", tmp_path / "page.html")
    lines = commands(tmp_path / "page.html")
    assert len(lines) == 4
    shown = "tree/runs/train" if inside else str(moved / "runs/train")
    assert f"jaxcam averages --model {shown} " in lines[1]
    for line, name, file in zip(
        lines,
        ("train", "averages", "neurons", "prune"),
        ("history.csv", "averages.npz", "similarity.csv", "pruning.csv"),
        strict=True,
    ):
        pasted(line, place, monkeypatch, tmp_path / "out" / name)
        assert digest(tmp_path / "out" / name / file) == digest(moved / "runs" / name / file), line


def test_paths_lead_beside_the_run_first_and_then_to_where_they_were(tmp_path, monkeypatch):
    then, now = tmp_path / "then", tmp_path / "now"
    for tree in (then, now):
        (tree / "runs/train").mkdir(parents=True)
        (tree / "runs/averages").mkdir()
    monkeypatch.chdir(then)
    said = {"paths": record(["runs/train", str(then / "runs/train")], "runs/averages")}
    assert said["paths"]["runs/train"] == {"relative": "../train", "absolute": str(then / "runs/train")}
    monkeypatch.chdir(tmp_path)
    for typed in ("runs/train", str(then / "runs/train")):
        assert candidates(said, "now/runs/averages", typed) == [str(tree / "runs/train") for tree in (now, then)]
        assert locate(said, "now/runs/averages", typed) == os.path.join("now", "runs", "train")
    monkeypatch.chdir(now)
    assert locate(said, "runs/averages", "runs/train") == "runs/train"
    (now / "runs/train").rmdir()
    assert locate(said, "runs/averages", "runs/train") == str(then / "runs/train")
    (then / "runs/train").rmdir()
    assert locate(said, "runs/averages", "runs/train") is None


def test_a_run_behind_a_link_finds_its_neighbors_on_both_sides(tmp_path):
    (tmp_path / "disk/averages").mkdir(parents=True)
    (tmp_path / "disk/train").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home/averages").symlink_to(tmp_path / "disk/averages")
    said = {"paths": {"train": {"relative": "../train", "absolute": "/nowhere/train"}}}
    assert locate(said, tmp_path / "home/averages", "train") == str(tmp_path / "disk/train")
    (tmp_path / "home/train").mkdir()
    assert locate(said, tmp_path / "home/averages", "train") == str(tmp_path / "home/train")

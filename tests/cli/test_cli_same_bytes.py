"""The same command gives the same bytes, however much memory is free, wherever it writes, in whatever order sets come.

Only the manifest, which says when and where, and TensorBoard's logs may differ.
"""

import json
import os
import subprocess
import sys
import warnings

import pytest
from cli_helpers import ROOT, TINY, TRAIN, digest

from jaxcam.neurons import budget

MODEL = ("--model", "runs/train")
COMMANDS = {
    "neurons": ("--averages", "runs/averages"),
    "compare": ("PHOTOS", "--model", "tinynet:make", "--method", "saliency", "--steps", 4, "--limit", 3),
    "distributions": ("PHOTOS/cat", "--model", "tinynet:make", "--draws", 20),
    "redundancy": ("PHOTOS/cat", "--model", "tinynet:make", "--method", "grad_cam", "--permutations", 9),
}
OTHERS = {
    "train": (*TRAIN[1:], "--keep-every", 2),
    "averages": (*MODEL, "-k", 5, "--steps", 5),
    "prune": ("--neurons", "runs/neurons", "--seeds", 2),
    "explain": (
        *("PHOTOS", "--model", "tinynet:make", "--method", "lime", "--method", "rise", "--method", "xrai"),
        *("--option", "lime.samples=64", "--option", "rise.masks=64"),
    ),
    "maximize": (*MODEL, "--target", 1, "--steps", 5, "--frames"),
    "landscape": (*MODEL, "--points", 3, "--limit", 50),
    "linear-piece": ("PHOTOS/cat", "--model", "tinynet:make"),
    "leak-check": (*MODEL, "--region", "0,0,8,1", "--limit", 60),
    "clusters": (*MODEL, "--target", 3),
    "concepts": (*MODEL, "--target", 3, "--concept", "stripes", "--random-concepts", 5),
}
TIMED = ("manifest.json", "tensorboard")


def results(path):
    """The content of every file in a run but those that tell times."""
    return [entry for entry in digest(path) if not set(TIMED) & set(entry[0].split("/"))]


def words(photos, options):
    return [str(option).replace("PHOTOS", str(photos)) for option in options]


@pytest.mark.parametrize("command", COMMANDS)
def test_however_much_memory_is_free(command, runs, jaxcam, photos, tmp_path, monkeypatch):
    found = []
    for free in (1 << 10, 1 << 40):
        monkeypatch.setattr(budget, "free_bytes", lambda free=free: free)
        out = tmp_path / f"{free}" / "run"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            said = jaxcam(command, *words(photos, COMMANDS[command]), "--out", out)
        assert said.code == 0, said
        found.append(results(out))
    assert found[0]
    assert found[0] == found[1]


def test_wherever_the_same_network_and_data_are(runs, jaxcam, workplace, tmp_path):
    moved = tmp_path / "elsewhere"
    relative, absolute = tmp_path / "relative", tmp_path / "absolute"
    moved.symlink_to(workplace / "runs/averages")
    for averages, model, out in (
        ("runs/averages", "runs/train", relative),
        (moved, workplace / "runs/train", absolute),
    ):
        said = jaxcam("neurons", "--averages", averages, "--model", model, "--out", out)
        assert said.code == 0, said
    assert results(relative) == results(absolute)
    assert str(workplace) not in (absolute / "sweep.zarr/zarr.json").read_text()
    # The manifest still says where the network was.
    assert json.loads((absolute / "manifest.json").read_text())["model"]["source"]["spec"]


DRIVER = """
import os, sys
import jaxcam.neurons.budget, jaxcam.program.memory
from cli_helpers import run_here
free = int(sys.argv[1])
jaxcam.neurons.budget.free_bytes = jaxcam.program.memory.free_bytes = lambda: free
for words in COMMANDS:
    said = run_here(*words)
    assert said.code == 0, (words, said)
"""


@pytest.mark.slow
def test_every_command_in_processes_of_their_own_that_order_sets_differently(photos, tmp_path):
    first = [("train", *TRAIN[1:], "--keep-every", 2, "--out", "runs/train")]
    first += [("averages", *MODEL, "-k", 5, "--steps", 5, "--out", "runs/averages")]
    first += [("neurons", "--averages", "runs/averages", "--out", "runs/neurons")]
    others = [(name, *words(photos, options), "--out", name) for name, options in (COMMANDS | OTHERS).items()]
    pages = [("report", "runs", "--out", "pages"), ("report", "runs", "--out", "page.html")]
    commands = [[str(word) for word in line] for line in [*first, *others, *pages]]
    found = []
    for seed, free in (("1", 1 << 10), ("2", 1 << 40)):
        place = tmp_path / "/".join(["deep"] * int(seed)) / seed
        place.mkdir(parents=True)
        (place / "tinynet.py").write_text(TINY)
        (place / "driver.py").write_text(DRIVER.replace("COMMANDS", repr(commands)))
        environment = {
            "PYTHONPATH": os.pathsep.join([str(place), str(ROOT), str(ROOT / "tests/cli")]),
            "PYTHONHASHSEED": seed,
            "JAXCAM_CACHE": str(tmp_path / "compiled"),
        }
        process = subprocess.run(
            [sys.executable, "driver.py", str(free)], cwd=place, env=os.environ | environment, stderr=subprocess.PIPE
        )
        assert process.returncode == 0, process.stderr.decode()[-2000:]
        found.append({name: results(place / name) for name in ("runs", "pages", "page.html", *COMMANDS, *OTHERS)})
    for name, files in found[0].items():
        assert files, name
        assert files == found[1][name], name


def test_what_is_left_out_of_a_comparison_is_only_what_tells_times(runs, workplace):
    left = {name for name, _ in digest(workplace / "runs/train")} - {
        name for name, _ in results(workplace / "runs/train")
    }
    assert all(name == "manifest.json" or name.startswith("tensorboard/") for name in left)
    assert "manifest.json" in left

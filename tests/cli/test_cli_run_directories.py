"""A run is whole or not there; an unfinished one goes on, and nothing is ever replaced unasked."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import TRAIN, digest, ended, refused

from jaxcam.cli.manifest import plain
from jaxcam.cli.run_directory import RunDirectory


def wait_for(path, process):
    deadline = time.monotonic() + 100
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_finished_run_is_not_replaced_unasked(runs, jaxcam):
    before = digest(Path("runs/averages"))
    words = ("averages", "--model", "runs/train", "--kind", "simple", "--out", "runs/averages")
    line = refused(jaxcam(*words))
    assert line == (
        "runs/averages holds a finished run of jaxcam averages; use another --out, or --overwrite to replace it"
    )
    assert digest(Path("runs/averages")) == before


def test_overwrite_replaces_a_run_and_touches_nothing_else(runs, jaxcam, tmp_path):
    words = ("averages", "--model", "runs/train", "--out", tmp_path / "run")
    assert jaxcam(*words, "-k", 5, "--steps", 1).code == 0
    (tmp_path / "run/notes.txt").write_text("mine")
    said = jaxcam(*words, "--kind", "simple", "--overwrite")
    assert said.code == 0, said
    assert (tmp_path / "run/notes.txt").read_text() == "mine"
    with np.load(tmp_path / "run/averages.npz") as images:
        assert images.files == ["simple"]


def test_overwrite_with_bad_input_leaves_the_old_run(runs, jaxcam, tmp_path):
    words = ("averages", "--model", "runs/train", "--kind", "simple", "--out", tmp_path / "run")
    assert jaxcam(*words).code == 0
    before = digest(tmp_path / "run")
    assert refused(jaxcam(*words, "--data", "digitz", "--overwrite")).startswith("no data set 'digitz'")
    assert digest(tmp_path / "run") == before


def test_other_people_s_files_are_never_replaced(jaxcam, tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    for words in ((), ("--overwrite",)):
        line = refused(jaxcam("train", "--out", tmp_path, *words))
        assert line == f"{tmp_path} holds files that no command of jaxcam wrote (thesis.tex); use another --out"
    assert refused(jaxcam("train", "--out", tmp_path / "thesis.tex")).endswith("is a file; --out is a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_manifest_that_is_not_ours_is_left_alone(jaxcam, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "a browser extension"}')
    line = refused(jaxcam("train", "--out", tmp_path, "--overwrite"))
    assert line.endswith("manifest.json was not written by jaxcam, or is damaged; use another --out")


def test_a_failed_run_leaves_nothing_not_even_the_directories_it_made(runs, jaxcam, tmp_path, monkeypatch):
    def broken(*args, **options):
        raise ValueError("no ink")

    monkeypatch.setattr("jaxcam.viewing.figures.confidence", broken)
    words = ("averages", "--model", "runs/train", "--kind", "simple", "--out", tmp_path / "deep/er/run")
    assert refused(jaxcam(*words)) == "no ink"
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_of_other_arguments_is_refused(tmp_path, jaxcam):
    (tmp_path / "state.safetensors").write_bytes(b"")
    (tmp_path / "run.json").write_text(json.dumps({"command": "train", "arguments": {"epochs": 30}}))
    line = refused(jaxcam("train", "--epochs", 7, "--out", tmp_path))
    assert line.startswith(
        f"{tmp_path} holds an unfinished run of jaxcam train with other arguments (epochs was 30, is 7"
    )
    line = refused(jaxcam("averages", "--model", "x:y", "--out", tmp_path))
    assert line.startswith(f"{tmp_path} holds an unfinished run of jaxcam train; use another --out")


def test_a_directory_is_held_by_one_process_at_a_time(tmp_path):
    with RunDirectory("prune", tmp_path / "run", {}) as run:
        with (
            pytest.raises(ValueError, match="is being written by another jaxcam"),
            RunDirectory("prune", tmp_path / "run", {}),
        ):
            pass
        run.finish(results={})
    assert json.loads((tmp_path / "run/manifest.json").read_text())["results"] == {}


def test_arguments_are_kept_as_they_read_back():
    assert plain({"out": Path("a"), "layer": ("x",), "k": np.int64(3)}) == {"out": "a", "layer": ["x"], "k": 3}


def test_training_stopped_by_ctrl_c_goes_on_to_the_same_numbers(runs, jaxcam, start, workplace, tmp_path):
    out = tmp_path / "train"
    long = [4000 if word == 3 else word for word in TRAIN]
    process = start(*long, "--out", out)
    wait_for(out / "state.safetensors", process)
    process.send_signal(signal.SIGINT)
    line = refused(ended(process), code=130)
    assert line.startswith("training stopped; ")
    assert f"of 4000 epochs are kept in {out}, the same call goes on from there" in line
    assert not (out / "manifest.json").exists()
    # A training is what its arguments are: with the epochs of another one it is refused.
    assert "with other arguments (epochs was 4000, is 3)" in refused(jaxcam(*TRAIN, "--out", out))
    assert refused(jaxcam("averages", "--model", out, "--out", tmp_path / "averages")).startswith(
        f"{out} is a training that is not finished"
    )


def test_training_killed_between_its_files_goes_on_to_the_same_numbers(runs, jaxcam, tmp_path, monkeypatch):
    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jaxcam.viewing.figures.history", killed)
        line = refused(jaxcam(*TRAIN, "--out", tmp_path / "train"), code=130)
    kept = f"stopped; what is done is kept in {tmp_path / 'train'}, and the same command goes on from there"
    assert line == kept
    assert (tmp_path / "train/run.json").exists()
    said = jaxcam(*TRAIN, "--out", tmp_path / "train")
    assert said.code == 0, said
    assert "going on with the unfinished training" in said.err
    for name in ("model.safetensors", "history.csv"):
        assert digest(tmp_path / "train" / name) == digest(Path("runs/train") / name)
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == sorted(
        path.name for path in Path("runs/train").iterdir()
    )


def test_a_sweep_killed_by_kill_9_goes_on_to_the_same_store(runs, jaxcam, start, workplace, tmp_path):
    words = ("neurons", "--averages", "runs/averages", "--out")
    process = start(*words, tmp_path / "killed")
    wait_for(tmp_path / "killed/sweep.zarr", process)
    process.kill()
    ended(process)
    assert not (tmp_path / "killed/manifest.json").exists()
    assert refused(jaxcam("report", tmp_path / "killed")).endswith(
        f"run jaxcam neurons --out {tmp_path / 'killed'} again"
    )
    said = jaxcam(*words, tmp_path / "killed")
    assert said.code == 0, said
    assert digest(tmp_path / "killed/sweep.zarr") == digest(Path("runs/neurons/sweep.zarr"))
    assert digest(tmp_path / "killed/similarity.csv") == digest(Path("runs/neurons/similarity.csv"))


def test_a_store_of_another_network_is_refused(runs, jaxcam, tmp_path, monkeypatch):
    def killed(*args, **options):
        raise KeyboardInterrupt

    train, neurons = tmp_path / "train", tmp_path / "neurons"
    assert jaxcam(*TRAIN, "--out", train).code == 0
    words = ("neurons", "--model", train, "--average", "simple", "--quiet", "--out", neurons)
    with monkeypatch.context() as patch:
        patch.setattr("jaxcam.cli.units.write_similarity", killed)
        assert jaxcam(*words).code == 130
    assert jaxcam(*TRAIN[:-2], "--learning-rate", 0.02, "--out", train, "--overwrite").code == 0
    before = digest(neurons)
    assert "holds a sweep of another model" in refused(jaxcam(*words))
    assert digest(neurons) == before


def test_a_network_trained_again_is_not_taken_for_the_one_that_was_measured(runs, jaxcam, tmp_path):
    train, averages = tmp_path / "train", tmp_path / "averages"
    assert jaxcam(*TRAIN, "--out", train).code == 0
    assert jaxcam("averages", "--model", train, "--kind", "simple", "--out", averages).code == 0
    assert jaxcam(*TRAIN[:-2], "--learning-rate", 0.02, "--out", train, "--overwrite").code == 0
    words = ("neurons", "--averages", averages, "--average", "simple", "--out", tmp_path / "neurons")
    line = refused(jaxcam(*words))
    assert line == f"{train} has other weights than when {averages} was made from it; run jaxcam averages again"
    # The network may be elsewhere, as long as it is the same.
    assert jaxcam(*words, "--model", "runs/train").code == 0


@pytest.fixture
def small_disk(tmp_path):
    """A disk too small for a whole run, and a way to enlarge it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_training_goes_on_once_there_is_room(runs, jaxcam, small_disk):
    words = (*TRAIN, "--out", small_disk / "train")
    line = refused(jaxcam(*words), code=3)
    assert line == (
        f"the disk is full; what is done is kept in {small_disk / 'train'}, and the same command goes on from there"
    )
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    assert jaxcam(*words).code == 0
    assert digest(small_disk / "train/model.safetensors") == digest(Path("runs/train/model.safetensors"))


def test_on_a_full_disk_a_run_that_cannot_go_on_leaves_nothing(runs, jaxcam, small_disk):
    words = ("averages", "--model", "runs/train", "-k", 5, "--steps", 1, "--out", small_disk / "averages")
    line = refused(jaxcam(*words), code=3)
    assert line == f"the disk is full; nothing is left in {small_disk / 'averages'}"
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_leaves_nothing_even_at_the_first_file(jaxcam, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxcam.cli.manifest.write_atomically", full)
    line = refused(jaxcam(*TRAIN, "--out", tmp_path / "run"), code=3)
    assert line == f"the disk is full; nothing is left in {tmp_path / 'run'}"
    assert list(tmp_path.iterdir()) == []

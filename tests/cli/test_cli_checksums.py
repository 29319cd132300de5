"""A changed byte in a finished run is told in one line by the command that reads it."""

import contextlib
import json
import shutil

import pytest
from cli_helpers import refused

from jaxcam.checksums import is_whole, sealed
from jaxcam.viewing.runs import find

READERS = {
    "averages/averages.npz": ("neurons", "--averages", "averages"),
    "averages/manifest.json": ("neurons", "--averages", "averages"),
    "neurons/manifest.json": ("prune", "--neurons", "neurons"),
    "neurons/sweep.zarr/zarr.json": ("prune", "--neurons", "neurons"),
    "train/model.safetensors": ("averages", "--model", "train"),
    "train/manifest.json": ("averages", "--model", "train"),
}
REPORTED = (
    "train/history.csv",
    "train/manifest.json",
    "averages/averages.npz",
    "averages/confidence.npz",
    "neurons/manifest.json",
    "neurons/sweep.zarr/zarr.json",
    "neurons/sweep.zarr/conv1/similarity/c/3/0",
    "neurons/sweep.zarr/conv1/extreme_map/c/3/0/0/0/0",
    "prune/pruning.csv",
    "prune/manifest.json",
)


@pytest.fixture
def copy(runs, workplace, tmp_path):
    place = tmp_path / "runs"
    shutil.copytree(workplace / "runs", place, ignore=shutil.ignore_patterns("report", "tensorboard"))
    return place


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_the_next_command_tells_a_changed_byte(name, copy, jaxcam, tmp_path):
    command, option, run = READERS[name]
    flip(copy / name)
    line = refused(jaxcam(command, option, copy / run, "--out", tmp_path / "out"))
    assert str(copy / name) in line or str(copy / run) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTED)
def test_a_report_tells_a_changed_byte(name, copy, jaxcam, tmp_path):
    flip(copy / name)
    line = refused(jaxcam("report", copy, "--out", tmp_path / "page.html"))
    assert str(copy / name) in line
    assert not (tmp_path / "page.html").exists()


def test_every_file_of_a_run_is_read_through_its_checksum(copy):
    for run in find(copy):
        known = run.manifest["checksums"]
        assert known
        for name in known:
            assert run.file(name).exists()
            file = run.path / name
            if file.is_dir():
                next(path for path in file.rglob("0") if path.is_file()).unlink()
            else:
                flip(file)
            with pytest.raises(ValueError, match=f"is not what was written: .*; jaxcam {run.command} … --out"):
                run.file(name)


def test_any_changed_byte_of_a_manifest_is_told(copy):
    content = (copy / "prune/manifest.json").read_bytes()
    assert is_whole(content)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        with contextlib.suppress(ValueError):  # it is no JSON any more
            assert not is_whole(bytes(changed)), position


def test_what_somebody_wrote_anew_and_what_is_older_is_read(copy):
    file = copy / "prune/manifest.json"
    found = json.loads(file.read_text())
    found["results"]["accuracy"] = 0.5
    file.write_text(json.dumps(found))
    assert [run.command for run in find(copy / "prune")] == ["prune"]
    del found["seal"], found["checksums"]
    file.write_text(json.dumps(found, indent=2))
    (run,) = find(copy / "prune")
    flip(copy / "prune/pruning.png")
    assert run.file("pruning.png").exists()
    assert is_whole(sealed({"a": [1, 0.1, None, "é"]}).encode())

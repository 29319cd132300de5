"""A command line in the test's own process, a tiny network of a user's own, and one finished run of every command."""

import os
import signal
import subprocess
import sys

import PIL.Image
import pytest
from cli_helpers import ROOT, TINY, TRAIN, run_here


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's own caches, or changes where modules are found."""
    monkeypatch.setenv("JAXCAM_CACHE", "")
    monkeypatch.delenv("JAXCAM_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A directory with a module of the user's own."""
    place = tmp_path_factory.mktemp("workplace")
    (place / "tinynet.py").write_text(TINY)
    return place


@pytest.fixture
def jaxcam(workplace, monkeypatch):
    """Runs a command in this process, in the workplace."""
    monkeypatch.chdir(workplace)
    return run_here


@pytest.fixture
def start(workplace, tmp_path_factory):
    """Starts a command as a process of its own; what it compiled before is kept between tests."""
    cache = tmp_path_factory.getbasetemp() / "compiled"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAXCAM_CACHE": str(cache), "COLUMNS": "100"}
    started = []

    def begin(*words, **extra):
        # What runs in the background of a script ignores Ctrl-C, and so would what it starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "jaxcam.cli", *map(str, words)],
                cwd=workplace,
                env=environment | extra,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def runs(workplace):
    """One finished run of each command, and the report about them."""
    before = os.getcwd()
    os.chdir(workplace)
    os.environ["JAXCAM_CACHE"] = ""
    try:
        said = {
            "train": run_here(*TRAIN, "--out", "runs/train"),
            "averages": run_here("averages", "--model", "runs/train", "-k", 5, "--steps", 5, "--out", "runs/averages"),
            "neurons": run_here("neurons", "--averages", "runs/averages", "--out", "runs/neurons"),
            "prune": run_here("prune", "--neurons", "runs/neurons", "--seeds", 2, "--out", "runs/prune"),
            "report": run_here("report", "runs"),
        }
    finally:
        os.chdir(before)
    for command, result in said.items():
        assert result.code == 0, (command, result)
    return said


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of pictures: ten cats and five dogs, each picture unlike the others."""
    place = tmp_path_factory.mktemp("photos")
    for name, count, color in (("cat", 10, 40), ("dog", 5, 200)):
        (place / name).mkdir()
        for number in range(count):
            picture = PIL.Image.new("RGB", (12, 12), (color, 10 * number, 0))
            picture.putpixel((number, 3), (255, 255, 255))
            picture.save(place / name / f"{number}.png")
    return place

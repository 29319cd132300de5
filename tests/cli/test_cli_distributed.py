"""`jaxcam neurons --distributed`: real processes, one store, whatever is killed."""

import os
import random
import shlex
import socket
import subprocess
import time

import pytest
import yaml
from cli_helpers import ROOT, digest, ended, refused, successful

from jaxcam.cli.neurons import neurons

KILLS = int(os.environ.get("JAXCAM_KILLS", 1))  # each takes half a minute
WORDS = ("neurons", "--model", "tinynet:make", "--data", "digits", "--image-size", 8, "--limit", 100)
WORDS = (*WORDS, "--average", "simple", "--quiet")


@pytest.fixture(scope="module")
def alone(workplace, tmp_path_factory):
    """The store of one process that was never interrupted."""
    out = tmp_path_factory.mktemp("alone") / "run"
    successful(workplace, *WORDS, "--out", out)
    return digest(out / "sweep.zarr")


def begin(start, out, count, *more):
    """As many processes, on a port of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    words = (*WORDS, "--out", out, "--distributed", "--coordinator", coordinator, "--processes", count, *more)
    return [start(*words, "--process", index, JAX_PLATFORMS="cpu") for index in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_leave_the_store_of_one(alone, start, tmp_path, count):
    said = [ended(process) for process in begin(start, tmp_path / "run", count)]
    assert [one.code for one in said] == [0] * count, said
    assert digest(tmp_path / "run/sweep.zarr") == alone
    names = ["dead_units.png", "extremes", "manifest.json", "similarity.csv", "similarity.png", "sweep.zarr"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "lost", "after", "seed"),
    [(2, 1, 3, 0), *((2 + 2 * (i % 2), i % 2, 1 + i % 3, i) for i in range(1, KILLS))],
)
def test_when_one_is_killed_the_others_say_so_and_another_number_finishes(
    alone, start, tmp_path, count, lost, after, seed
):
    out = tmp_path / "run"
    crew = begin(start, out, count, "--patience", 4)
    while not list(out.glob(f".sweep.zarr.*/{lost}")):
        assert all(process.poll() is None for process in crew)
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0, 0.3))
    crew[lost].kill()
    said = [ended(process) for process in crew]
    if not (out / "manifest.json").exists():  # unless it was killed when all was done
        for index, one in enumerate(said):
            if index != lost:
                line = refused(one, code=3)
                lost_first = f"process {lost} of {count} has given no sign of life for 4 s"
                assert lost_first in line or "ended: ProcessLost" in line
        said = [ended(process) for process in begin(start, out, after)]
        assert [one.code for one in said] == [0] * after, said
    assert digest(out / "sweep.zarr") == alone
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_sigterm_ends_it_within_half_a_minute_and_the_same_command_goes_on(alone, start, workplace, tmp_path):
    out = tmp_path / "run"
    process = start(*WORDS, "--out", out)
    while not (out / "sweep.zarr").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    said = ended(process, timeout=30)
    assert "the same command goes on" in refused(said, code=130)
    assert not (out / "manifest.json").exists()
    successful(workplace, *WORDS, "--out", out)
    assert digest(out / "sweep.zarr") == alone


def test_who_is_who_must_be_said(jaxcam, tmp_path):
    out = ("--out", tmp_path / "run")
    assert "go with --distributed" in refused(jaxcam(*WORDS, "--processes", 2, *out), code=2)
    wrong = ("--coordinator", "127.0.0.1:1", "--processes", 2, "--process", 5)
    assert refused(jaxcam(*WORDS, "--distributed", *wrong, *out)) == "process is one of 0 to 1 of 2 processes; got 5"
    assert not (tmp_path / "run").exists()


def test_the_batch_jobs_of_the_examples_are_commands_that_exist():
    script = (ROOT / "examples/neurons.slurm").read_text()
    jobs = yaml.safe_load((ROOT / "examples/neurons-jobset.yaml").read_text())["spec"]["replicatedJobs"]
    job = jobs[0]["template"]["spec"]
    line = job["template"]["spec"]["containers"][0]["command"][-1].replace("$JOB_COMPLETION_INDEX", "3")
    given = []
    for text, before in ((script, "srun jaxcam neurons"), (line, "exec jaxcam neurons")):
        words = shlex.split(text[text.index(before) :].splitlines()[0])[3:]
        given.append(neurons.make_context("neurons", words).params)
    assert all(one["distributed"] and one["quiet"] for one in given)
    assert given[1]["processes"] == job["parallelism"] == job["completions"]
    assert subprocess.run(["bash", "-n", ROOT / "examples/neurons.slurm"]).returncode == 0

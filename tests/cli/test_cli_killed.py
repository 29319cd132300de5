"""Killed between any two changes of the disk, a run directory never blocks the next run, and never deceives it."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from cli_helpers import ROOT

from jaxcam.cli import compilations
from jaxcam.cli.run_directory import ATLAS, MANIFEST, MARK, RUN, RunDirectory, describe, finished


class Killed(BaseException):
    """The end of the process: nothing happens after it."""


def killed_at(step, work):
    """Whether some work was killed before its end, at so many changes of the disk, counted from 0."""
    with pytest.MonkeyPatch.context() as patch:
        count = itertools.count()

        def until_killed(real):
            def change(*args, **options):
                if next(count) >= step:
                    raise Killed
                return real(*args, **options)

            return change

        for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "chmod"):
            patch.setattr(os, name, until_killed(getattr(os, name)))
        try:
            work()
        except Killed:
            return True
    return False


ARGUMENTS = {"images": 3}
FILES = {
    "neurons": ["sweep.zarr/zarr.json", "sweep.zarr/conv0/c/0", "similarity.csv", "extremes/conv0.png"],
    "train": ["model.safetensors", "history.csv", "epochs/epoch_000.safetensors"],
    "landscape": ["points.npz", "landscape.npz"],
    "explain": ["maps.npz", "pictures/a.png"],
}


def make(path, command, *, is_finished):
    run = RunDirectory(command, path, ARGUMENTS).__enter__()
    for name in FILES[command]:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("a result")
    if is_finished:
        run.finish(results={"a": 1})
        (path / ATLAS).mkdir()
        for name in (MARK, "index.html"):
            (path / ATLAS / name).write_text("a page")
    run._release()
    run._inside.close()
    (path / "notes.txt").write_text("mine")


def check(path, command):
    """The next run of the same command can have the directory, and never meets half a result."""
    for folder in {name.split("/")[0] for name in FILES[command] if "/" in name}:
        if (path / folder).exists():
            assert all((path / name).exists() for name in FILES[command] if name.startswith(f"{folder}/"))
    if (path / MANIFEST).exists():
        assert finished(path, command, ARGUMENTS)
        assert all((path / name).exists() for name in FILES[command])
    else:
        assert describe(path)["command"] == command
        RunDirectory(command, path, ARGUMENTS)
    with RunDirectory(command, path, {"images": 5}, overwrite=True) as run:
        assert sorted(entry.name for entry in path.iterdir()) == ["notes.txt", RUN]
        run.finish(results={"a": 2})
    assert json.loads((path / MANIFEST).read_text())["results"] == {"a": 2}


@pytest.mark.parametrize("is_finished", [True, False])
@pytest.mark.parametrize("command", FILES)
def test_replacing_a_run_may_be_killed_at_any_step(command, is_finished, tmp_path):
    for step in itertools.count():
        path = tmp_path / str(step)
        make(path, command, is_finished=is_finished)
        inside = RunDirectory(command, path, {"images": 4}, overwrite=True)
        if not killed_at(step, inside.__enter__):
            break
        inside._release()
        check(path, command)
    assert step > 4


@pytest.mark.parametrize("command", FILES)
def test_finishing_a_run_may_be_killed_at_any_step(command, tmp_path):
    for step in itertools.count():
        path = tmp_path / str(step)
        make(path, command, is_finished=False)
        with RunDirectory("explain", tmp_path / "other", {}) as run:
            run.command, run.path, run.arguments = command, path, ARGUMENTS
            was_killed = killed_at(step, lambda: run.finish(results={"a": 1}))
            run._is_finished = True
        check(path, command)
        shutil.rmtree(tmp_path / "other")
        if not was_killed:
            break
    assert step > 2


def test_half_of_a_folder_is_never_gone_on_from(tmp_path, monkeypatch):
    """A store whose chunks were partly removed would read as if they had never been measured."""
    make(tmp_path / "run", "neurons", is_finished=True)

    def half(folder, ignore_errors=False):
        if folder.exists():
            for chunk in folder.glob("*/c/*"):
                chunk.unlink()
            raise Killed

    monkeypatch.setattr("shutil.rmtree", half)
    with pytest.raises(Killed):
        RunDirectory("neurons", tmp_path / "run", ARGUMENTS, overwrite=True).__enter__()
    monkeypatch.undo()
    assert not (tmp_path / "run/sweep.zarr").exists()
    assert not RunDirectory("neurons", tmp_path / "run", ARGUMENTS).goes_on
    assert not (tmp_path / "run" / MANIFEST).exists()


def test_a_folder_that_cannot_be_removed_is_an_error_and_the_run_is_unfinished(tmp_path, monkeypatch):
    make(tmp_path / "run", "explain", is_finished=True)

    def fails(folder, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("shutil.rmtree", fails)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(PermissionError, match="pictures"):
        RunDirectory("explain", tmp_path / "run", ARGUMENTS, overwrite=True).__enter__()
    monkeypatch.undo()
    check(tmp_path / "run", "explain")


def test_a_folder_that_is_still_written_to_is_removed_nevertheless(tmp_path, monkeypatch):
    """Zarr's threads write on for a moment."""
    make(tmp_path / "run", "explain", is_finished=True)
    real, late = shutil.rmtree, iter([True, True])

    def rmtree(folder, ignore_errors=False):
        was_there = folder.exists()
        real(folder, ignore_errors)
        if was_there and next(late, False):
            folder.mkdir()
            (folder / "late").touch()

    monkeypatch.setattr("shutil.rmtree", rmtree)
    check(tmp_path / "run", "explain")


def test_what_a_killed_run_was_writing_does_not_stay_for_ever(tmp_path):
    make(tmp_path, "neurons", is_finished=False)
    for name in (f".{RUN}.a1", f".{MANIFEST}.b2", ".similarity.csv.c3"):
        (tmp_path / name).write_text("hal")
    for name in (".sweep.zarr.new", ".sweep.zarr.0f3a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("hal")
    (tmp_path / ".gitignore").write_text("mine")
    with RunDirectory("neurons", tmp_path, ARGUMENTS) as run:
        assert run.goes_on
        assert [path.name for path in tmp_path.glob(".*")] == [".gitignore"]
        run.finish(results={})


def test_a_training_that_goes_on_keeps_its_state_and_not_the_one_it_was_writing(tmp_path):
    make(tmp_path, "train", is_finished=False)
    (tmp_path / "state.safetensors").write_text("the last epoch")
    (tmp_path / ".state.safetensors.a1").write_text("hal")
    with RunDirectory("train", tmp_path, ARGUMENTS) as run:
        assert (tmp_path / "state.safetensors").read_text() == "the last epoch"
        assert list(tmp_path.glob(".*")) == []
        run.finish(results={})


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCAM_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return compilations.cache_directory()


def test_a_program_that_was_half_kept_goes_and_others_stay(cache):
    for name in ("a-cache", "a-atime", "b-cache", "c-atime", "notes"):
        (cache / name).write_bytes(b"1")
    assert compilations.cache_directory() == cache
    assert {path.name for path in cache.iterdir()} == {"a-cache", "a-atime", "c-atime", "notes", ".lockfile"}


def test_while_somebody_writes_to_the_cache_nothing_is_removed(cache):
    (cache / "b-cache").write_bytes(b"1")
    held = compilations.lock(cache, 0.0)
    assert compilations.lock(cache, 0.1) is None
    compilations.remove_half_kept(cache)
    assert (cache / "b-cache").exists()
    os.close(held)
    compilations.remove_half_kept(cache)
    assert not (cache / "b-cache").exists()


def test_the_lock_of_the_cache_is_jax_s(cache):
    filelock = pytest.importorskip("filelock")
    with filelock.FileLock(cache / compilations.LOCK):
        assert compilations.lock(cache, 0.0) is None
    os.close(compilations.lock(cache, 0.0))


def test_jax_can_keep_programs_after_it_was_killed_in_the_middle(tmp_path):
    """What JAX does when half a program is there, with and without us: `-atime` is missing, and so it keeps nothing."""
    code = """
        import os, sys
        from jaxcam.cli import compilations
        with compilations.kept_compilations():
            import jax
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.jit(lambda x: x + {number})(1.0)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAXCAM_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu"}

    def kept(number):
        script = textwrap.dedent(code).format(number=number)
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
        return {path.name.rsplit("-", 1)[0] for path in tmp_path.rglob("*-cache")}

    first = kept(1)
    assert first
    lost = sorted(tmp_path.rglob("*-atime"))[0]
    lost.unlink()
    assert kept(2) - first


# In a process of its own: a stop takes the lock for good, as nothing comes after it.
WAITING = """
import os
import time

from jaxcam import interrupts
from jaxcam.cli import compilations

cache = compilations.cache_directory()
with compilations.kept_compilations():
    held = compilations.lock(cache, 0.0)
    wait = interrupts._clean_ups[-1]
    begun = time.monotonic()
    wait()
    assert 0.9 < time.monotonic() - begun < 3
    os.close(held)
    wait()
    assert compilations.lock(cache, 0.0) is None
assert wait not in interrupts._clean_ups
"""


def test_a_stop_waits_for_a_program_that_is_being_kept(cache):
    ended = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr

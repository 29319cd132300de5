"""From exceptions to lines and exit codes, and run directories at their edges: no command is needed for either."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_helpers import ROOT

import jaxcam
from jaxcam.cli.errors import DiskFull, Interrupted, explain, is_full, is_own, one_line, place_of
from jaxcam.cli.run_directory import (
    ATLAS,
    MANIFEST,
    MARK,
    RUN,
    RunDirectory,
    clear,
    describe,
    finished,
    others,
)


def caused(error, cause):
    error.__cause__ = cause
    return error


def during(error, context):
    error.__context__ = context
    return error


FULL, QUOTA = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Disk quota exceeded")
NOTHING_WRITTEN = ("the disk is full; nothing was written", 3)
CONTEXT = click.Context(
    click.Command("train"), info_name="train", parent=click.Context(click.Group(), info_name="jaxcam")
)

EXPLAINED = {
    "usage": (click.UsageError("no such option"), ("no such option; jaxcam --help shows how", 2)),
    "usage of a command": (
        click.UsageError("no such option.", CONTEXT),
        ("no such option; jaxcam train --help shows how", 2),
    ),
    "another of click's": (click.ClickException("cannot open"), ("cannot open", 1)),
    "interrupted": (Interrupted("stopped; 3 epochs are kept"), ("stopped; 3 epochs are kept", 130)),
    "Ctrl-C": (KeyboardInterrupt(), ("stopped", 130)),
    "aborted": (click.Abort(), ("stopped", 130)),
    "memory": (MemoryError(), ("out of memory: no more to be had; ask for fewer or smaller images", 3)),
    "memory, said": (MemoryError("5 GB"), ("out of memory: 5 GB; ask for fewer or smaller images", 3)),
    "memory of a device": (
        RuntimeError("RESOURCE_EXHAUSTED: 5 GB\nmore"),
        ("out of memory: RESOURCE_EXHAUSTED: 5 GB; ask for fewer or smaller images", 3),
    ),
    "a full disk": (FULL, NOTHING_WRITTEN),
    "a full share of a disk": (QUOTA, NOTHING_WRITTEN),
    "caused by a full disk": (caused(ValueError("no chunk"), FULL), NOTHING_WRITTEN),
    "during a full disk": (during(RuntimeError("no chunk"), QUOTA), NOTHING_WRITTEN),
    "two steps from a full disk": (during(RuntimeError("a"), caused(ValueError("b"), FULL)), NOTHING_WRITTEN),
    "a full disk, said": (
        caused(DiskFull("the disk is full; 3 epochs are kept"), FULL),
        ("the disk is full; 3 epochs are kept", 3),
    ),
    "a file": (FileNotFoundError(2, "No such file or directory", "a.png"), ("a.png: No such file or directory", 3)),
    "a descriptor": (OSError(9, "Bad file descriptor", 7), ("7: Bad file descriptor", 3)),
    "no file": (OSError(5, "Input/output error"), ("Input/output error", 3)),
    "of our own": (FileNotFoundError("no image file a.png"), ("no image file a.png", 3)),
    "without a word": (OSError(), ("OSError", 3)),
    "a module": (ModuleNotFoundError("No module named 'nets'"), ("No module named 'nets'", 3)),
    "a module without a word": (ImportError(), ("ImportError", 3)),
    "a value": (ValueError("no layer 'a'."), ("no layer 'a'", 1)),
    "a type": (TypeError("images are an array"), ("images are an array", 1)),
    "no network": (ValueError("no network, tfds cannot be reached"), ("no network, tfds cannot be reached", 3)),
    "no connection": (caused(ValueError("not all came"), ConnectionError()), ("not all came", 3)),
    "another cause": (caused(ValueError("not all came"), KeyError("a")), ("not all came", 1)),
    "a bug": (RuntimeError("boom"), ("unexpected RuntimeError: boom; JAXCAM_DEBUG=1 shows where it comes from", 70)),
    "a bug without a word": (
        AssertionError(),
        ("unexpected AssertionError: no message; JAXCAM_DEBUG=1 shows where it comes from", 70),
    ),
    "a key": (KeyError("a"), ("unexpected KeyError: a; JAXCAM_DEBUG=1 shows where it comes from", 70)),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_an_exception_is_one_line_and_a_code(name):
    error, expected = EXPLAINED[name]
    assert explain(error) == expected


def test_a_line_is_the_first_that_says_something():
    assert one_line("") == one_line("\n \n") == ""
    assert one_line("  a..\nb") == "a."
    assert one_line("a. b") == "a. b"
    assert one_line(KeyError()) == ""
    assert one_line(KeyError("a", "b")) == "a"
    assert one_line(ValueError("a", "b")) == "('a', 'b')"


def test_other_errors_of_the_disk_do_not_say_that_it_is_full():
    for number in (errno.EACCES, errno.EIO, errno.ENOENT, errno.EROFS):
        assert not is_full(OSError(number, "no"))
    assert not is_full(None)
    assert not is_full(ValueError("No space left on device"))


def run_of(path, command="explain", arguments=None, *, is_finished=True):
    """A run with a result or two."""
    with RunDirectory(command, path, arguments or {}) as run:
        (path / "maps.npz").write_text("maps")
        run.finish(results={"a": 1}) if is_finished else None
        run._is_finished = True
    return path


def test_what_is_there_and_is_not_ours_is_named_three_at_most(tmp_path):
    for count, said in ((1, "a"), (3, "a, b, c"), (4, "a, b, c, …")):
        (tmp_path / "abcd"[count - 1]).touch()
        for name in "abcd"[: count - 1]:
            (tmp_path / name).touch()
        with pytest.raises(ValueError, match="no command of jaxcam") as error:
            RunDirectory("explain", tmp_path, {}, overwrite=True)
        assert f"wrote ({said});" in str(error.value)


def test_links_and_files_are_no_directories(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a link to nothing; use another --out"):
        RunDirectory("explain", tmp_path / "link", {})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; --out is a directory"):
        RunDirectory("explain", tmp_path / "file", {})
    (tmp_path / "to a folder").symlink_to(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    with RunDirectory("explain", tmp_path / "to a folder", {}) as run:
        run.finish(results={})
    assert (tmp_path / "folder" / MANIFEST).exists()


def test_what_cannot_be_read_is_not_ours(tmp_path):
    for name in (MANIFEST, RUN):
        for text in ("{", "[]", "{}", '{"command": "fly"}', "3", '{"command": null}'):
            (tmp_path / name).write_text(text)
            with pytest.raises(ValueError, match=rf"{name} was not written by jaxcam, or is damaged"):
                describe(tmp_path)
        (tmp_path / name).unlink()
    assert describe(tmp_path) is None


def test_the_manifest_counts_more_than_run_json(tmp_path):
    """Killed between the two: the run is finished."""
    run_of(tmp_path, arguments={"a": 1})
    (tmp_path / RUN).write_text(json.dumps({"command": "train", "arguments": {}}))
    assert describe(tmp_path)["command"] == "explain"
    assert finished(tmp_path, "explain", {"a": 1})
    with pytest.raises(ValueError, match="holds a finished run of jaxcam explain"):
        RunDirectory("train", tmp_path, {})
    assert not RunDirectory("train", tmp_path, {}, overwrite=True).goes_on


def test_a_run_is_finished_if_its_command_and_the_arguments_asked_about_are_the_same(tmp_path):
    run_of(tmp_path, arguments={"a": 1, "b": 2})
    assert finished(tmp_path, "explain", {"a": 1})
    assert finished(tmp_path, "explain", {"a": 1, "b": 2})
    assert finished(tmp_path, "explain", {})
    assert not finished(tmp_path, "explain", {"a": 2})
    assert not finished(tmp_path, "explain", {"a": 1, "b": 3})
    assert not finished(tmp_path, "train", {"a": 1})
    assert not finished(tmp_path / "nothing", "explain", {})
    run_of(tmp_path / "other", arguments={"a": 1}, is_finished=False)
    assert not finished(tmp_path / "other", "explain", {"a": 1})


def test_a_run_goes_on_only_from_what_its_command_goes_on_from(tmp_path):
    for command, name in (("train", "state.safetensors"), ("neurons", "sweep.zarr"), ("explain", "maps.npz")):
        path = tmp_path / command
        run = RunDirectory(command, path, {})
        assert not run.goes_on
        path.mkdir()
        (path / RUN).write_text(json.dumps({"command": command, "arguments": {}}))
        assert not run.goes_on
        (path / name).touch()
        assert run.goes_on == (command != "explain")
        (path / MANIFEST).touch()
        assert not run.goes_on


def test_only_the_directories_that_were_made_are_removed(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="no"), RunDirectory("explain", tmp_path / "there/deep/run", {}):
        raise ValueError("no")
    assert list((tmp_path / "there").iterdir()) == []
    run = RunDirectory("explain", tmp_path / "there/deep/run", {}).__enter__()
    (tmp_path / "there/deep/mine").touch()
    error = ValueError("no")
    run.__exit__(type(error), error, None)
    assert [path.name for path in (tmp_path / "there/deep").iterdir()] == ["mine"]


def test_an_error_after_the_manifest_leaves_the_run(tmp_path):
    run = RunDirectory("explain", tmp_path / "run", {}).__enter__()
    run.finish(results={"a": 1})
    error = ValueError("no page")
    run.__exit__(type(error), error, None)
    assert finished(tmp_path / "run", "explain", {})
    assert not (tmp_path / "run" / RUN).exists()


def test_who_says_what_is_kept_is_not_contradicted(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"^3 epochs are kept$"), RunDirectory("explain", tmp_path / "a", {}):
        raise KeyboardInterrupt("3 epochs are kept")
    with (
        pytest.raises(KeyboardInterrupt, match=r"^stopped; nothing is left in "),
        RunDirectory("explain", tmp_path / "a", {}),
    ):
        raise KeyboardInterrupt
    with (
        pytest.raises(DiskFull, match=r"^the disk is full; nothing is left in "),
        RunDirectory("explain", tmp_path / "a", {}),
    ):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(OSError, match="denied"), RunDirectory("explain", tmp_path / "a", {}):
        raise PermissionError(13, "denied")


def test_a_manifest_lists_the_results_that_are_there(tmp_path):
    with RunDirectory("explain", tmp_path / "run", {"out": tmp_path, "target": (1, 2)}) as run:
        for name in ("sheet.png", "maps.npz", "notes.txt"):
            (tmp_path / "run" / name).touch()
        (tmp_path / "run/state.safetensors").touch()
        run.finish(results={"a": 1}, seed=3)
    manifest = json.loads((tmp_path / "run" / MANIFEST).read_text())
    assert manifest["files"] == ["maps.npz", "sheet.png"]
    assert manifest["arguments"] == {"target": [1, 2], "out": str(tmp_path / "run")}
    assert (manifest["command"], manifest["seed"], manifest["model"], manifest["data"]) == ("explain", 3, None, None)
    assert 0 <= manifest["seconds"] < 60
    assert not (tmp_path / "run/state.safetensors").exists()


def test_clearing_leaves_what_is_not_ours_and_never_follows_a_link(tmp_path):
    run_of(tmp_path / "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "picture.png").touch()
    (tmp_path / "run/pictures").symlink_to(elsewhere)
    (tmp_path / "run" / ATLAS).mkdir()
    (tmp_path / "run" / ATLAS / "thesis.html").touch()
    clear(tmp_path / "run")
    assert (elsewhere / "picture.png").exists()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {ATLAS, RUN}
    (tmp_path / "run" / ATLAS / MARK).touch()
    clear(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_clearing_a_demo_clears_the_runs_in_it_and_nothing_else(tmp_path):
    with RunDirectory("demo", tmp_path, {}) as run:
        for name in ("train", "averages"):
            with RunDirectory(name, tmp_path / name, {}) as inner:
                (tmp_path / name / ("history.csv" if name == "train" else "averages.npz")).touch()
                inner.finish(results={})
        (tmp_path / "averages/mine.txt").touch()
        run.finish(results={})
    clear(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        "averages/mine.txt",
        f"averages/{RUN}",
        RUN,
    }


def test_of_a_run_killed_in_its_first_moment_nothing_stands_in_the_way(tmp_path):
    (tmp_path / f".{RUN}.a1").touch()
    assert others(tmp_path) == []
    assert others(tmp_path / "nothing") == []
    with RunDirectory("explain", tmp_path, {}) as run:
        assert [path.name for path in tmp_path.iterdir()] == [RUN]
        run.finish(results={})
    (tmp_path / f".{MANIFEST}.a1").touch()
    assert len(others(tmp_path)) == 2


def test_a_directory_that_another_process_finished_meanwhile_is_refused_and_given_back(tmp_path):
    late = RunDirectory("explain", tmp_path / "run", {})
    run_of(tmp_path / "run")
    with pytest.raises(ValueError, match="holds a finished run"):
        late.__enter__()
    with RunDirectory("explain", tmp_path / "run", {}, overwrite=True) as run:
        run.finish(results={})


def test_a_lock_is_held_between_processes_and_given_back(tmp_path):
    code = "import sys; from pathlib import Path; from jaxcam.cli.run_directory import RunDirectory\n"
    code += "with RunDirectory('explain', Path(sys.argv[1]), {}) as run: run.finish(results={})"

    def another():
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", code, str(tmp_path / "run")]
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    run = RunDirectory("explain", tmp_path / "run", {}).__enter__()
    assert "is being written by another jaxcam" in another().stderr
    error = ValueError("no")
    run.__exit__(type(error), error, None)
    assert another().returncode == 0
    assert finished(tmp_path / "run", "explain", {})


def test_the_last_line_of_ones_own_code_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jaxcam.cli.errors.OWN", [tmp_path])
    file = tmp_path / "nets.py"
    file.write_text("def f(a):\n    return g(a)\n\ndef g(a):\n    return sorted(a, key=lambda b: b.c)\n")
    names = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(AttributeError) as told:
        names["f"]([1])
    assert place_of(told.value) == "nets.py, line 5"
    assert place_of(ValueError()) == ""


def test_code_of_jaxcam_or_of_an_environment_is_nobodys_own():
    package = Path(jaxcam.__file__).parent
    assert is_own(Path("/home/me/nets.py"), Path("/home/me"))
    assert not is_own(Path("/home/you/nets.py"), Path("/home/me"))
    assert not is_own(package / "files.py", package.parent)
    assert not is_own(Path("/home/me/env/site-packages/jax/api.py"), Path("/home/me"))


def test_who_leaves_a_run_unfinished_without_an_error_loses_nothing(tmp_path):
    with RunDirectory("explain", tmp_path / "run", {}):
        (tmp_path / "run/maps.npz").touch()
    assert (tmp_path / "run/maps.npz").exists()
    assert (tmp_path / "run" / RUN).exists()

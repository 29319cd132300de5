"""Interrupted at any moment and called again, a training ends with the bits of one that was not."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file
from training_twins import Small, digits, run, same, weights

import jaxcam.training.loop as loop
from jaxcam.training import History, checkpoint, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training of four epochs: its directory, model and history."""
    out = tmp_path_factory.mktemp("whole")
    return out, *run(out)


def contents(out):
    """Every file of a training; not the curves, which have the time in them and are there with TensorBoard only."""
    files = {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}
    return {name: content for name, content in files.items() if not name.startswith("tensorboard/")}


def start(out, cache, deadly=0):
    script = Path(__file__).with_name("training_twins.py")
    root = script.parents[2]
    # Processes that share their compiled programs start sooner.
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | compiled | {"PYTHONPATH": str(root)}
    return subprocess.Popen([sys.executable, script, out, str(deadly)], env=environment, cwd=root)


def test_two_epochs_and_two_more_are_four(tmp_path, whole):
    run(tmp_path, epochs=2)
    model, history = run(tmp_path)
    assert history == whole[2]
    assert same(weights(model), weights(whole[1]))
    assert contents(tmp_path)["state.safetensors"] == contents(whole[0])["state.safetensors"]


def test_the_model_that_reached_the_second_epoch_may_go_on_itself(tmp_path, whole):
    model, _ = run(tmp_path, epochs=2)
    _, history = run(tmp_path, model=model)
    assert history == whole[2]


@pytest.mark.slow
def test_killed_at_any_moment_a_training_ends_with_the_same_bits(tmp_path, whole):
    out, cache = tmp_path / "out", tmp_path / "cache"
    # Renames in the order they come: epoch_000; model, history, state; model, epoch_002, history, state; …
    before_the_first_history, before_the_second_history = 3, 7
    for deadly in (before_the_first_history, before_the_second_history):
        assert start(out, cache, deadly).wait() == -9
    # And somewhere between the files of an epoch and those of the next.
    seen = contents(out)["state.safetensors"]
    process = start(out, cache)
    while process.poll() is None and contents(out)["state.safetensors"] == seen:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert start(out, cache).wait() == 0
    assert contents(out) == contents(whole[0])


def test_a_finished_training_is_only_read_again(tmp_path, whole):
    run(tmp_path)
    before = contents(tmp_path)
    model, history = run(tmp_path)
    assert history == whole[2]
    assert same(weights(model), weights(whole[1]))
    assert contents(tmp_path) == before


def test_fewer_epochs_than_there_are_cannot_be_asked_for(tmp_path):
    run(tmp_path, epochs=2)
    with pytest.raises(ValueError, match="holds 2 epochs already, 1 were asked for; pass another out"):
        run(tmp_path, epochs=1)


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"batch": 32, "seed": 1}, ["batch was 16, is 32", "seed was 0, is 1"]),
        (
            {"learning_rate": 0.1, "weight_decay": 0.0},
            ["learning_rate was 0.001, is 0.1", "weight_decay was 1e-05, is 0"],
        ),
        ({"model": Small(3)}, ["model initial weights was"]),
        ({"model": Small(units=4)}, ["model shapes conv.bias was float32[8], is float32[4]"]),
        ({"model": Small(dropout=0.5)}, ["model equations was"]),
    ],
)
def test_another_training_is_not_continued(tmp_path_factory, whole, changes, messages):
    before = contents(whole[0])
    with pytest.raises(ValueError, match="holds a training with other settings") as caught:
        run(whole[0], **changes)
    for message in [*messages, "pass another out, or resume=False to start anew"]:
        assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(whole[0]) == before


def test_other_data_are_not_trained_on(whole):
    with pytest.raises(
        ValueError, match=r"training data was digits \(70 images, .{8}\), is digits \(60 images, .{8}\)"
    ):
        train(Small(), digits(60)[0], digits()[1], out=whole[0], epochs=4, batch=16)


def test_a_training_is_started_anew_on_request(tmp_path, whole):
    run(tmp_path, seed=1, epochs=6)
    _, history = run(tmp_path, resume=False)
    assert history == whole[2]
    assert contents(tmp_path) == contents(whole[0])


def test_a_newer_version_goes_on_with_a_warning(tmp_path, whole, monkeypatch):
    run(tmp_path, epochs=2)
    monkeypatch.setattr("jaxcam.training.checkpoint.jax.__version__", "99.0")
    with pytest.warns(UserWarning, match=r"goes on with jax 99\.0 and flax .* what was begun with jax"):
        _, history = run(tmp_path)
    assert history == whole[2]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x10\0\0\0\0\0\0\0{}"])
def test_a_damaged_state_is_named(tmp_path, content):
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged or no state of a training: remove it"):
        run(tmp_path)


def test_a_changed_byte_of_a_state_is_told(tmp_path):
    run(tmp_path, epochs=1)
    file = tmp_path / "state.safetensors"
    content = file.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    for position in (content.index(b"history") + 20, head, len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"state\.safetensors is damaged or no state of a training: remove it"):
            run(tmp_path)


def interrupted(monkeypatch, error, after):
    """Raises `error` in the step after so many."""
    count, train_step = 0, loop.train_step

    def counted(*arguments, **options):
        nonlocal count
        count += 1
        if count > after:
            raise error
        return train_step(*arguments, **options)

    monkeypatch.setattr(loop, "train_step", counted)


def test_control_c_keeps_the_last_complete_epoch_and_says_so(tmp_path, whole, monkeypatch):
    model = Small()
    with monkeypatch.context() as patch:
        interrupted(patch, KeyboardInterrupt, after=13)
        with pytest.raises(
            KeyboardInterrupt, match=r"training stopped; 2 of 4 epochs are kept in .*, the same call goes on"
        ):
            run(tmp_path, model=model)
    assert History.from_csv(tmp_path / "history.csv") == whole[2][:2]
    two_epochs, _ = run(tmp_path / "two", epochs=2)
    assert same(weights(model), weights(two_epochs))
    assert run(tmp_path)[1] == whole[2]


def test_control_c_in_the_first_epoch_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    model = Small()
    interrupted(monkeypatch, KeyboardInterrupt, after=2)
    with pytest.raises(KeyboardInterrupt, match="training stopped; no epoch was complete"):
        run(tmp_path, model=model)
    assert same(nnx.state(model, nnx.Param), nnx.state(Small(), nnx.Param))


def test_a_full_disk_keeps_the_last_complete_epoch(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        calls, fsync = 0, os.fsync

        def full(descriptor):
            nonlocal calls
            calls += 1
            if calls > 6:
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(descriptor)

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path)
    assert not list(tmp_path.rglob(".*"))
    assert run(tmp_path)[1] == whole[2]
    assert contents(tmp_path) == contents(whole[0])


def test_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / "epochs").mkdir()
    left = [tmp_path / ".state.safetensors.abc", tmp_path / "epochs/.epoch_002.safetensors.xyz"]
    for file in left:
        file.write_bytes(b"half")
    run(tmp_path, epochs=1)
    assert not any(file.exists() for file in left)


def test_arrays_that_lie_column_by_column_are_written_row_by_row(tmp_path):
    columns = {"w": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))}
    moments = (optax.ScaleByAdamState(np.zeros((), np.int32), columns, columns), optax.EmptyState())
    state = checkpoint.State(columns, dict(columns), moments, History())
    checkpoint.write_state(tmp_path / "state.safetensors", state, {})
    found = load_file(tmp_path / "state.safetensors")
    assert len([name for name in found if name.endswith("/w")]) == 4
    for name, array in found.items():
        np.testing.assert_array_equal(array, columns["w"] if name.endswith("/w") else 0)

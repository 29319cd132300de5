"""The sweep's store: what is in it, who can read it, what it refuses, and that no interruption shows in its bytes."""

import errno
import importlib
import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
import zarr
from jax.tree_util import Partial
from neurons_nets import classifier, files, images, net, parameters
from neurons_sweeper import CLASSES

import jaxcam as jc
from jaxcam.neurons import MEASURES, maps, open_sweep, similarity, store, sweep

NAMES = ["bird", "cat", "dog"]
DESCRIBED = {"describe": {"model": {"name": "small"}, "seed": 7}, "progress": False}
# The function has taken the module's name in the package.
sweeping = importlib.import_module("jaxcam.neurons.sweep")


@pytest.fixture(scope="module")
def small():
    """Two layers of 4 and 6 units, some of them dead."""
    return classifier(shift=-0.1).model


@pytest.fixture(scope="module")
def averages():
    return np.concatenate([images((8, 7, 2), seed) for seed in (1, 2, 3)])


@pytest.fixture(scope="module")
def swept(small, averages, tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "sweep.zarr"
    return sweep(small, averages, out, classes=NAMES, **DESCRIBED)


def test_what_is_stored_is_what_similarity_gives(small, averages, swept):
    found = similarity(small, averages)
    assert swept.layers == list(found) == ["a", "b"]
    for layer, values in found.items():
        np.testing.assert_array_equal(swept.similarity(layer), values)
        tapped = np.asarray(jc.tap(small, layer)(jnp.asarray(averages)))
        np.testing.assert_allclose(swept.activation(layer), tapped.mean((1, 2)), rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(swept.dead(layer), (tapped == 0).all((1, 2)))
    assert swept.dead("b").any()
    np.testing.assert_array_equal(swept.average, averages)
    np.testing.assert_allclose(swept.confidence, jax.nn.softmax(small(averages)), rtol=1e-5)


def test_against_confidence_class_i_is_output_i(small, averages, tmp_path):
    options = {"against": "confidence", "rule": "gradient", "metric": "euclidean"}
    found = sweep(small, averages, tmp_path / "s.zarr", layers=["b"], progress=False, **options)
    wanted = similarity(small, averages, ["b"], target=[0, 1, 2], **options)["b"]
    np.testing.assert_allclose(found.similarity("b"), wanted, atol=1e-6)
    assert {key: found.attrs[key] for key in options} == options


def test_the_extremes_are_the_least_and_most_similar_live_units_and_their_maps(small, averages, swept):
    for layer in swept.layers:
        units, drawn = swept.extremes(layer)
        assert units.shape == (3, 16)
        for i in range(3):
            live = np.flatnonzero(~swept.dead(layer)[i])
            order = sorted(live, key=lambda unit: swept.similarity(layer)[i, unit])
            filled = [*order, *[-1] * (8 - len(order))]
            assert units[i].tolist() == [*filled, *order[::-1], *[-1] * (8 - len(order))]
            raw = np.asarray(maps(small, averages[i : i + 1], layer))[:, 0]
            for unit, stored in zip(units[i], drawn[i], strict=True):
                np.testing.assert_allclose(stored, raw[unit] if unit >= 0 else 0 * raw[0], atol=1e-6)


def test_for_a_distance_the_least_similar_are_the_farthest(small, averages, tmp_path):
    found = sweep(small, averages[:1], tmp_path / "s.zarr", layers=["a"], metric="euclidean", progress=False)
    units, _ = found.extremes("a")
    lowest, highest = (found.similarity("a")[0, units[0, i]] for i in (0, 8))
    assert not MEASURES["euclidean"].larger_is_similar
    assert lowest > highest


def test_ranks_are_those_of_a_slow_search():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values, dead = rng.integers(0, 6, 20) / 5, rng.random(20) < rng.random()
        found = sweeping.rank(values, dead, 5).tolist()
        left, right = found[:5], found[5:]
        live = {unit for unit in range(20) if not dead[unit]}
        for side, pick in ((left, min), (right, max)):
            remaining = set(live)
            for unit in side:
                if not remaining:
                    assert unit == -1
                    continue
                assert unit in remaining
                assert values[unit] == pick(values[other] for other in remaining)
                remaining.discard(unit)


def test_maps_of_large_images_are_kept_by_their_mean_in_cells(tmp_path):
    one = net(_one_convolution, {"a": parameters(np.random.default_rng(0), 2, 3)}, (67, 130, 2), ("a",))
    found = sweep(one.model, np.asarray(one.x), tmp_path / "s.zarr", progress=False)
    units, drawn = found.extremes("a")
    assert drawn.shape == (1, 16, 23, 44, 2)
    raw = np.asarray(maps(one.model, one.x, "a"))[units[0, 0], 0]
    for i, j in ((0, 0), (22, 43), (22, 7), (11, 20)):
        cell = raw[3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
        np.testing.assert_allclose(drawn[0, 0, i, j], cell.mean((0, 1)), rtol=1e-4, atol=1e-6)


def _one_convolution(p, x):
    z = jax.lax.conv_general_dilated(x, p["a"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(z).mean((1, 2))


def test_curves_are_means_and_deviations_of_all_units_or_the_live(swept):
    for live in (False, True):
        means, deviations = swept.curves(live)
        for (i, _), (j, layer) in itertools.product(enumerate(NAMES), enumerate(swept.layers)):
            values = swept.similarity(layer)[i]
            values = values[~swept.dead(layer)[i]] if live else values
            np.testing.assert_allclose(means[i, j], sum(values) / len(values), rtol=1e-5)
            np.testing.assert_allclose(deviations[i, j], np.sqrt(np.mean((values - means[i, j]) ** 2)), rtol=1e-4)


def test_a_layer_all_dead_has_no_live_mean_and_no_extremes(averages, tmp_path):
    found = sweep(classifier(shift=-100.0).model, averages, tmp_path / "s.zarr", progress=False)
    means, _ = found.curves(live=True)
    assert np.isnan(means).all()
    assert (found.curves()[0] == 0).all()
    units, drawn = found.extremes("b")
    assert (units == -1).all()
    assert (drawn == 0).all()


def test_xarray_reads_every_layer_by_its_dimensions(swept):
    for layer in swept.layers:
        opened = xarray.open_zarr(swept.path, group=layer)
        assert opened["similarity"].dims == ("class", "unit")
        assert opened["extreme_map"].dims == ("class", "rank", "y", "x", "channel")
        assert opened["dead"].dtype == bool
        np.testing.assert_array_equal(opened["similarity"], swept.similarity(layer))
        assert opened.attrs["units"] == len(opened["unit"])
    tree = xarray.open_datatree(swept.path, engine="zarr")
    assert sorted(tree.children) == ["a", "b"]
    assert tree["average"].dims == ("class", "y", "x", "channel")
    np.testing.assert_array_equal(tree["b/dead"], swept.dead("b"))


def test_the_attributes_say_what_was_measured_and_with_what(swept):
    attributes = dict(zarr.open_group(swept.path, mode="r").attrs)
    expected = {"rule": "guided", "against": "image", "metric": "cosine", "seed": 7, "classes": NAMES}
    assert {key: attributes[key] for key in expected} == expected
    assert attributes["model"] == {"name": "small"}
    assert attributes["layers"] == ["a", "b"]
    assert attributes["jaxcam"] == attributes["versions"]["jaxcam"] == jc.__version__
    assert attributes["versions"]["jax"] == jax.__version__
    assert (swept.classes, swept.layers) == (NAMES, ["a", "b"])
    group = dict(zarr.open_group(swept.path, mode="r")["b"].attrs)
    assert group == {"kind": "conv", "shape": [4, 3, 6], "units": 6}


def test_a_finished_sweep_is_returned_as_it_is(small, averages, swept, monkeypatch):
    before, times = files(swept.path), {p: p.stat().st_mtime_ns for p in swept.path.rglob("*")}
    monkeypatch.setattr("jaxcam.neurons.engine.LayerUnits.maps", None)
    again = sweep(small, averages, swept.path, classes=NAMES, progress=False)
    assert again.layers == swept.layers
    assert files(swept.path) == before
    assert {p: p.stat().st_mtime_ns for p in swept.path.rglob("*")} == times


def test_the_bar_goes_to_stderr_and_nothing_to_stdout(small, averages, tmp_path, capfd):
    sweep(small, averages[:1], tmp_path / "s.zarr", layers=["b"])
    assert capfd.readouterr().out == ""


# Interruptions.


class Full:
    """A disk with room for so many more writes."""

    def __init__(self, monkeypatch, writes):
        self.left, self.whole = writes, zarr.storage.LocalStore.set
        monkeypatch.setattr(zarr.storage.LocalStore, "set", lambda store, *arguments: self.write(store, *arguments))

    async def write(self, store, *arguments):
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        await self.whole(store, *arguments)


def count_writes(monkeypatch, call):
    disk = Full(monkeypatch, 10**9)
    call()
    monkeypatch.undo()
    return 10**9 - disk.left


def test_a_full_disk_keeps_what_was_there_and_the_next_call_goes_on(small, averages, swept, tmp_path, monkeypatch):
    def once(out):
        sweep(small, averages, out, classes=NAMES, **DESCRIBED)

    writes = count_writes(monkeypatch, lambda: once(tmp_path / "counted.zarr"))
    created = count_writes(monkeypatch, lambda: store_only(small, averages, tmp_path / "created.zarr"))
    assert writes > created + 3 * 2 * 6
    drawn = random.Random(0).sample(range(created, writes), 6)
    for i, room in enumerate([0, 1, created - 1, created, writes - 1, *drawn]):
        out = tmp_path / str(i) / "sweep.zarr"
        out.parent.mkdir()
        Full(monkeypatch, room)
        with pytest.raises(OSError, match="No space left on device") as caught:
            once(out)
        assert caught.value.errno == errno.ENOSPC
        monkeypatch.undo()
        # Either nothing, or a store that says it is not finished.
        assert [p.name for p in out.parent.iterdir()] == (["sweep.zarr"] if room >= created else [])
        if room >= created:
            with pytest.raises(ValueError, match="is not finished"):
                open_sweep(out)
        once(out)
        assert files(out) == files(swept.path)


def store_only(model, averages, out):
    """Creates a store and stops."""

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store.Store, "write_confidence", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep(model, averages, out, classes=NAMES, **DESCRIBED)


@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_ctrl_c_loses_at_most_the_layer_at_hand(small, averages, swept, tmp_path, monkeypatch, at):
    def run():
        sweep(small, averages, out, classes=NAMES, **DESCRIBED)

    out, measured, calls, layer_similarity = tmp_path / "sweep.zarr", [], itertools.count(), sweeping.layer_similarity

    def interrupted(sender, *rest):
        if next(calls) == at:
            raise KeyboardInterrupt
        return layer_similarity(sender, *rest)

    monkeypatch.setattr(sweeping, "layer_similarity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()
    with pytest.raises(ValueError, match=f"not finished: {at} of 6 parts; run the same command again"):
        open_sweep(out)

    def recorded(sender, *rest):
        measured.append(sender.name)
        return layer_similarity(sender, *rest)

    monkeypatch.setattr(sweeping, "layer_similarity", recorded)
    run()
    assert len(measured) == 6 - at
    assert files(out) == files(swept.path)


def test_what_a_killed_process_leaves_behind_is_cleared_away(small, averages, swept, tmp_path):
    out = tmp_path / "sweep.zarr"
    store_only(small, averages, out)
    (out / "b" / "similarity" / "c" / "0").mkdir(parents=True)
    (out / "b" / "similarity" / "c" / "0" / "0.1234.partial").write_bytes(b"half")
    (out / "b" / "similarity" / "c" / "0" / "0").write_bytes(b"of another attempt")
    building = tmp_path / ".sweep.zarr.new"
    (building / "a").mkdir(parents=True)
    (building / "zarr.json").write_text("{")
    sweep(small, averages, out, classes=NAMES, **DESCRIBED)
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.zarr"]
    assert files(out) == files(swept.path)


def test_what_is_left_where_a_finished_store_has_no_file_is_cleared_away_too(averages, tmp_path):
    silent = classifier(shift=-100.0).model
    whole, out = tmp_path / "whole.zarr", tmp_path / "sweep.zarr"
    sweep(silent, averages, whole, classes=NAMES, **DESCRIBED)
    store_only(silent, averages, out)
    # No unit lives, so there are no extremes: Zarr leaves out what is the fill value all over.
    chunk = Path("b", "extreme_unit", "c", "0", "0")
    assert str(chunk) not in files(whole)
    (out / chunk).parent.mkdir(parents=True)
    (out / chunk).write_bytes(b"of another attempt")
    sweep(silent, averages, out, classes=NAMES, **DESCRIBED)
    assert files(out) == files(whole)


@pytest.fixture(scope="module")
def sweeper(tmp_path_factory):
    """Starts the sweep in a process of its own; all such processes share what they compile."""
    root = Path(jc.__file__).parents[1]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)]),
    }
    command = [sys.executable, str(Path(__file__).with_name("neurons_sweeper.py"))]

    def start(out):
        return subprocess.Popen([*command, str(out)], env=os.environ | cache, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="module")
def uninterrupted(sweeper, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "sweep.zarr"
    process = sweeper(out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return files(out)


def progress_of(out):
    """Seconds, files of a store being created (very many once there is one), and parts of the sweep that are done."""
    created = 10**6 if out.exists() else count_files(out.with_name(f".{out.name}.new"))
    return {"seconds": time.monotonic(), "files": created, "parts": count_files(out / "done" / "c")}


def count_files(path):
    # What disappears while it is walked is left out.
    return sum(len([name for name in names if "partial" not in name]) for _, _, names in os.walk(path))


def kill_until_finished(sweeper, out, moments):
    """Kills one process after another, then lets one finish.

    Args:
        sweeper: starts a process.
        out: the store.
        moments: for each process what is waited for, "seconds", "files" of a store being created, or "parts" done by
            this process; how many, and how many seconds longer.

    Returns:
        How many parts were done after each kill.
    """
    survived = []
    for kind, count, longer in moments:
        # What was created by another process is thrown away.
        until = count if kind == "files" else progress_of(out)[kind] + count
        process = sweeper(out)
        while process.poll() is None and progress_of(out)[kind] < until:
            time.sleep(0.001)
        time.sleep(longer)
        process.kill()
        process.communicate()
        survived.append(progress_of(out)["parts"])
    process = sweeper(out)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return survived


def after_some_parts(seed, kills, most):
    drawn = random.Random(seed)
    return [("parts", drawn.randint(1, most), 0.02 * drawn.random()) for _ in range(kills)]


@pytest.mark.slow
def test_killed_ten_times_and_started_again_the_store_is_the_same_to_the_byte(sweeper, uninterrupted, tmp_path):
    out, seed = tmp_path / "sweep.zarr", 0
    drawn = random.Random(seed)
    while_creating = [("files", drawn.randint(1, 25), 0.0) for _ in range(3)]
    while_starting = [("seconds", drawn.uniform(0.1, 2), 0.0)]
    survived = kill_until_finished(sweeper, out, [*while_creating, *while_starting, *after_some_parts(seed, 6, most=8)])
    assert survived[0] == 0
    assert survived == sorted(survived)  # each went on from where the last one was
    assert len({parts for parts in survived if 0 < parts < 2 * CLASSES}) >= 3
    assert files(out) == uninterrupted
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.zarr"]


# What is refused.


def test_a_store_of_anything_else_is_refused_with_all_that_differs(small, averages, swept, monkeypatch):
    before = files(swept.path)

    def refusal(model=small, images=averages, **options):
        with pytest.raises(ValueError, match="holds a sweep of") as caught:
            sweep(model, images, swept.path, **{"classes": NAMES, "progress": False} | options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    other = jax.tree.map(lambda p: p + np.float32(1e-4), small)
    assert "sweep of another model. Give another path" in refusal(other)
    assert "sweep of other class averages. Give" in refusal(images=averages[::-1])
    assert "sweep of metric cosine instead of hamming. Give" in refusal(metric="hamming")
    assert "sweep of other layers. Give" in refusal(layers=["b"])
    message = refusal(
        other, averages + np.float32(0.1), rule="integrated", against="confidence", classes=["x", "y", "z"]
    )
    for part in (
        "another model; ",
        "other class averages; ",
        "rule guided instead of integrated; ",
        "against image instead of confidence; ",
        "steps None instead of 32; ",
        "classes ['bird', 'cat', 'dog'] instead of ['x', 'y', 'z']",
    ):
        assert part in message
    monkeypatch.setattr(store, "versions", lambda: {"jaxcam": "9"})
    assert "versions" in refusal()
    assert files(swept.path) == before


def test_a_model_is_the_same_however_it_is_held(small, averages, swept):
    # Equations and numbers make a model, not the object that carries them.
    copied = Partial(small.func, jax.tree.map(jnp.array, small.args[0]))
    assert sweep(copied, averages, swept.path, classes=NAMES, progress=False).layers == ["a", "b"]


@pytest.mark.parametrize(
    "what", ["a file", "an empty folder", "a folder of pictures", "another zarr group", "an array"]
)
def test_a_path_that_holds_no_store_is_left_alone(small, averages, tmp_path, what):
    out = tmp_path / "sweep.zarr"
    if what == "a file":
        out.write_text("my thesis")
    elif what == "another zarr group":
        zarr.open_group(out, mode="w", attributes={"title": "weather"})
    elif what == "an array":
        zarr.save_array(out, np.zeros(3))
    else:
        out.mkdir()
        if what == "a folder of pictures":
            (out / "cat.jpg").write_bytes(b"cat")
    before = files(tmp_path)
    for call in (lambda: sweep(small, averages, out, progress=False), lambda: open_sweep(out)):
        with pytest.raises(ValueError, match="is no store of a sweep") as caught:
            call()
        assert "\n" not in str(caught.value)
        assert files(tmp_path) == before


def test_where_there_is_no_store_opening_one_says_what_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no sweep at .*`jaxcam neurons` makes one"):
        open_sweep(tmp_path / "sweep.zarr")


def test_a_layer_that_was_not_swept_is_an_error_that_lists_what_was(swept):
    with pytest.raises(ValueError, match="no layer 'c'; there are a, b"):
        swept.similarity("c")


def with_(averages, index, value):
    changed = averages.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda a: {"averages": with_(a, (1, 0, 0, 0), np.nan)}, ValueError, "image 1 has NaN or infinite values"),
        (lambda a: {"averages": with_(a, 2, 0.5)}, ValueError, "the average of class 'dog' is 0.5 everywhere"),
        (lambda a: {"averages": a[:2]}, ValueError, "2 class averages need as many names; got 3: bird, cat, dog"),
        (lambda a: {"averages": a[..., :1]}, ValueError, "the model fails on images of shape (1, 8, 7, 1)"),
        (lambda a: {"averages": a[0]}, ValueError, "images are a non-empty array (n, h, w, c); got shape (8, 7, 2)"),
        (lambda a: {"averages": (255 * a).astype(np.uint8)}, TypeError, "images are floating point"),
        (lambda a: {"layers": ["logit"]}, ValueError, "no layer 'logit'; did you mean 'logits'"),
        (lambda a: {"rule": "guide"}, ValueError, "no rule 'guide'; did you mean 'guided'"),
        (lambda a: {"metric": "cos"}, ValueError, "no measure 'cos'"),
        (lambda a: {"against": "class"}, ValueError, "against 'image' or 'confidence'"),
        (lambda a: {"steps": 0, "rule": "integrated"}, ValueError, "at least 1 step"),
        (lambda a: {"model": Partial(jnp.negative)}, ValueError, "the model has no convolution"),
        (lambda a: {"model": _maps_only(a)}, ValueError, "a model gives logits (n, k)"),
        (lambda a: {"model": lambda x: x[:, 0, 0] @ jnp.ones((2, 2)), "layers": ["dense_0"], "against": "confidence"},
         ValueError, "targets are classes 0 to 1; got target=[0, 1, 2]"),
    ],
)  # fmt: skip
def test_bad_input_is_told_in_one_line_before_there_is_a_store(small, averages, tmp_path, change, error, message):
    arguments = {"model": small, "averages": averages, "classes": NAMES} | change(averages)
    with pytest.raises(error) as caught:
        sweep(arguments.pop("model"), arguments.pop("averages"), tmp_path / "s.zarr", progress=False, **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def _maps_only(averages):
    p = {"a": parameters(np.random.default_rng(0), 2, 3)}
    return Partial(
        lambda p, x: jax.lax.conv_general_dilated(
            x, p["a"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        p,
    )

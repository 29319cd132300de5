"""A sweep on edges: few live units, thumbnails that do not divide, names, and several processes' signs of life."""

import importlib
import os
import threading
import time
import types

import jax
import numpy as np
import pytest
import zarr
from neurons_nets import convolve

from jaxcam import neurons
from jaxcam.neurons import Processes, ProcessLost, active, engine, hosts, store
from jaxcam.neurons.hosts import LEFT, Crew, shares
from jaxcam.neurons.sweep import _check, _digest, _reduced, rank

KERNEL = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
AVERAGES = np.random.default_rng(1).random((3, 2, 2, 2)).astype(np.float32)


def network(x):
    return jax.nn.relu(x @ KERNEL).sum((1, 2))


@pytest.mark.parametrize("live", [0, 1, 2, 3, 4, 5])
def test_ends_of_a_ranking_may_overlap_and_never_name_a_dead_unit(live):
    similarity = np.array([0.5, 0.1, 0.4, 0.2, 0.3])
    dead = np.arange(5) >= live
    order = sorted(range(live), key=lambda unit: similarity[unit])
    nothing = [-1] * max(0, 3 - live)
    assert rank(similarity, dead, count=3).tolist() == order[:3] + nothing + order[::-1][:3] + nothing


def test_equal_units_are_ranked_in_their_order():
    assert rank(np.zeros(4), np.zeros(4, bool), count=2).tolist() == [0, 1, 3, 2]
    assert len(rank(np.zeros(40), np.zeros(40, bool))) == 16


@pytest.mark.parametrize(("h", "w", "factor"), [(4, 6, 2), (5, 7, 2), (3, 8, 3), (1, 5, 4), (4, 4, 1)])
def test_cells_at_the_edge_are_means_of_the_pixels_they_have(h, w, factor):
    maps = np.random.default_rng(0).normal(size=(2, h, w, 3)).astype(np.float32)
    got = _reduced(maps, factor)
    assert got.shape == (2, -(-h // factor), -(-w // factor), 3)
    for y, x in np.ndindex(got.shape[1:3]):
        cell = maps[:, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        np.testing.assert_allclose(got[:, y, x], cell.mean((1, 2)), atol=1e-6)


def test_averages_are_named_one_by_one_and_have_contrast():
    _check(AVERAGES, ["a", "b", "c"])
    for names in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(ValueError, match=f"3 class averages need as many names; got {len(names)}: a, b"):
            _check(AVERAGES, names)
    flat = AVERAGES.copy()
    flat[1] = 0.25
    with pytest.raises(ValueError, match=r"the average of class 'b' is 0\.25 everywhere"):
        _check(flat, ["a", "b", "c"])


def test_a_digest_tells_shapes_types_and_numbers_apart():
    zeros = np.zeros((2, 3), np.float32)
    others = [zeros.reshape(3, 2), zeros.view(np.int32), zeros + 1, zeros[:1], -zeros]
    assert len({_digest([array]) for array in [zeros, *others]}) == 6
    assert _digest([zeros, zeros]) != _digest([zeros])
    assert _digest([zeros]) == _digest([np.asfortranarray(zeros)])


def test_classes_are_numbered_where_they_have_no_names(tmp_path):
    swept = neurons.sweep(network, AVERAGES, tmp_path / "s.zarr", layers=["dense_0"], progress=False)
    assert swept.classes == ["0", "1", "2"]


def test_only_the_first_process_draws_a_bar(tmp_path, monkeypatch):
    module, bars, real = importlib.import_module("jaxcam.neurons.sweep"), {}, None
    real = module.Progress

    def bar(*columns, disable, **options):
        bars.setdefault(threading.current_thread().name, []).append(not disable)
        return real(*columns, disable=True, **options)

    monkeypatch.setattr(module, "Progress", bar)

    def call(me):
        neurons.sweep(network, AVERAGES, tmp_path / "s.zarr", layers=["dense_0"], processes=me)

    threads = [threading.Thread(target=call, args=(Processes(i, 3, "0000abcd", 30.0),), name=str(i)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bars == {"0": [True], "1": [False], "2": [False]}
    neurons.sweep(network, AVERAGES, tmp_path / "alone.zarr", layers=["dense_0"])
    assert bars["MainThread"] == [True]
    neurons.sweep(network, AVERAGES, tmp_path / "quiet.zarr", layers=["dense_0"], progress=False)
    assert bars["MainThread"] == [True, False]


@pytest.mark.parametrize(
    ("weights", "count", "ends"),
    [([1, 1, 1, 1], 2, [2, 4]), ([3, 1, 1, 1], 2, [1, 4]), ([1, 1, 1, 3], 2, [3, 4]), ([1, 1], 3, [1, 1, 2])],
)
def test_shares_end_where_half_of_an_item_lies_beyond(weights, count, ends):
    assert [part.stop for part in shares(weights, count)] == ends
    assert [part.start for part in shares(weights, count)] == [0, *ends[:-1]]


@pytest.fixture
def crew(tmp_path, monkeypatch):
    """Process 1 of 3, in a folder that process 0 has made."""
    monkeypatch.setattr(hosts, "BEAT", 0.02)
    made = Crew(Processes(1, 3, "0000abcd", 0.3), tmp_path / "s.zarr")
    made.folder.mkdir()
    return made


def test_a_process_that_gives_signs_is_waited_for_and_one_that_gives_none_is_not(crew):
    begun = time.monotonic()

    def signs():
        while time.monotonic() - begun < 1.0:
            for index in (0, 2):
                (crew.folder / "new").write_text(str(time.monotonic()))
                (crew.folder / "new").replace(crew.folder / str(index))
            time.sleep(0.02)

    thread = threading.Thread(target=signs)
    thread.start()
    crew.wait(lambda: time.monotonic() - begun > 0.8)  # more than twice its patience
    thread.join()
    with pytest.raises(ProcessLost, match=r"process [02] of 3 has given no sign of life"):
        crew.wait(lambda: False)


def test_only_the_life_of_the_one_waited_for_matters(crew):
    (crew.folder / "2").write_text("ended: OSError")
    begun = time.monotonic()
    crew.wait(lambda: time.monotonic() - begun > 0.1, only=0)
    with pytest.raises(ProcessLost, match="process 2 of 3 ended: OSError"):
        crew.wait(lambda: False)


def test_one_that_left_in_order_is_not_lost(crew):
    for index in (0, 2):
        (crew.folder / str(index)).write_text(LEFT)
    begun = time.monotonic()
    crew.wait(lambda: time.monotonic() - begun > 0.1)


@pytest.mark.parametrize("process", [-1, 2, 3])
def test_a_process_is_one_of_those_there_are(process):
    with pytest.raises(ValueError, match=f"process is one of 0 to 1 of 2 processes; got {process}"):
        neurons.join("127.0.0.1:1", processes=2, process=process)


@pytest.mark.parametrize(
    "some",
    [{"processes": 2}, {"process": 0}, {"coordinator": "a:1", "process": 0}, {"processes": 2, "process": 1}],
)
def test_all_three_say_who_a_process_is_or_none(some):
    with pytest.raises(ValueError, match="are given together, or none"):
        neurons.join(**some)


@pytest.mark.parametrize("process", [0, 1])
def test_the_first_and_the_last_process_are_let_in(process, monkeypatch):
    class Met(Exception):
        pass

    def meet(command, **options):
        raise Met(command[-1])

    monkeypatch.setattr("subprocess.Popen", meet)
    with pytest.raises(Met, match=rf'\["127.0.0.1:1", 2, {process}, '):
        neurons.join("127.0.0.1:1", processes=2, process=process)


def test_five_eighths_of_the_memory_are_for_matrices():
    asked = []
    footing = types.SimpleNamespace(
        below=lambda links, memory, name: asked.append((links, memory, name)) or None,
        forget=lambda: asked.append("forgot"),
    )
    image = types.SimpleNamespace(engine=types.SimpleNamespace(links={"a": [1], "b": []}, memory=800), _footing=footing)
    assert engine.ImageUnits._active(image, "a") is None
    assert engine.ImageUnits._active(image, "b") is None
    assert asked == [([1], 500, "a"), "forgot"]


def test_there_are_as_many_workers_as_cores_and_at_least_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert active.workers() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert active.workers() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert active.workers() == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [(AssertionError("node_type"), "an array"), (KeyError("shape"), "'shape'"), (OSError("x"), "x")],
)
def test_what_zarr_cannot_open_as_a_group_is_no_store(error, reason, monkeypatch, tmp_path):
    def fails(path, mode):
        raise error

    monkeypatch.setattr("zarr.open_group", fails)
    with pytest.raises(ValueError, match=rf"^{tmp_path} is no store of a sweep \({reason}\); give another path\.$"):
        store._open(tmp_path)


def test_a_class_is_a_chunk_of_every_array(tmp_path):
    kernel = jax.numpy.ones((3, 3, 3, 3))
    model = jax.tree_util.Partial(lambda k, x: jax.nn.relu(convolve(x, {"kernel": k})).mean((1, 2)), kernel)
    averages = np.random.default_rng(0).uniform(size=(2, 4, 4, 3)).astype(np.float32)
    swept = neurons.sweep(model, averages, tmp_path / "sweep.zarr", progress=False)
    opened = zarr.open_group(swept.path, mode="r")
    arrays = [array for _, array in opened.members(max_depth=None) if isinstance(array, zarr.Array)]
    assert len(arrays) > 5
    for array in arrays:
        dims = array.metadata.dimension_names
        if dims[0] == "class" and len(dims) > 1 and array.path != "confidence":
            assert array.chunks == (1, *array.shape[1:]), array.path

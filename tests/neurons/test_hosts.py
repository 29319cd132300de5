"""Several processes at one sweep: who does what, the same store, and what is said when one is lost."""

import dataclasses
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurons_nets import files

from jaxcam import interrupts, neurons
from jaxcam.neurons import Processes, ProcessLost, hosts
from jaxcam.neurons.hosts import Crew, shares

RNG = np.random.default_rng(0)
AVERAGES = RNG.random((3, 6, 6, 2), np.float32)
KERNELS = [jnp.asarray(RNG.normal(size=(3, 3, *size)), jnp.float32) for size in ((2, 4), (4, 7))]


def network(x):
    for kernel in KERNELS:
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(x)
    return x.mean((1, 2))[:, :3]


def crew_of(count, patience=30.0):
    return [Processes(index, count, "0000abcd", patience) for index in range(count)]


def together(out, processes):
    """What each of several threads found that make the call of as many processes."""
    found = {}

    def call(me):
        try:
            found[me.index] = neurons.sweep(network, AVERAGES, out, progress=False, processes=me)
        except Exception as error:
            found[me.index] = error

    threads = [threading.Thread(target=call, args=(me,)) for me in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("weights", [[1] * 9, [64, 128, 256, 512, 512] * 3, [1000, 1, 1, 1], [3]])
def test_every_item_has_one_process_and_no_process_far_more_than_its_share(weights, count):
    found = shares(weights, count)
    assert len(found) == count
    assert [i for part in found for i in range(len(weights))[part]] == list(range(len(weights)))
    heaviest = max(sum(weights[part]) for part in found)
    assert heaviest <= sum(weights) / count + max(weights)


@pytest.mark.parametrize("count", [2, 3])
def test_together_they_leave_the_store_of_one_and_nothing_else(tmp_path, count):
    alone = neurons.sweep(network, AVERAGES, tmp_path / "alone.zarr", progress=False)
    found = together(tmp_path / "sweep.zarr", crew_of(count))
    for index in range(count):
        for layer in alone.layers:
            np.testing.assert_array_equal(found[index].similarity(layer), alone.similarity(layer))
    assert files(tmp_path / "sweep.zarr") == files(tmp_path / "alone.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.zarr", "sweep.zarr"]


def test_a_finished_store_is_only_read_again(tmp_path):
    neurons.sweep(network, AVERAGES, tmp_path / "sweep.zarr", progress=False)
    before = files(tmp_path / "sweep.zarr")
    found = together(tmp_path / "sweep.zarr", crew_of(2))
    assert found[0].layers == found[1].layers == ["conv_0", "conv_1"]
    assert files(tmp_path / "sweep.zarr") == before


def test_one_that_gives_no_sign_is_named_and_another_number_finishes_its_part(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "BEAT", 0.1)
    out = tmp_path / "sweep.zarr"
    found = together(out, [Processes(0, 2, "00000001", 1.0)])  # the other never comes
    assert isinstance(found[0], ProcessLost)
    assert str(found[0]).startswith("process 1 of 2 has given no sign of life for 1 s; what is measured is kept in ")
    with pytest.raises(ValueError, match="not finished"):
        neurons.open_sweep(out)
    together(out, crew_of(3))
    neurons.sweep(network, AVERAGES, tmp_path / "alone.zarr", progress=False)
    assert files(out) == files(tmp_path / "alone.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.zarr", "sweep.zarr"]


def test_one_that_fails_says_so_and_the_others_do_not_wait(tmp_path, monkeypatch):
    written = hosts.Crew.mine

    def broken(self, items, weights):
        if self.me.index == 1:
            raise OSError("the disk of this host is gone")
        return written(self, items, weights)

    monkeypatch.setattr(Crew, "mine", broken)
    begun = time.monotonic()
    found = together(tmp_path / "sweep.zarr", crew_of(2))
    assert time.monotonic() - begun < 25
    assert str(found[1]) == "the disk of this host is gone"
    assert isinstance(found[0], ProcessLost)
    assert "process 1 of 2 ended: OSError; what is measured is kept" in str(found[0])


def test_without_the_first_one_nobody_begins(tmp_path):
    late = Processes(1, 2, "00000001", 0.1)
    with (
        pytest.raises(ProcessLost, match="process 0 has not begun within 1 s; start all of them again"),
        Crew(late, tmp_path / "s.zarr"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_store_of_another_network_is_refused_by_all(tmp_path):
    neurons.sweep(lambda x: network(x) * 2, AVERAGES, tmp_path / "sweep.zarr", progress=False)
    before = files(tmp_path / "sweep.zarr")
    found = together(tmp_path / "sweep.zarr", [dataclasses.replace(me, patience=2.0) for me in crew_of(2)])
    assert "another model" in str(found[0])
    assert "process 0 of 2 ended: ValueError" in str(found[1])
    assert files(tmp_path / "sweep.zarr") == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"coordinator": "127.0.0.1:1"}, "are given together, or none"),
        (
            {"coordinator": "127.0.0.1:1", "processes": 2, "process": 2},
            "process is one of 0 to 1 of 2 processes; got 2",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        neurons.join(**given)


@pytest.mark.slow
def test_when_the_others_do_not_come_it_is_said_in_a_line():
    with pytest.raises(ConnectionError, match="not all of the processes came within 2 s; start all of them again"):
        neurons.join("127.0.0.1:9", 2, 1, timeout=2)


def test_where_nothing_says_who_is_who_the_options_are_named(monkeypatch):
    for name in ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="elsewhere give each a coordinator"):
        neurons.join()


def test_one_that_is_stopped_tells_the_others_and_says_what_is_kept(tmp_path):
    store = tmp_path / "sweep.zarr"
    me, other = crew_of(2)
    before = list(interrupts._clean_ups)
    with Crew(me, store) as crew:
        (clean_up,) = [one for one in interrupts._clean_ups if one not in before]
        assert clean_up() is None  # there is no store yet
        crew._stop.clear()
        store.mkdir()
        line = clean_up()
        assert not crew._beating.is_alive()
        with pytest.raises(ProcessLost, match=r"^process 0 of 2 ended: stopped; what is measured is kept in .*"):
            Crew(other, store).wait(lambda: False)
        crew._sign(hosts.LEFT)
        (crew.folder / "1").write_text(hosts.LEFT)
    assert line == (
        f"stopped; what is measured is kept in {store}, and the same command, with any number of processes, "
        "goes on from there"
    )
    assert interrupts._clean_ups == before

"""How much memory a sweep takes: what decides it, what a store remembers, what happens when it runs out."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from neurons_nets import NETS, files
from neurons_twins import close

from jaxcam.neurons import budget, maps, similarity, sweep
from jaxcam.neurons.budget import chunk_memory
from jaxcam.neurons.engine import Engine, LayerUnits
from jaxcam.neurons.store import Store
from jaxcam.program import memory


@pytest.fixture
def sender():
    net = NETS["chain"]()
    return Engine(net.model, net.x.shape, net.layers, "deconv").image(net.x).layer(net.layers[-1])


def test_half_of_what_the_machine_has_by_default_as_a_power_of_two(monkeypatch):
    monkeypatch.setattr(budget, "total_bytes", lambda: 3000)
    assert chunk_memory(None) == 1024
    monkeypatch.setattr(budget, "total_bytes", lambda: 1 << 40)
    assert chunk_memory(None) == budget.MEMORY  # more does not make CPUs faster
    monkeypatch.setattr(budget.jax, "default_backend", lambda: "gpu")
    assert chunk_memory(None) == 1 << 39


@pytest.fixture
def with_free(monkeypatch):
    """Runs something while so many bytes are free."""

    def run(free, call):
        monkeypatch.setattr(budget, "free_bytes", lambda: free)
        monkeypatch.setattr(memory, "free_bytes", lambda: free)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return call()

    return run


@pytest.mark.parametrize("rule", ["guided", "gradient", "deconv", "integrated"])
@pytest.mark.parametrize("name", ["chain", "residual"])
def test_what_happens_to_be_free_shows_in_no_byte_of_a_store(with_free, tmp_path, name, rule):
    net = NETS[name]()
    averages = np.concatenate([np.asarray(net.x), np.asarray(net.x)[:, ::-1]])
    stores = []
    for free in (1 << 10, 1 << 17, 1 << 40):
        out = tmp_path / str(free) / "sweep.zarr"
        with_free(free, lambda out=out: sweep(net.model, averages, out, rule=rule, steps=3, progress=False))
        stores.append(files(out))
    assert stores[0] == stores[1] == stores[2]


def test_nor_in_what_is_returned(with_free):
    net = NETS["chain"]()
    for call in (
        lambda: similarity(net.model, net.x, metric="euclidean")[net.layers[-1]],
        lambda: maps(net.model, net.x, net.layers[-1]),
    ):
        few, many = (np.asarray(with_free(free, call)) for free in (1 << 10, 1 << 40))
        np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_what_takes_more_than_is_free_is_told_and_done_all_the_same(rule, monkeypatch):
    net = NETS["chain"]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        similarity(net.model, jnp.asarray(net.x), rule=rule)
    monkeypatch.setattr(budget, "free_bytes", lambda: 100)
    with pytest.warns(RuntimeWarning, match=r"layer '.*' takes .* GB and 1e-07 GB are free; .*--memory"):
        similarity(net.model, jnp.asarray(net.x), rule=rule)


def test_a_third_of_a_budget_is_for_the_engine(monkeypatch):
    monkeypatch.setattr(budget, "held_bytes", lambda: 4 * 10**8)
    assert chunk_memory(9 * 10**8) == 3 * 10**8
    with pytest.raises(ValueError, match=r"0.5 GB is too small: .* take 0.4 GB .*; give 1 GB or more"):
        chunk_memory(5 * 10**8)


def test_the_machine_tells_its_memory():
    assert 0 < memory.held_bytes() <= 1.01 * memory.peak_bytes() <= memory.total_bytes()  # measured one after the other
    assert 0 < memory.free_bytes() <= memory.total_bytes()


def test_a_container_has_what_it_may_take(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_LIMITS", tmp_path)
    before = memory.total_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.total_bytes() == before
    (tmp_path / "memory.max").write_text("4000\n")
    (tmp_path / "memory.current").write_text("1500\n")
    assert (memory.total_bytes(), memory.free_bytes()) == (4000, 2500)


def failing(monkeypatch, most, error):
    """More units than `most` at once run out of memory."""
    asked, real = [], LayerUnits._sent

    def sent(self, units):
        asked.append(len(units))
        if len(units) > most:
            raise error
        return real(self, units)

    monkeypatch.setattr(LayerUnits, "_sent", sent)
    return asked


def test_when_memory_runs_out_half_as_many_go_on(sender, monkeypatch):
    whole = np.asarray(sender.maps(np.arange(6)))
    asked = failing(monkeypatch, 2, MemoryError())
    with pytest.warns(RuntimeWarning, match=r"memory ran out in layer '.*' with \d units at once; going on with \d"):
        parts = list(sender.chunks(np.arange(6)))
    assert asked[0] > 2
    assert [len(units) for units, _ in parts] == [2, 2, 2]
    close(np.concatenate([np.asarray(maps) for _, maps in parts]), whole, 1e-6)


def test_not_even_one_unit_fits(sender, monkeypatch):
    failing(monkeypatch, 0, MemoryError())
    with pytest.warns(RuntimeWarning), pytest.raises(MemoryError, match=r"one unit of layer '.*' at a time takes more"):
        list(sender.chunks(np.arange(6)))


def test_another_error_is_not_taken_for_a_lack_of_memory(sender, monkeypatch):
    failing(monkeypatch, 0, ZeroDivisionError("elsewhere"))
    with pytest.raises(ZeroDivisionError, match="elsewhere"):
        list(sender.chunks(np.arange(6)))


def test_a_store_keeps_to_the_chunks_it_was_begun_with(tmp_path, monkeypatch):
    net, seen = NETS["chain"](), []
    averages = np.concatenate([np.asarray(net.x), np.asarray(net.x)[:, ::-1]])
    real = Store.missing

    def stopped(self):
        seen.append(self.memory)
        raise KeyboardInterrupt

    monkeypatch.setattr(budget, "total_bytes", lambda: 1 << 20)
    monkeypatch.setattr(Store, "missing", stopped)
    with pytest.raises(KeyboardInterrupt):
        sweep(net.model, averages, tmp_path / "s.zarr", progress=False)
    monkeypatch.setattr(Store, "missing", real)
    monkeypatch.setattr(budget, "total_bytes", lambda: 1 << 25)
    taken = []
    plain = LayerUnits.chunks
    monkeypatch.setattr(
        LayerUnits, "chunks", lambda self, units: taken.append(self.engine.memory) or plain(self, units)
    )
    sweep(net.model, averages, tmp_path / "s.zarr", progress=False)
    assert seen == [1 << 19]
    assert set(taken) == {1 << 19}

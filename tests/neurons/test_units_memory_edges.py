"""How many units go back at once, and what memory there is, at the numbers where one byte more or less decides."""

import jax
import numpy as np
import pytest

from jaxcam.neurons import budget, engine, maps, similarity
from jaxcam.neurons.budget import bytes_per_unit, chunk_memory, fitting, useful
from jaxcam.neurons.precision import changes
from jaxcam.program import memory
from jaxcam.program.layers import study


@pytest.mark.parametrize(
    ("units", "each", "there", "count"),
    [
        (100, 10, 79, 4),
        (100, 10, 80, 8),
        (100, 10, 159, 8),
        (100, 10, 160, 16),
        (100, 10, 9, 1),
        (100, 10, 0, 1),
        (5, 10, 10**9, 5),
        (1 << 20, 1, 1 << 30, 512),
        (1 << 20, 1, 511, 256),
        (1 << 20, 1, 512, 512),
    ],
)
def test_as_many_units_as_fit_a_power_of_two_unless_all(units, each, there, count):
    assert fitting(units, each, there) == count


def test_half_of_nothing_is_one_byte_and_a_budget_half_taken_is_enough(monkeypatch):
    for there, half in ((0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (7, 2), (8, 4), ((1 << 34) - 1, 1 << 32)):
        monkeypatch.setattr(budget, "total_bytes", lambda there=there: there)
        assert chunk_memory(None) == half
    monkeypatch.setattr(budget, "held_bytes", lambda: 50)
    assert chunk_memory(100) == 33
    assert chunk_memory(101) == 33
    with pytest.raises(ValueError, match="is too small"):
        chunk_memory(99)


def test_chunks_take_a_gigabyte_on_a_cpu_and_what_there_is_elsewhere(monkeypatch):
    assert useful(1 << 29) == 1 << 29
    assert useful(1 << 31) == 1 << 30
    monkeypatch.setattr(budget.jax, "default_backend", lambda: "gpu")
    assert useful(1 << 31) == 1 << 31


def test_one_unit_takes_twice_the_widest_step_on_its_way():
    """x (1, 4, 6, 2) → conv (1, 4, 6, 3): what a node reads and writes, in bytes, and one copy."""
    net = lambda x: jax.nn.relu(convolution(x))
    anatomy, _ = study(net, np.zeros((1, 4, 6, 2), np.float32))
    place = anatomy.places[0]
    assert place.kind == "conv"
    # The rectifier reads and writes 4·6·3 numbers, the convolution 4·6·2 and 4·6·3.
    assert bytes_per_unit(anatomy, place) == 2 * 4 * (4 * 6 * 3 + 4 * 6 * 3)


def convolution(x):
    kernel = np.ones((3, 3, 2, 3), np.float32)
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def limits(folder, **numbers):
    for name in ("max", "current"):
        (folder / f"memory.{name}").unlink(missing_ok=True)
    for name, text in numbers.items():
        (folder / f"memory.{name}").write_text(text)


def test_a_container_never_has_more_than_the_machine_nor_less_than_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_LIMITS", tmp_path)
    machine = memory.total_bytes()
    limits(tmp_path, max=str(2 * machine), current="0")
    assert memory.total_bytes() == machine
    assert 0 < memory.free_bytes() < machine
    limits(tmp_path, max="4000", current="5000")
    assert memory.free_bytes() == 0
    limits(tmp_path, max="4000")  # what is taken is not told
    assert (memory.total_bytes(), memory.free_bytes() > 4000) == (4000, True)
    limits(tmp_path, max="max", current="1500")
    assert memory.free_bytes() > 4000


class Device:
    """A device that tells its memory."""

    def __init__(self, **stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats or None


def test_a_device_that_tells_its_memory_is_believed(monkeypatch):
    device = Device(bytes_limit=1000, bytes_in_use=300, peak_bytes_in_use=700)
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [device, Device(bytes_limit=1)])
    assert memory.total_bytes() == 1000
    assert memory.free_bytes() == 700
    assert memory.held_bytes() == 300
    assert memory.peak_bytes() == 700
    # One that tells only a part of it is not asked for the rest.
    device.stats = {"bytes_limit": 1000}
    assert memory.total_bytes() == 1000
    assert memory.free_bytes() > 1000
    device.stats = {}
    assert memory.total_bytes() > 1000
    assert 0 < memory.held_bytes() <= 1.01 * memory.peak_bytes()


def test_the_peak_is_in_bytes_on_every_system(monkeypatch):
    import resource

    taken = type("Usage", (), {"ru_maxrss": 5})
    monkeypatch.setattr(resource, "getrusage", lambda who: taken)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.peak_bytes() == 5 * 1024
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.peak_bytes() == 5


def test_a_ranking_of_equal_numbers_agrees_only_with_another_such():
    even, uneven = np.zeros(3), np.array([0.0, 0.5, 1.0])
    figures = changes(
        {"a": even, "b": even, "c": uneven, "d": -uneven}, {"a": even, "b": uneven, "c": even, "d": uneven}
    )
    assert [figures[name].rank_correlation for name in "abcd"] == [1, 0, 0, -1]
    assert [figures[name].largest_difference for name in "abcd"] == [0, 1, 1, 2]
    for other in ({"a": even, "b": even}, {"b": even}, {"a": np.zeros(4)}):
        with pytest.raises(ValueError, match="the same layers and units"):
            changes({"a": even}, other)


def small_network(x):
    return jax.nn.relu(convolution(x)).sum((1, 2))


@pytest.mark.parametrize("target", [0, 2, [0, 2], None])
def test_the_first_and_the_last_class_are_targets(target):
    x = np.random.default_rng(0).random((2, 4, 4, 2)).astype(np.float32)
    assert similarity(small_network, x, against="confidence", target=target)["conv_0"].shape == (2, 3)


@pytest.mark.parametrize("target", [3, -1, [0, 3], [-1, 0], [0], [[0, 1]], [0, 1, 2]])
def test_other_targets_are_not(target):
    x = np.ones((2, 4, 4, 2), np.float32)
    with pytest.raises(ValueError, match="target"):
        similarity(small_network, x, against="confidence", target=target)


@pytest.mark.parametrize("units", [[3], [-1], [], [[0, 1]], [True, False, True], [0, 3], 1.5, [0, -1]])
def test_units_that_are_not_there_are_refused(units):
    x = np.ones((1, 4, 4, 2), np.float32)
    with pytest.raises(ValueError, match="has units 0 to 2; got units="):
        maps(small_network, x, "conv_0", units=units)
    assert maps(small_network, x, "conv_0", units=[2, 0, 2]).shape == (3, 1, 4, 4, 2)


def test_ways_through_the_last_four_models_are_kept(monkeypatch):
    monkeypatch.setattr(engine, "_WAYS", {})
    engines = [engine.Engine(small_network, (1, 4 + i, 4, 2), None, "guided") for i in range(5)]
    ways = [one.ways for one in engines]
    assert len(engine._WAYS) == 4
    fresh = [engine.Engine(small_network, (1, 4 + i, 4, 2), None, "guided") for i in range(5)]
    assert fresh[4].ways is ways[4]
    assert fresh[1].ways is ways[1]
    assert fresh[0].ways is not ways[0]  # made anew, in the place of the one not used for longest, the third
    assert engine.Engine(small_network, (1, 5, 4, 2), None, "guided").ways is ways[1]
    assert engine.Engine(small_network, (1, 6, 4, 2), None, "guided").ways is not ways[2]

"""The compiled loops: compiled once, whatever the network; and where nothing can be kept on disk as well.

Their numbers are those of `test_active.py`, where every geometry goes against loops over all pixels.
"""

import os
import subprocess
import sys

import neurons_products
import numba
import numpy as np
import pytest
from neurons_nets import NETS

from jaxcam.neurons import loops, matrices
from jaxcam.neurons.active import Convolution, Step, entries
from jaxcam.neurons.descent import ActivePass
from jaxcam.neurons.engine import Engine


def test_each_loop_is_compiled_once_for_all_networks():
    for name in ("overlapping pools", "residual", "chain"):
        net = NETS[name]()
        image = Engine(net.model, net.x.shape, net.layers, "guided").image(net.x)
        for layer in net.layers:
            sender = image.layer(layer)
            list(sender.chunks(np.arange(2)))
    assert isinstance(sender.walk, ActivePass)
    for loop in (
        matrices.plan,
        matrices.fill,
        loops.send,
        loops.listed,
        loops.seed,
        loops.settle,
        loops.columns,
        loops.turn,
    ):
        assert len(loop.signatures) == 1, loop.__name__


def test_without_a_place_to_keep_it_a_loop_is_compiled_all_the_same(monkeypatch):
    real, asked = numba.njit, []

    def njit(function, **options):
        asked.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError(f"cannot cache function {function.__name__!r}: no locator available")
        return real(function, **options)

    monkeypatch.setattr(numba, "njit", njit)
    turn = matrices.compiled(loops.turn.py_func)
    turned = np.zeros((2, 100), np.float32)
    signal = np.arange(200 * loops.COLUMNS, dtype=np.float32).reshape(2, 100, loops.COLUMNS)
    turn(signal, loops.COLUMNS - 1, 10, 100, turned)
    assert asked == [True, False]
    np.testing.assert_array_equal(turned[:, 10:], [signal[0, 10:, -1], signal[1, 10:, 0]])
    assert not turned[:, :10].any()


@pytest.mark.parametrize("processor", ["its own", "plain"])
def test_steps_of_any_size_on_any_processor_are_products_of_dense_matrices(processor, tmp_path):
    # What is kept on disk is kept by processor, and this one may be told to be another.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, neurons_products.__file__, *(["plain"] if processor == "plain" else [])]
    columns, worst = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert processor != "plain" or int(columns) == 16
    assert float(worst) < 1e-6


def test_what_is_zero_for_all_units_of_a_group_is_not_multiplied():
    rng = np.random.default_rng(0)
    shape, columns = (4, 5, 7), loops.COLUMNS
    laid = Convolution(rng.random((3, 3, 2, 7), np.float32) + 1, (1, 1), (1, 1), (1, 1), (4, 5, 2), shape)
    silent = rng.random(shape) < 0.5
    signal = rng.random((1, silent.size, columns), np.float32) + 1
    nowhere = np.empty(0, np.int64)
    rest = np.empty((1, 0, columns), np.float32), (signal, nowhere, nowhere, np.empty(0, np.float32)), False, nowhere

    def back(factor):
        step = Step(laid, entries(factor, None, None), np.arange(40), factor)
        return neurons_products.sent(step, signal, *rest, False)[0]

    healthy, infinite = np.ones(shape, np.float32), np.where(silent, np.inf, 1).astype(np.float32)
    assert not np.isfinite(back(infinite)).all()
    signal[:, silent.reshape(-1)] = 0
    np.testing.assert_array_equal(back(infinite), back(healthy))
    assert np.isfinite(back(infinite)).all()

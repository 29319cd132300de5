"""The compiled loops: compiled once, whatever the network; and where nothing can be kept on disk as well.

Their numbers are those of `test_active.py`, where every geometry goes against loops over all pixels.
"""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from neurons_nets import NETS

from jaxcam.neurons import loops
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
    for loop in (loops.plan, loops.fill, loops.send, loops.add, loops.turn):
        assert len(loop.signatures) == 1, loop.__name__


def test_without_a_place_to_keep_it_a_loop_is_compiled_all_the_same(monkeypatch):
    real, asked = numba.njit, []

    def njit(function, **options):
        asked.append(options.get("cache", False))
        if options.get("cache"):
            raise RuntimeError(f"cannot cache function {function.__name__!r}: no locator available")
        return real(function, **options)

    monkeypatch.setattr(numba, "njit", njit)
    turn = loops._compiled(loops.turn.py_func)
    turned = np.zeros((2, 100), np.float32)
    values = np.arange(300, dtype=np.float32).reshape(100, 3)
    turn(values, 1, turned)
    assert asked == [True, False]
    np.testing.assert_array_equal(turned, values[:, 1:].T)


PRODUCT = """
import llvmlite.binding, numpy as np
features = llvmlite.binding.get_host_cpu_features()
if {plain}:
    features["avx512f"] = False
    llvmlite.binding.get_host_cpu_features = lambda: features
from jaxcam.neurons import loops
rng, worst = np.random.default_rng(0), 0
for rows, count, blocks in ((1, 1, 1), (4, 64, 2), (7, 65, 1), (33, 200, 3), (16, 3, 1)):
    matrix = rng.standard_normal((rows, count), np.float32)
    padded = np.zeros((-(-rows // loops.ROWS) * loops.ROWS, count), np.float32)
    padded[:rows] = matrix
    weights = padded.reshape(-1, loops.ROWS, count).transpose(0, 2, 1).reshape(-1)
    signal = rng.standard_normal((count + 5, blocks * loops.COLUMNS), np.float32)
    sums = rng.standard_normal((rows, signal.shape[1]), np.float32)
    wanted = sums + matrix.astype(float) @ signal[2 : 2 + count]
    before = signal.copy()
    loops._product(weights, 0, signal, 2, count, sums, np.empty((loops.ROWS, signal.shape[1]), np.float32))
    assert (signal == before).all()
    worst = max(worst, np.abs(sums - wanted).max() / np.abs(wanted).max())
print(loops.COLUMNS, worst)
"""


@pytest.mark.parametrize("plain", [False, True])
def test_products_of_any_size_on_any_processor_are_numpys(plain, tmp_path):
    # What is kept on disk is kept by processor, and this one is told to be another.
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PRODUCT.format(plain=plain)]
    columns, worst = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert not plain or int(columns) == 16
    assert float(worst) < 1e-6

"""The compiled loops: compiled once, whatever the network; and where nothing can be kept on disk as well.

Their numbers are those of `test_active.py`, where every geometry goes against loops over all pixels.
"""

import numba
import numpy as np
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

"""Products of the active pass against dense matrices, as a program, so that a processor can be told to be another.

`python neurons_products.py plain` has no AVX-512. Prints how many units a group has, and the largest relative error.
"""

import sys

import llvmlite.binding
import numpy as np

if sys.argv[1:] == ["plain"]:
    features = llvmlite.binding.get_host_cpu_features()
    features["avx512f"] = False
    llvmlite.binding.get_host_cpu_features = lambda: features

from jaxcam.neurons import loops
from jaxcam.neurons.active import Convolution, Step, entries
from jaxcam.neurons.arena import aligned

SHAPES = [  # h, w, c, u, kernel, stride: few rows and many, few terms and many, no whole blocks
    (3, 5, 1, 1, 1, 1),
    (4, 5, 3, 7, 3, 1),
    (1, 2, 2 * loops.HIGHEST + 3, 5, 1, 1),
    (2, 3, 9, 3 * loops.TERMS + 1, 2, 1),
    (7, 6, 2, 70, 3, 2),
]


def made(rng, h, w, c, u, k, stride):
    """A step, and the same as a dense matrix from its entries to its rows, in float64."""
    above, pad = (-(-h // stride), -(-w // stride), u), k // 2
    kernel = rng.standard_normal((k, k, c, u)).astype(np.float32)
    laid = Convolution(kernel, (stride, stride), (pad, pad), (1, 1), (h, w, c), above)
    passed = np.where(rng.random(above) < 0.6, rng.standard_normal(above), 0).astype(np.float32)
    active, wanted = entries(passed, None, None), np.flatnonzero(rng.random(h * w * c) < 0.7)
    dense = np.zeros((*above, h, w, c))
    for y, x, i, j in np.ndindex(*above[:2], k, k):
        row, column = y * stride - pad + i, x * stride - pad + j
        if 0 <= row < h and 0 <= column < w:
            dense[y, x, :, row, column] = kernel[i, j].T
    dense = (dense * passed[..., None, None, None]).reshape(passed.size, -1)
    return Step(laid, active, wanted, passed), dense[active.flat][:, wanted].T


def sent(step, signal, known, added, clipped, places, past):
    """One step of the pass."""
    groups, n, columns = signal.shape
    seen = (signal != 0).any(-1)
    listed, starts = np.empty((groups, n), np.int32), np.empty((groups, n + 1), np.int32)
    for group in range(groups):
        loops.listed(seen[group], listed[group], starts[group])
    result, rows = aligned(groups, len(step.wanted), columns), np.empty((groups, len(step.wanted)), np.bool_)
    tiles = step.tiles, step.products, step.weights
    loops.send(*tiles, signal, listed, starts, known, *added, clipped, places, past, result, rows)
    return result, rows


def worst(rng, step, dense):
    """The largest relative error, whatever else happens on the way."""
    groups, columns, m = 2, loops.COLUMNS, len(step.wanted)
    signal = rng.standard_normal((groups, len(step.above.flat), columns)).astype(np.float32)
    silent = rng.random((groups, signal.shape[1])) < 0.4
    signal[silent] = 0
    nothing, nowhere = np.empty((groups, 0, columns), np.float32), np.empty(0, np.int64)
    known = rng.standard_normal((groups, m, columns)).astype(np.float32)
    targets = np.flatnonzero(rng.random(m) < 0.5)
    above, sources = (
        rng.standard_normal((groups, m + 1, columns)).astype(np.float32),
        rng.permutation(m)[: len(targets)],
    )
    factors = rng.standard_normal(len(targets)).astype(np.float32)
    skip, none = (above, sources, targets, factors), (nothing, nowhere, nowhere, np.empty(0, np.float32))
    errors = [0.0]
    for more, added, clipped, places in (
        (nothing, none, False, nowhere),
        (known, none, True, nowhere),
        (nothing, skip, True, rng.permutation(m)),
        (known, skip, False, rng.permutation(m)),
    ):
        wanted = np.einsum("me,geb->gmb", dense, signal.astype(float))
        wanted = wanted + more if more.shape[1] else wanted
        for source, target, factor in zip(*added[1:], strict=True):
            wanted[:, target] += added[0][:, source].astype(float) * factor
        wanted = np.maximum(wanted, 0) if clipped else wanted
        if len(places):
            wanted[:, places] = wanted.copy()
        (found, seen), (again, _) = (sent(step, signal, more, added, clipped, places, past) for past in (False, True))
        assert (found == again).all()
        assert (seen == (found != 0).any(-1)).all()
        errors.append(float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30)))
    return max(errors)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    largest = max(worst(rng, *made(rng, *shape)) for shape in SHAPES)
    sys.stdout.write(f"{loops.COLUMNS} {largest}\n")

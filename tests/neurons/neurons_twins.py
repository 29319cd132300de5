"""Unit maps by their plain definition, slowly: what the engine's numbers are held against."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxcam as jc
from jaxcam.program.trace import split


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _gradient(arrays, static, names, rule, x, chosen):
    """The gradient of the chosen units' sums, and all layers' values."""
    model = static.join(arrays)
    ruled = {"guided": jc.guided, "deconv": jc.deconv}.get(rule, lambda model: model)(model)

    def total(x):
        tapped = jc.tap(ruled, names)(x)
        return sum(jnp.sum(tapped[name] @ chosen[name]) for name in names), tapped

    return jax.grad(total, has_aux=True)(x)


def definition(model, x, names, rule, steps=32):
    """Maps by `jax.grad` of one unit's summed activation after another; a dead unit's is black.

    Args:
        model: any callable.
        x: one image (1, h, w, c).
        names: layers.
        rule: one of the four.
        steps: of integrated gradients.

    Returns:
        For each layer (u, 1, h, w, c).
    """
    arrays, static = split(model)
    names = tuple(names)
    gradient = functools.partial(_gradient, arrays, static, names, rule)
    shapes = jax.eval_shape(jc.tap(model, names), x)
    nothing = {name: np.zeros(shape.shape[-1], shape.dtype) for name, shape in shapes.items()}
    values = gradient(x, nothing)[1]
    found = {}
    for name in names:
        rows = []
        for unit in range(len(nothing[name])):
            chosen = {**nothing, name: np.eye(len(nothing[name]), dtype=nothing[name].dtype)[unit]}
            if rule == "integrated":
                x = np.asarray(x)
                points = [gradient(x * np.asarray((i + 0.5) / steps, x.dtype), chosen)[0] for i in range(steps)]
                row = x * np.mean(points, axis=0)
            else:
                row = np.asarray(gradient(x, chosen)[0])
            live = np.any(np.asarray(values[name][..., unit]) != 0)
            rows.append(row if live else np.zeros_like(row))
        found[name] = np.stack(rows)
    return found


def close(found, wanted, tolerance=1e-5):
    """Asserts maps equal, relative to the largest value of each unit's map.

    float32 keeps 6e-8; a map's value is a sum of hundreds of products, in another order here and there, of which some
    cancel: 1e-5 of the largest is what remains sure.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    largest = np.abs(wanted).reshape(len(wanted), -1).max(axis=1)
    error = np.abs(found - wanted).reshape(len(wanted), -1).max(axis=1)
    assert (error <= tolerance * largest).all(), f"units {np.flatnonzero(error > tolerance * largest)}: {error.max()}"


def cosines(maps, reference):
    """The cosine of each map (u, 1, h, w, c) and a reference (1, h, w, c) in float64; 0 for a black one."""
    a, b = (np.asarray(values, np.float64).reshape(len(values), -1) for values in (maps, reference))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    return (a @ b[0]) / np.where(lengths == 0, 1, lengths)


# Guided backpropagation and the deconvnet once more, on the host, written from the papers: one image, loops, float64.


def forward(image, kernels, biases, pooled):
    """A chain of 3×3 convolutions with zero padding, each followed by ReLU and, where `pooled`, 2×2 max pooling.

    Returns:
        The last ReLU's value (h, w, u), and for each convolution the sign of its output and the winners of its pooling.
    """
    record = []
    value = np.asarray(image, np.float64)
    for kernel, bias, pool in zip(kernels, biases, pooled, strict=True):
        h, w, _ = value.shape
        padded = np.pad(value, ((1, 1), (1, 1), (0, 0)))
        z = np.zeros((h, w, kernel.shape[-1])) + bias
        for y, x in np.ndindex(h, w):
            z[y, x] += np.einsum("ijc,ijcu->u", padded[y : y + 3, x : x + 3], np.asarray(kernel, np.float64))
        value = np.where(z > 0, z, 0)
        winners = np.zeros(z.shape, bool)
        if pool:
            halves = np.zeros((h // 2, w // 2, z.shape[-1]))
            for y, x, u in np.ndindex(*halves.shape):
                window = value[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, u]
                halves[y, x, u] = window.max()
                i, j = divmod(int(np.argmax(window)), 2)
                winners[2 * y + i, 2 * x + j, u] = True
            value = halves
        record.append((z > 0, winners))
    return value, record


def backward(unit, kernels, pooled, last, record, rule):
    """The map (h, w, c) of one unit of the last convolution: ones over its channel, sent back."""
    signal = np.zeros_like(last)
    signal[..., unit] = 1
    for kernel, pool, (positive, winners) in reversed(list(zip(kernels, pooled, record, strict=True))):
        h, w, u = positive.shape
        if pool:
            spread = np.zeros((h, w, u))
            for y, x, i in np.ndindex(*signal.shape):
                spread[2 * y : 2 * y + 2, 2 * x : 2 * x + 2, i] = signal[y, x, i]
            signal = np.where(winners, spread, 0)
        signal = np.maximum(signal, 0)
        if rule == "guided":
            signal = signal * positive
        padded = np.zeros((h + 2, w + 2, kernel.shape[2]))
        for y, x in np.ndindex(h, w):
            padded[y : y + 3, x : x + 3] += np.einsum("u,ijcu->ijc", signal[y, x], np.asarray(kernel, np.float64))
        signal = padded[1:-1, 1:-1]
    return signal


@functools.cache
def unit_maps_in_numpy(rule, seed=0):
    """A chain's parameters, an image and the maps of its last layer's units."""
    rng = np.random.default_rng(seed)
    widths = [(2, 4), (4, 5), (5, 3)]
    kernels = [(rng.normal(size=(3, 3, a, b)) * np.sqrt(2 / (9 * a))).astype(np.float32) for a, b in widths]
    biases = [(0.2 * rng.normal(size=b)).astype(np.float32) for _, b in widths]
    pooled = (True, False, False)
    image = rng.random((8, 6, 2)).astype(np.float32)
    last, record = forward(image, kernels, biases, pooled)
    maps = np.stack([backward(unit, kernels, pooled, last, record, rule) for unit in range(3)])
    maps[~(last != 0).any(axis=(0, 1))] = 0
    return kernels, biases, image, maps


@contextlib.contextmanager
def compilations():
    """Counts what XLA compiles inside the block: `with compilations() as compiled: …`, then `len(compiled)`."""
    compiled = []

    def listen(event, seconds, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(details.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

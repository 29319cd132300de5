"""Timing, and the facts about the machine that belong beside a time."""

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """The times of several sides, taken in turns, so that a noisy minute hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            times[name].append(seconds(side))
    return times


def median(times: list[float]) -> float:
    return statistics.median(times)


def matmul_rate(size: int = 2048, repeats: int = 7) -> dict[str, float]:
    """The dense float32 matrix product of this machine in GFLOP/s, by library: the best of some repeats."""
    import jax
    import jax.numpy as jnp
    import torch

    random = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    on_jax, on_torch = jnp.asarray(random), torch.from_numpy(random)
    product = jax.jit(jnp.dot)
    sides: dict[str, Callable[[], object]] = {
        "numpy": lambda: random @ random,
        "jax": lambda: jax.block_until_ready(product(on_jax, on_jax)),
        "torch": lambda: on_torch @ on_torch,
    }
    for side in sides.values():
        side()
    return {name: 2 * size**3 / min(times) / 1e9 for name, times in interleaved(sides, repeats).items()}


def peak_memory() -> float:
    """The most memory this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def machine() -> str:
    """Processor, cores and versions, in one line."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    packages = ["jaxcam-xai", "jax", "flax", "numpy", "torch", "captum"]
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return f"{model}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, {versions}"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"

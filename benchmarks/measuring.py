"""Timing, memory, agreement, and the facts about the machine that belong beside a figure: all measuring is done here.

A side of a comparison is a function without arguments that gives its result as its library has it: a JAX array, a
tensor. It has ended when its result is there, on whatever device (`finished`).
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ("jaxcam-xai", "jax", "flax", "numpy", "torch", "captum", "zennit", "grad-cam")
_STATUS = Path("/proc/self/status")


def finished(value: Any) -> Any:
    """The same value, when every device has computed it."""
    import jax
    import torch

    jax.block_until_ready(value)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return value


def seconds(function: Callable[[], object]) -> float:
    """How long one call takes."""
    return timed(function)[1]


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result of one call, and how long it took."""
    start = time.perf_counter()
    result = finished(function())
    return result, time.perf_counter() - start


LEAST = 2  # turns, however long they take


def interleaved(
    sides: dict[str, Callable[[], object]], repeats: int, within: float = float("inf")
) -> dict[str, list[float]]:
    """The times of several sides, taken in turns, so that a noisy minute hits all of them.

    Args:
        sides: by name.
        repeats: how many turns at most.
        within: seconds after which no further turn begins, once there were two.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= LEAST and time.perf_counter() - start > within:
            break
        for name, side in sides.items():
            times[name].append(seconds(side))
    return times


def median(times: list[float]) -> float:
    return statistics.median(times)


def relative_difference(ours: Any, theirs: Any) -> float:
    """‖a − b‖ / ‖b‖."""
    a, b = (np.asarray(value, np.float64) for value in (ours, theirs))
    if a.shape != b.shape:
        raise ValueError(f"two results of one question have unlike shapes: {a.shape} and {b.shape}")
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def matmul_rate(size: int | None = None, repeats: int = 7) -> dict[str, float]:
    """The dense matrix product of this machine in GFLOP/s, by library: the best of some repeats.

    In float32; in bfloat16 too where there is an accelerator.

    Args:
        size: of the square matrices; None for 2048, or 8192 on an accelerator.
        repeats: of which the best counts.
    """
    import jax
    import jax.numpy as jnp
    import torch

    from benchmarks import pytorch

    on_cpu = jax.default_backend() == "cpu"
    size = size or (2048 if on_cpu else 8192)
    random = np.random.default_rng(0).standard_normal((size, size), np.float32)
    on_jax, on_torch = jnp.asarray(random), torch.from_numpy(random).to(pytorch.device())
    product = jax.jit(jnp.dot)
    sides: dict[str, Callable[[], object]] = {
        "jax": lambda: product(on_jax, on_jax),
        "torch": lambda: on_torch @ on_torch,
    }
    if on_cpu:
        sides["numpy"] = lambda: random @ random
    else:
        half = on_jax.astype(jnp.bfloat16)
        sides["jax bfloat16"] = lambda: product(half, half)
    for side in sides.values():
        finished(side())
    return {name: 2 * size**3 / min(times) / 1e9 for name, times in interleaved(sides, repeats).items()}


def peak_memory() -> float:
    """The most memory this process has had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def memory_risen(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and by how many GiB the process grew at most meanwhile.

    Linux forgets a process's peak when asked to. What stays allocated from before counts as there: in a table of
    several sides this is about what a side needs for its work, not what a process with that side alone would have.
    """
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    result = finished(function())
    return result, max(0.0, _status("VmHWM") - before)


def first(side: Callable[[], Any]) -> tuple[tuple[Any, float], float | None]:
    """A side's first call: its result and seconds, and by how much the process grew, where that can be told."""
    import jax

    if jax.default_backend() == "cpu" and os.access("/proc/self/clear_refs", os.W_OK):
        return memory_risen(lambda: timed(side))
    return timed(side), None


def _status(field: str) -> float:
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 2**20


def device_memory() -> dict[str, float]:
    """The peak of each library on an accelerator, in GiB; empty on a CPU."""
    import jax
    import torch

    found = {}
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        found["jax"] = stats["peak_bytes_in_use"] / 2**30
    if torch.cuda.is_initialized():
        found["torch"] = torch.cuda.max_memory_allocated() / 2**30
    return found


def hardware() -> str:
    """The processor and its cores, and the accelerator, if there is one."""
    import jax

    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        model = names[0] if names else model
    words = f"{model}, {cores()} cores"
    accelerator = [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    return f"{words}, {len(accelerator)} × {accelerator[0]}" if accelerator else words


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def load() -> float:
    """How many processes wanted a core, on average, in the last minute: well above one's own means a busy machine."""
    return os.getloadavg()[0]


def versions() -> dict[str, str]:
    """Of Python and every package that takes part."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def machine() -> str:
    """Hardware and versions, in one line."""
    return f"{hardware()}; {', '.join(f'{name} {number}' for name, number in versions().items())}"

"""How much memory there is, is free, is taken: of JAX's first device, or of the machine where that is a CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import psutil

# Where Linux says what a container may take: Kubernetes and Slurm set it, and the machine has more.
_LIMITS = Path("/sys/fs/cgroup")


def total_bytes() -> int:
    """What the device has; the machine, or what this container may take of it, on a CPU."""
    if stats := _stats("bytes_limit"):
        return stats["bytes_limit"]
    limit = _read("memory.max")
    there = int(psutil.virtual_memory().total)
    return there if limit is None else min(limit, there)


def free_bytes() -> int:
    """What nobody has taken."""
    if stats := _stats("bytes_limit", "bytes_in_use"):
        return stats["bytes_limit"] - stats["bytes_in_use"]
    limit, taken = _read("memory.max"), _read("memory.current")
    free = int(psutil.virtual_memory().available)
    return free if limit is None or taken is None else max(0, min(free, limit - taken))


def held_bytes() -> int:
    """What this process has taken."""
    if stats := _stats("bytes_in_use"):
        return stats["bytes_in_use"]
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most that this process has had at once."""
    if stats := _stats("peak_bytes_in_use"):
        return stats["peak_bytes_in_use"]
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _stats(*names: str) -> dict[str, int]:
    """What the first device says of itself; nothing where it doesn't."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return {name: int(stats[name]) for name in names} if all(name in stats for name in names) else {}


def _read(name: str) -> int | None:
    """A number of the container's; None where there is no limit or no container."""
    try:
        text = (_LIMITS / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None

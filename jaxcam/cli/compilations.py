"""The cache of compiled programs, which saves most of a short command's time."""

import contextlib
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from jaxcam.interrupts import on_stop

LARGEST = 1 << 30
"""Bytes that the cache of compiled programs may take; the oldest leave first."""

FASTEST = 0.2
"""Seconds that a compilation takes at least to be worth keeping."""

LOCK, PROGRAM, LAST_USE = ".lockfile", "-cache", "-atime"
"""JAX's own names in its cache: of the lock that it writes under, and the endings of a program's two files."""


@contextlib.contextmanager
def kept_compilations() -> Iterator[None]:
    """Lets JAX keep what it compiles from one run to the next.

    The same program is loaded that would have been compiled, so results stay the same to the bit. JAXCAM_CACHE names
    another directory, or none if it is empty; JAX_COMPILATION_CACHE_DIR, JAX's own word, is left alone.
    """
    directory = cache_directory()
    if directory is None:
        yield
        return
    settings = {
        "jax_compilation_cache_dir": str(directory),
        "jax_persistent_cache_min_compile_time_secs": FASTEST,
        "jax_compilation_cache_max_size": LARGEST,
    }
    if "jax" in sys.modules:
        for name, value in settings.items():
            sys.modules["jax"].config.update(name, value)
    else:  # Commands that do without JAX, or refuse their arguments, need not wait for it.
        os.environ.update({name.upper(): str(value) for name, value in settings.items()})

    def wait() -> None:
        lock(directory, 1.0)

    with on_stop(wait):
        yield


def cache_directory() -> Path | None:
    """Where compiled programs are kept; None where they are not."""
    place = os.environ.get("JAXCAM_CACHE")
    if place == "" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    directory = (Path(place).expanduser() if place else user_cache() / "jaxcam") / "compiled" / machine()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        remove_half_kept(directory)
    except OSError:
        return None  # A cache saves time and nothing else: where it cannot be, all works without.
    return directory


def remove_half_kept(directory: Path) -> None:
    """Removes programs that a killed process was keeping: one without the time of its last use is one that JAX had not
    written to its end, and until it is gone JAX keeps no other.
    """
    names = set(os.listdir(directory))
    half = [name for name in names if name.endswith(PROGRAM) and name.removesuffix(PROGRAM) + LAST_USE not in names]
    held = lock(directory, 0.0) if half else None
    if held is None:
        return
    try:
        for name in half:
            if not (directory / (name.removesuffix(PROGRAM) + LAST_USE)).exists():
                (directory / name).unlink(missing_ok=True)
    finally:
        os.close(held)


def lock(directory: Path, patience: float) -> int | None:
    """Takes the lock under which JAX writes to its cache: nobody is in the middle of it then, or begins.

    Args:
        directory: of the cache.
        patience: seconds to try.

    Returns:
        A file descriptor, whose closing or whose process's end gives the lock back; None where it could not be had.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    begun = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError:
            if time.monotonic() - begun >= patience:
                os.close(descriptor)
                return None
            time.sleep(0.02)


def user_cache() -> Path:
    """Where this system keeps what can be made again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def machine() -> str:
    """A name for this kind of processor: in a shared home, machine code of one is not loaded on another."""
    description = f"{platform.system()} {platform.machine()} {platform.processor()}"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        description += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(description.encode()).hexdigest()[:16]

"""What a command sets up in its process: the cache of compiled programs, warnings of one line, a clean SIGTERM."""

import contextlib
import hashlib
import logging
import os
import platform
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import click

LARGEST = 1 << 30
"""Bytes that the cache of compiled programs may take; the oldest leave first."""

FASTEST = 0.2
"""Seconds that a compilation takes at least to be worth keeping."""

PACKAGE = str(Path(__file__).parents[1])


def keep_compilations() -> None:
    """Lets JAX keep what it compiles from one run to the next, which saves most of a short command's time.

    The same program is loaded that would have been compiled, so results stay the same to the bit. JAXCAM_CACHE names
    another directory, or none if it is empty; JAX_COMPILATION_CACHE_DIR, JAX's own word, is left alone.
    """
    place = os.environ.get("JAXCAM_CACHE")
    if place == "" or os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    directory = (Path(place).expanduser() if place else user_cache() / "jaxcam") / "compiled" / machine()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # A cache saves time and nothing else: where it cannot be, all works without.
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


def show_warnings_in_one_line() -> None:
    """Sends the package's own warnings to standard error, a line each, and drops what libraries have to say."""

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        is_ours = filename.startswith(PACKAGE) and not issubclass(category, DeprecationWarning | FutureWarning)
        if is_ours or os.environ.get("JAXCAM_DEBUG"):
            click.echo(f"jaxcam: warning: {' '.join(str(message).split())}", err=True)

    warnings.showwarning = show
    if not os.environ.get("JAXCAM_DEBUG"):
        # Zarr reads and writes in tasks; those that an interrupt leaves behind would be told of, with tracebacks.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def stop_cleanly_on_sigterm() -> None:
    """Makes SIGTERM, which batch systems send before they kill, as good as Ctrl-C."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)

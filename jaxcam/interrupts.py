"""How a process is stopped: soon, with its files in order, and without an exception.

Problem: Python raises KeyboardInterrupt in whatever the main thread happens to run. In a callback from C++ (JAX's
garbage collection, a compilation) it is dropped and the program goes on to its end, or it crashes; and nothing is
raised while one long computation runs. Idea: Ctrl-C raises nothing. Another thread (`jaxcam.cli.watchdog`) calls
`stop`, which keeps all others from beginning a new file and undoes what nobody can go on from; then the process ends.

Whoever writes files passes a `safe_point` before each, and says with `on_stop` what is to be undone. Where nobody calls
`stop`, as in a program that uses jaxcam as a library, both do nothing, and Ctrl-C is what Python makes of it.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

CleanUp = Callable[[], str | None]
"""Undoes what one part of the program began, and may say in one line what is kept. It runs while the main thread may
hold any lock, so it imports nothing and waits for nobody. An error is said in place of its line."""

_requests: list[None] = []
_patience = threading.Lock()  # taken as long as there is any; not an Event, which no signal handler can set safely
_patience.acquire()
_clean_ups: list[CleanUp] = []
_stopper: list[int] = []


def safe_point() -> None:
    """Where a thread can be stopped: once a stop was requested, it waits here for the end of the process.

    Example:
        >>> safe_point()
    """
    if _requests and threading.get_ident() not in _stopper:
        if threading.current_thread() is threading.main_thread():
            hurry()
        threading.Event().wait()


@contextlib.contextmanager
def on_stop(clean_up: CleanUp) -> Iterator[None]:
    """What to do if the process is stopped inside; nothing otherwise.

    Args:
        clean_up: called in another thread than the one that works.

    Example:
        >>> with on_stop(lambda: "stopped; 3 of 10 epochs are kept"):
        ...     safe_point()
    """
    _clean_ups.append(clean_up)
    try:
        yield
    finally:
        _clean_ups.remove(clean_up)


def request() -> None:
    """Makes `safe_point` hold threads; for signal handlers: it takes no lock, and raises nothing."""
    _requests.append(None)


def stop(patience: float) -> str:
    """Holds the other threads at their next safe point and cleans up, the innermost first; the caller ends the process.

    Args:
        patience: seconds to wait for the main thread. One that is in a long computation in C comes to no safe point,
            and begins no file either.

    Returns:
        What the innermost clean-up said of those that said anything; empty if none did.
    """
    _stopper.append(threading.get_ident())
    request()
    _patience.acquire(timeout=patience)
    lines = []
    for clean_up in reversed(list(_clean_ups)):
        try:
            lines.append(clean_up() or "")
        except Exception as error:  # whatever it is, the others are still to be called
            lines.append(f"stopped, but not everything was cleaned up ({error})")
    return next(filter(None, lines), "")


def hurry() -> None:
    """Ends the patience of `stop`."""
    with contextlib.suppress(RuntimeError):  # it has ended already
        _patience.release()

"""Ctrl-C, SIGTERM and a closed terminal: one way to stop for all commands, with exit code 130.

The signal handlers raise nothing. Python's C code also writes each signal's number to a pipe (`signal.set_wakeup_fd`),
whatever the main thread is in, and a thread reads it: the first signal stops the process as `jaxcam.interrupts` says,
a second one does not wait for the main thread, a third ends the process as it is.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator

from jaxcam import interrupts

PATIENCE = 0.5
"""Seconds that the main thread has to finish the file it is writing."""

INTERRUPTED = 130
"""The exit code of what was stopped."""

SIGNALS = frozenset(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)

_exit_code: list[int] = []


def install() -> None:
    """Lets signals stop this process from now on. For the entry point, as it is never undone.

    A signal that is ignored stays ignored: a script's background job does not end at Ctrl-C, nor one under nohup when
    the terminal is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # Python takes handlers from the main thread only.
    reading, writing = os.pipe()
    if sys.platform != "win32":  # where Python cannot, and need not, be told
        os.set_blocking(writing, False)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    atexit.register(_ignore)  # the first registered, so the last called
    # Made now: where memory is short, none could be made later.
    called = threading.Event()
    threading.Thread(target=_stop, args=(called,), name="stopper", daemon=True).start()
    threading.Thread(target=_watch, args=(reading, called), name="watchdog", daemon=True).start()


def finish(code: int) -> None:
    """Says that the work is done: from now on a signal ends the process at once, with this exit code."""
    interrupts.safe_point()
    _exit_code.append(code)


def _ignore() -> None:
    """From here on the interpreter takes itself down: no thread of Python runs that could give the exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: object) -> None:
    """Holds the main thread wherever it is in Python: it gets in nobody's way, and what it would do next, because a
    child process was stopped as well, is no error.
    """
    if not _exit_code:
        interrupts.request()
        interrupts.safe_point()


def _watch(reading: int, called: threading.Event) -> None:
    """First, second and third signal."""
    received = _received(reading)
    next(received)
    called.set()
    next(received)
    interrupts.hurry()
    next(received)
    os._exit(INTERRUPTED)


def _received(reading: int) -> Iterator[int]:
    while True:
        yield from (number for number in os.read(reading, 1) if number in SIGNALS)


def _stop(called: threading.Event) -> None:
    called.wait()
    try:
        line = "" if _exit_code else interrupts.stop(PATIENCE)
        if not _exit_code:
            _say(line or "stopped; the same command begins anew")
    finally:
        os._exit(_exit_code[0] if _exit_code else INTERRUPTED)


def _say(line: str) -> None:
    """Writes past Python's own buffers, which another thread may hold."""
    # In a terminal there is ^C in this line, or a progress bar, which has hidden the cursor.
    before = "\r\x1b[K\x1b[?25h" if os.isatty(2) else ""
    try:
        os.write(2, f"{before}jaxcam: {line}\n".encode(errors="replace"))
    except OSError:
        return  # The terminal is gone, and with it whoever would read it.

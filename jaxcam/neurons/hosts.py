"""Several processes at one sweep: who they are, what each of them does, and whether all are still there.

JAX finds the processes (`meeting`) and is let go again: its own service ends them all, with a stack trace, when one is
lost. From then on the directory they share is enough. The first process says there what is missing, each takes its
part, and a file for each that changes every second says that it lives. What a lost process leaves undone is missing the
next time, whatever the number of processes is then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from jaxcam.files import write_atomically
from jaxcam.interrupts import on_stop

BEAT, PATIENCE = 1.0, 60.0
"""Seconds between signs of life, and without one until a process is taken for lost."""
PLAN, LEFT = "plan.json", "left"

ROOT = Path(__file__).parents[2]

Item = tuple[int, str]  # a class and a layer


@dataclasses.dataclass(frozen=True)
class Processes:
    """One of several processes that work on the same sweep.

    Attributes:
        index: which one, from 0.
        count: how many there are.
        name: the same for all of them, and another the next time.
        patience: seconds without a sign of life after which another one is taken for lost.
    """

    index: int
    count: int
    name: str
    patience: float = PATIENCE


class ProcessLost(OSError):
    """Another process is gone; what this one did is kept."""


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout: int = 300,
    patience: float = PATIENCE,
) -> Processes:
    """Meets the other processes that work on the same sweep.

    Args:
        coordinator: "host:port" of process 0; None where Slurm, Kubernetes or Open MPI say who is who.
        processes: how many there are; None likewise.
        process: which one this is, from 0; None likewise.
        timeout: seconds to wait for the others to come.
        patience: seconds without a sign of life after which another one is taken for lost.

    Returns:
        This process among the others.

    Raises:
        ValueError: nobody says who the processes are, or the options contradict each other.
        ConnectionError: not all came in time.

    Example:
        >>> join("127.0.0.1:8476", processes=2, process=2)
        Traceback (most recent call last):
        ...
        ValueError: process is one of 0 to 1 of 2 processes; got 2
    """
    given = [value is not None for value in (coordinator, processes, process)]
    if any(given) and not all(given):
        raise ValueError("a coordinator, the number of processes and this one's index are given together, or none")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ValueError(f"process is one of 0 to {processes - 1} of {processes} processes; got {process}")
    asked = [coordinator, processes, process, timeout]
    # Its input ends when this process does, however that comes about, and it with it.
    input_end, our_end = os.pipe()
    with os.fdopen(our_end, "w"), os.fdopen(input_end) as its_input:
        meeting = subprocess.Popen(
            [sys.executable, "-m", "jaxcam.neurons.meeting", json.dumps(asked)],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            stdin=its_input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with meeting, on_stop(meeting.kill):
            try:
                stdout, stderr = meeting.communicate()
            except BaseException:
                meeting.kill()
                raise
    if meeting.returncode < 0:
        raise ConnectionError(f"not all of the processes came within {timeout} s; start all of them again")
    found = json.loads(stdout.splitlines()[-1]) if stdout else {"error": stderr.strip()[-500:]}
    if "error" in found:
        raise ValueError(
            "nothing says who the processes are; Slurm, Kubernetes and Open MPI do, elsewhere give each a coordinator "
            f"(host:port of process 0), how many there are and which it is ({found['error']})"
        )
    return Processes(**found, patience=patience)


def shares(weights: Sequence[float], count: int) -> list[slice]:
    """Cuts a list into as many runs as there are processes, of about equal weight.

    Example:
        >>> shares([1, 1, 1, 3], 2)
        [slice(0, 3, None), slice(3, 4, None)]
    """
    middle = np.cumsum(weights) - np.asarray(weights) / 2
    ends = np.searchsorted(middle, np.arange(1, count) * (sum(weights) / count)).tolist()
    return [slice(start, end) for start, end in zip([0, *ends], [*ends, len(weights)], strict=True)]


class Crew:
    """The processes of a sweep while it goes on. A context: what is inside shows the others that this one lives.

    Args:
        me: this process.
        store: the sweep's store; what the crew has to say stands beside it while it works.
    """

    def __init__(self, me: Processes, store: Path) -> None:
        self.me, self.store = me, store
        self.folder = store.with_name(f".{store.name}.{me.name}")
        self._stop = threading.Event()
        self._inside = contextlib.ExitStack()
        self._beating = threading.Thread(target=self._beat, daemon=True)
        self._seen: dict[int, tuple[str, float]] = {}

    def __enter__(self) -> Crew:
        if self.me.index == 0:
            for old in self.store.parent.glob(f".{self.store.name}.*"):
                if old.is_dir():
                    shutil.rmtree(old, ignore_errors=True)
            self.folder.mkdir(parents=True)
        begun = time.monotonic()
        while not self.folder.exists():
            if time.monotonic() - begun > 10 * self.me.patience:
                waited = f"{10 * self.me.patience:.0f} s"
                raise ProcessLost(f"process 0 has not begun within {waited}; start all of them again")
            time.sleep(BEAT / 4)
        self._sign("0")
        self._beating.start()
        self._inside.enter_context(on_stop(self._stopped))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside.close()
        if error is not None:
            self._leave(f"ended: {type(error).__name__}")
            return
        self._stop.set()
        self._beating.join()
        with contextlib.suppress(OSError):
            self._sign(LEFT)
        if self.me.index == 0:
            # Not before everybody has read what there is to do, and found it done.
            with contextlib.suppress(ProcessLost):
                self.wait(lambda: all(self._read(index) == LEFT for index in range(self.me.count)))
            shutil.rmtree(self.folder, ignore_errors=True)

    def _leave(self, sign: str) -> None:
        """The last sign of a process that does not come to the end."""
        self._stop.set()
        self._beating.join(BEAT)
        with contextlib.suppress(OSError):
            self._sign(sign)

    def _stopped(self) -> str | None:
        """Tells the others, who need not wait for a sign of life then; and what is kept."""
        self._leave("ended: stopped")
        return self._said("stopped") if self.store.exists() else None

    def agree(self, missing: Callable[[], list[Item]]) -> list[Item]:
        """What is missing, as the first process finds it; the others wait until it says so."""
        path = self.folder / PLAN
        if self.me.index == 0:
            text = json.dumps(missing())
            write_atomically(path, lambda file: file.write(text.encode()))
        self.wait(path.exists, only=0)
        return [(int(index), str(layer)) for index, layer in json.loads(path.read_text())]

    def mine(self, items: Sequence[Item], weights: Sequence[float]) -> list[Item]:
        """The part of this process."""
        return list(items[shares(weights, self.me.count)[self.me.index]])

    def wait(self, done: Callable[[], bool], only: int | None = None) -> None:
        """Waits until something is done, as long as the others live.

        Args:
            done: whether it is.
            only: whose life matters; None for everybody's.

        Raises:
            ProcessLost: one of them does not.
        """
        others = [index for index in range(self.me.count) if index != self.me.index and only in (None, index)]
        self._seen = {index: ("", time.monotonic()) for index in others}
        while not done():
            for index in others:
                self._look(index)
            time.sleep(BEAT / 2)

    def _look(self, index: int) -> None:
        sign = self._read(index)
        now, (before, since) = time.monotonic(), self._seen[index]
        if sign.startswith("ended"):
            raise ProcessLost(self._said(f"process {index} of {self.me.count} {sign}"))
        if sign != before:
            self._seen[index] = sign, now
        elif now - since > self.me.patience:
            raise ProcessLost(
                self._said(f"process {index} of {self.me.count} has given no sign of life for {self.me.patience:.0f} s")
            )

    def _read(self, index: int) -> str:
        try:
            return (self.folder / str(index)).read_text()
        except OSError:
            return ""

    def _said(self, what: str) -> str:
        return (
            f"{what}; what is measured is kept in {self.store}, and the same command, with any number of processes, "
            "goes on from there"
        )

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(BEAT):
            count += 1
            with contextlib.suppress(OSError):  # a full disk shows in the work itself
                self._sign(str(count))

    def _sign(self, text: str) -> None:
        path = self.folder / str(self.me.index)
        temporary = path.with_suffix(".new")
        temporary.write_text(text)
        os.replace(temporary, path)

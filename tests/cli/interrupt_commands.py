"""Interrupts real commands at random moments of their lives, and lets them go on to their end afterwards.

    python tests/cli/interrupt_commands.py --each 75 --seed 0 --out interrupts.csv

Four commands on small data: `train`, `averages`, `neurons` and `explain --method lime`. A moment is drawn evenly from
the time that the command takes, from the start of its process to the end; one that comes after the work is noted, and
another is drawn. Every second process compiles everything
anew, the others find it compiled. The table has a row for each interrupt, the summary is printed; the exit code is 1 if
any interrupt was lost, any process crashed or took longer than `SOON`, or any command did not end with the same result.
"""

import argparse
import contextlib
import csv
import dataclasses
import itertools
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
from cli_helpers import ROOT, TINY, TRAIN, Said, digest

SOON = 3.0
"""Seconds from a signal to the end of the process."""

LAST = 1.05
"""The last moment, in units of the time that the command takes."""

FINISH_ANYWAY = 10
"""Of so many commands that left nothing, and so begin anew, one is run to its end; of those that left something all."""

COMMANDS = {
    "train": TRAIN,
    "averages": ("averages", "--model", "right/train", "-k", 5, "--steps", 5),
    "neurons": ("neurons", "--averages", "right/averages", "--memory", "2GB"),
    "explain": ("explain", "picture.png", "--model", "right/train", "--method", "lime", "--option", "samples=2000"),
}

RESULTS = {
    "train": ("model.safetensors", "history.csv"),
    "averages": ("averages.npz", "confidence.npz"),
    "neurons": ("sweep.zarr", "similarity.csv"),
    "explain": ("maps.npz",),
}

ENDED, STOPPED, FINISHED, EARLY = "ended before", "stopped", "finished before", "before jaxcam"
"""What an interrupt may come to: the process was gone; exit code 130; the work was done, exit code 0; Python was still
starting, and did what it does then."""


@dataclasses.dataclass(frozen=True)
class Interrupt:
    """One row of the table."""

    command: str
    number: int
    compiled_before: bool
    moment: float
    share: float
    outcome: str
    code: int
    reaction: float
    load: float
    right_afterwards: str
    line: str


def prepare(place: Path) -> None:
    """A network and a picture."""
    (place / "tinynet.py").write_text(TINY)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    PIL.Image.fromarray(pixels).save(place / "picture.png")


def begin(place: Path, command: str, out: str, cache: str) -> subprocess.Popen[str]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # What is ignored is inherited.
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "jaxcam.cli", *map(str, COMMANDS[command]), "--out", out],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAXCAM_CACHE": cache},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def said(process: subprocess.Popen[str]) -> Said:
    out, err = process.communicate()
    return Said(process.returncode, out, err)


def results(run: Path, command: str) -> list[list[tuple[str, str]]]:
    return [digest(run / name) for name in RESULTS[command]]


def threads(process: subprocess.Popen[str]) -> int:
    """How many a process has; the watchdog is two more than Python's one."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("Threads:"):
                return int(line.split()[1])
    return 0


def interrupt(place: Path, command: str, number: int, moment: float, length: float, cache: str) -> Interrupt:
    """Interrupts a command once, judges how it ended, and lets it finish."""
    out = f"run-{command}-{number}"
    run = place / out
    process = begin(place, command, out, cache)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    was_watched = threads(process) > 2
    sent = time.time()
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    answer = said(process)
    reaction = time.monotonic() - begun
    outcome = judged(answer, was_watched, (run / "manifest.json"), sent)
    row = {
        "command": command,
        "number": number,
        "compiled_before": bool(cache),
        "moment": round(moment, 2),
        "share": round(moment / length, 3),
        "outcome": outcome,
        "code": answer.code,
        "reaction": round(reaction, 2),
        "load": round(os.getloadavg()[0], 1),
        "line": answer.err.strip() if outcome in (STOPPED, FINISHED, ENDED) else answer.err,
    }
    nothing = not run.exists() and number % FINISH_ANYWAY
    right = "nothing is left" if nothing else afterwards(place, command, out, cache)
    shutil.rmtree(run, ignore_errors=True)
    return Interrupt(**row, right_afterwards=right)


def judged(answer: Said, was_watched: bool, manifest: Path, sent: float) -> str:
    """How a process ended that was sent a signal."""
    lines = answer.err.strip().splitlines()
    if answer.code == 130 and len(lines) == 1 and lines[0].startswith("jaxcam: "):
        return STOPPED
    if answer.code == 0:
        is_done = manifest.exists() and manifest.stat().st_mtime <= sent
        return (FINISHED if was_watched else ENDED) if is_done else "lost"
    return (
        EARLY if not was_watched and "KeyboardInterrupt" in answer.err and not manifest.parent.exists() else "crashed"
    )


def afterwards(place: Path, command: str, out: str, cache: str) -> str:
    """ "yes", or what is wrong with the result of the same command once it has come to its end."""
    run = place / out
    if not (run / "manifest.json").exists():
        again = said(begin(place, command, out, cache))
        if again.code != 0:
            return f"exit code {again.code}: {again.err.strip()}"
    hidden = [path.name for path in run.iterdir() if path.name.startswith(".") or path.name == "run.json"]
    if hidden:
        return f"left: {', '.join(hidden)}"
    return "yes" if results(run, command) == results(place / "right" / command, command) else "another result"


def lengths_of(place: Path, caches: list[str]) -> dict[str, list[float]]:
    """The seconds that every command takes without an interrupt, with each cache; what it gives is kept in `right`."""
    known = place / "lengths.json"
    if known.exists():
        return json.loads(known.read_text())
    prepare(place)
    lengths: dict[str, list[float]] = {}
    for command in COMMANDS:
        lengths[command] = [0.0, 0.0]
        for out in (f"right/{command}", f"warm/{command}", f"cold/{command}"):
            which = int(out.startswith("cold"))
            begun = time.monotonic()
            answer = said(begin(place, command, out, caches[which]))
            lengths[command][which] = time.monotonic() - begun
            if answer.code != 0:
                raise RuntimeError(f"{command} failed: {answer}")
            if results(place / out, command) != results(place / "right" / command, command):
                raise RuntimeError(f"{command} gives another result each time")
    known.write_text(json.dumps(lengths))
    return lengths


def interrupts(place: Path, each: int, seed: int, commands: list[str]) -> Iterator[Interrupt]:
    """Interrupts commands in turn, each at moments of its own, until so many of each were at work when it came."""
    caches = [str(place / "compiled"), ""]
    lengths = lengths_of(place, caches)
    moments = {command: random.Random(f"{command} {seed}") for command in commands}
    left = dict.fromkeys(commands, each)
    for number in itertools.count():
        for command in [command for command, count in left.items() if count > 0]:
            length = lengths[command][number % 2]
            moment = moments[command].uniform(0, LAST * length)
            row = interrupt(place, command, number, moment, length, caches[number % 2])
            left[command] -= row.outcome not in (ENDED, FINISHED)
            yield row
        if max(left.values()) <= 0:
            return


def is_good(row: Interrupt) -> bool:
    """Whether nothing was lost, nothing crashed, and it ended soon."""
    if row.right_afterwards not in ("yes", "nothing is left"):
        return False
    return row.outcome in (ENDED, EARLY) or (row.outcome in (STOPPED, FINISHED) and row.reaction <= SOON)


def summary(rows: list[Interrupt]) -> str:
    """A line for each command."""
    lines = []
    for command in dict.fromkeys(row.command for row in rows):
        some = [row for row in rows if row.command == command]
        counts = {outcome: sum(row.outcome == outcome for row in some) for outcome in (STOPPED, FINISHED, ENDED, EARLY)}
        reactions = sorted(row.reaction for row in some if row.outcome in (STOPPED, FINISHED))
        times = (
            f"; seconds to the end: median {statistics.median(reactions):.2f}, largest {reactions[-1]:.2f}"
            if reactions
            else ""
        )
        bad = sum(not is_good(row) for row in some)
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lines.append(f"{command}: {len(some)} interrupts, {told}, {bad} bad{times}")
    loads = [row.load for row in rows]
    lines.append(f"load average {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} processors")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--each", type=int, default=75, help="interrupts of each command while it is at work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", choices=COMMANDS, action="append", help="of these commands only")
    parser.add_argument(
        "--place", type=Path, help="a folder to work in; several at once may share one that is prepared"
    )
    parser.add_argument("--out", type=Path, required=True, help="the table, a .csv file")
    given = parser.parse_args()
    rows: list[Interrupt] = []
    with tempfile.TemporaryDirectory() as folder, given.out.open("w", newline="") as file:
        place = given.place or Path(folder)
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Interrupt)])
        writer.writeheader()
        for row in interrupts(place.resolve(), given.each, given.seed, given.command or list(COMMANDS)):
            rows.append(row)
            writer.writerow(dataclasses.asdict(row))
            file.flush()
    sys.stdout.write(f"{summary(rows)}\n")
    sys.exit(0 if all(map(is_good, rows)) else 1)


if __name__ == "__main__":
    main()

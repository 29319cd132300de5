"""Where a command writes: one directory a run, and no doubt whether it is whole.

    run.json       written first: the command and its arguments, by which an unfinished run is recognized
    …              the results, each file whole or not there
    manifest.json  written last: what was run, on what, with which versions, and what came out

A directory with a manifest is finished and is never written to again, unless `--overwrite` says so. One without is
unfinished: the same command with the same arguments goes on with it, where it can, or begins anew; another is refused.
A command that fails, or is stopped, leaves nothing behind, except what it can go on from. There is no moment in which a
directory holds results and neither of the two files, whatever ends the process.
"""

import contextlib
import datetime
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from jaxcam.checksums import CHECKSUMS, checksums, is_whole, sealed
from jaxcam.cli.errors import DiskFull, is_full
from jaxcam.cli.manifest import OUTSIDE, differences, plain, versions, write_json
from jaxcam.cli.relocated import paths_of, same_arguments
from jaxcam.files import write_atomically
from jaxcam.interrupts import on_stop, safe_point
from jaxcam.manifest_paths import ENTRY

RUN, MANIFEST = "run.json", "manifest.json"
ATLAS, MARK = "report", "atlas.json"
"""The folder of an atlas in a run, and the file by which it is known."""

RESULTS: dict[str, tuple[str, ...]] = {
    "train": ("model.safetensors", "history.csv", "history.png", "epochs", "tensorboard"),
    "averages": ("averages.npz", "confidence.npz", "averages.png", "confidence.png"),
    "neurons": ("sweep.zarr", "similarity.csv", "similarity.png", "dead_units.png", "extremes"),
    "prune": ("pruning.csv", "pruning.png"),
    "explain": ("maps.npz", "sheet.png", "pictures"),
    "compare": ("figures.csv", "summary.csv", "summary.md", "summary.png"),
    "redundancy": ("components.csv", "redundancy.npz", "redundancy.png"),
    "distributions": ("distributions.csv", "summary.csv", "values.npz", "distributions.png"),
    "maximize": ("maximized.npz", "units.csv", "maximized.png", "frames.npz", "frames.png"),
    "landscape": ("points.npz", "landscape.npz", "landscape.png", "landscape.html"),
    "linear-piece": ("pieces.npz", "images.csv", "sharing.csv", "linear_piece.png"),
    "leak-check": ("leaking", "clean", "leaks.csv", "maps.npz", "leaks.png", "sheet.png"),
    "clusters": ("clusters.csv", "clusters.npz", "clusters.png"),
    "concepts": ("concepts.csv", "concepts.npz", "concepts.png"),
    "demo": ("train", "averages", "neurons", "prune", "report"),
}
"""What each command writes, in this order, beside the two files above."""

UNCHECKED = ("tensorboard", "train", "averages", "neurons", "prune", "report")
"""Results without a checksum in the manifest: logs, runs with manifests of their own, pages that are written anew."""

RESUMED_FROM = {
    "leak-check": "leaking",
    "train": "state.safetensors",
    "neurons": "sweep.zarr",
    "landscape": "points.npz",
    "demo": "train",
}
"""What a command that can go on goes on from."""

ATTEMPTS = 10
"""How often it is tried to remove a folder that is still being written to."""


class RunDirectory:
    """The directory of one run.

    Made before the work begins, it refuses what must not be overwritten; entered, it holds the directory until
    `finish` has written the manifest.

    Args:
        command: the command's name.
        out: the directory.
        arguments: of the command, by the names of its options.
        overwrite: whether a run that is there may be replaced.

    Raises:
        ValueError: there is something at `out` that is not an unfinished run of the same command and arguments.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunDirectory("prune", Path(folder) / "run", {"fraction": 0.4}) as run:
        ...         run.finish(results={"layers": 5})
        ...     RunDirectory("prune", Path(folder) / "run", {"fraction": 0.4}).finished["results"]
        Traceback (most recent call last):
        ValueError: ...run holds a finished run of jaxcam prune; use another --out, or --overwrite to replace it
    """

    def __init__(self, command: str, out: Path, arguments: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.command, self.path, self.overwrite = command, out, overwrite
        self.arguments = {name: plain(value) for name, value in arguments.items() if name not in OUTSIDE}
        self._typed = dict(arguments)
        self.begun = time.monotonic()
        self._made: list[Path] = []
        self._lock: int | None = None
        self._is_finished = False
        self._inside = contextlib.ExitStack()
        self.check()

    def check(self) -> None:
        """Raises unless the run may be written at its place."""
        if self.path.is_symlink() and not self.path.exists():
            raise ValueError(f"{self.path} is a link to nothing; use another --out")
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; --out is a directory")
        found = describe(self.path)
        if not others(self.path):
            return
        if found is None:
            names = sorted(entry.name for entry in self.path.iterdir())
            more = ", …" if len(names) > 3 else ""
            raise ValueError(
                f"{self.path} holds files that no command of jaxcam wrote ({', '.join(names[:3])}{more}); "
                "use another --out"
            )
        if self.overwrite:
            return
        command = found.get("command")
        if (self.path / MANIFEST).exists():
            raise ValueError(
                f"{self.path} holds a finished run of jaxcam {command}; use another --out, or --overwrite to replace it"
            )
        if command != self.command:
            raise ValueError(
                f"{self.path} holds an unfinished run of jaxcam {command}; use another --out, or --overwrite to "
                "replace it"
            )
        different = differences(
            same_arguments(found.get("arguments", {}), self.arguments, found, self.path), self.arguments
        )
        if different:
            raise ValueError(
                f"{self.path} holds an unfinished run of jaxcam {command} with other arguments ({different}); "
                "give the same to go on with it, another --out, or --overwrite to replace it"
            )

    @property
    def goes_on(self) -> bool:
        """Whether there is something to go on from."""
        name = RESUMED_FROM.get(self.command)
        return name is not None and (self.path / name).exists() and not (self.path / MANIFEST).exists()

    def __enter__(self) -> "RunDirectory":
        safe_point()
        self._make()
        self._hold()
        try:
            self.check()  # Another process may have been faster.
        except ValueError:
            self._release()
            raise
        self._inside.enter_context(on_stop(self._stop))
        try:
            if self.overwrite or not self.goes_on:
                clear(self.path)
            else:
                remove_temporaries(self.path, self.command)
            paths = paths_of(self.path, self._typed)
            write_json(self.path / RUN, {"command": self.command, "arguments": self.arguments, ENTRY: paths})
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def finish(
        self,
        *,
        model: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        seed: int | None = None,
        results: Mapping[str, Any],
    ) -> None:
        """Writes the manifest: from here on the run is finished.

        Args:
            model: what describes the network.
            data: what describes the data.
            seed: the seed, where the command has one.
            results: what came out, in numbers and names.
        """
        safe_point()
        manifest = {
            "command": self.command,
            "arguments": self.arguments | {"out": str(self.path)},
            ENTRY: paths_of(self.path, self._typed, model, data),
            "model": model,
            "data": data,
            "seed": seed,
            "versions": versions(),
            "files": [name for name in RESULTS[self.command] if (self.path / name).exists()],
            "results": results,
            CHECKSUMS: checksums(self.path, RESULTS[self.command], without=UNCHECKED),
            "seconds": round(time.monotonic() - self.begun, 1),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        text = sealed(manifest, plain)
        write_atomically(self.path / MANIFEST, lambda file: file.write(text.encode()))
        self._is_finished = True
        # What an unfinished run needed and a finished one does not.
        for name in (RUN, "state.safetensors"):
            (self.path / name).unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        safe_point()
        with self._inside:
            try:
                if error is None or self._is_finished:
                    return
                kept = self._clean()
            finally:
                self._release()
        if is_full(error):
            raise DiskFull(f"the disk is full; {kept}") from error
        if isinstance(error, KeyboardInterrupt) and not str(error):
            raise KeyboardInterrupt(f"stopped; {kept}") from error

    def _stop(self) -> str:
        """What a stop leaves of the run, and how to go on."""
        if (self.path / MANIFEST).exists():
            return f"stopped; {self.path} holds a finished run"
        kept = self._clean()
        return f"stopped; {kept}" if self.goes_on else f"stopped; {kept}, and the same command begins anew"

    def _clean(self) -> str:
        """Removes what nobody can go on from; says what is left."""
        if self.goes_on:
            same = "the same command without --overwrite" if self.overwrite else "the same command"
            return f"what is done is kept in {self.path}, and {same} goes on from there"
        clear(self.path)
        for directory in self._made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        return f"nothing is left in {self.path}"

    def _make(self) -> None:
        missing = [self.path, *self.path.parents]
        self._made = [directory for directory in missing if not directory.exists()]
        self.path.mkdir(parents=True, exist_ok=True)

    def _hold(self) -> None:
        """Keeps other processes out, until this one ends in whatever way."""
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows
            return
        self._lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise ValueError(
                f"{self.path} is being written by another jaxcam; wait for it, or use another --out"
            ) from None
        except OSError:
            return  # Some network file systems know no locks.

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def describe(path: Path) -> dict[str, Any] | None:
    """What a directory's manifest, or else its run.json, says; None where neither does.

    Raises:
        ValueError: one of them is there and cannot be read.
    """
    for name in (MANIFEST, RUN):
        file = path / name
        if file.is_file():
            raw = file.read_bytes()
            try:
                found = json.loads(raw) if name == RUN or is_whole(raw) else None
            except ValueError:
                found = None
            if not isinstance(found, dict) or found.get("command") not in RESULTS:
                raise ValueError(f"{file} was not written by jaxcam, or is damaged; use another --out")
            return found
    return None


def finished(path: Path, command: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a directory holds a finished run of this command with these arguments, whatever the others were."""
    if not (path / MANIFEST).is_file():
        return False
    found = describe(path)
    assert found is not None
    here = {name: plain(value) for name, value in arguments.items()}
    there = {name: value for name, value in found["arguments"].items() if name in arguments}
    return found["command"] == command and not differences(same_arguments(there, here, found, path), here)


def clear(path: Path) -> None:
    """Removes what a command wrote in its directory, and nothing else; run.json goes last."""
    found = describe(path)
    # In one step, and first: halfway through, the run is an unfinished one of the same command.
    if (path / MANIFEST).exists():
        os.replace(path / MANIFEST, path / RUN)
    own = [*RESULTS[found["command"]], ATLAS, "report.html", "state.safetensors"] if found else []
    if found and found["command"] == "demo":
        for name in RESULTS["demo"]:
            if (path / name).is_dir():
                clear(path / name)
    for name in [MANIFEST, *own]:
        target = path / name
        if name == ATLAS and target.is_dir():
            if (target / MARK).is_file():
                remove_folder(target)
        elif found and found["command"] == "demo" and target.is_dir() and not target.is_symlink():
            with contextlib.suppress(OSError):
                target.rmdir()
        elif target.is_dir() and not target.is_symlink():
            remove_folder(target)
        else:
            target.unlink(missing_ok=True)
        remove_temporaries_of(target)
    remove_temporaries_of(path / RUN)
    if [entry.name for entry in others(path)] == [RUN]:  # Beside files of others it says that the directory is ours.
        (path / RUN).unlink()


def remove_temporaries(path: Path, command: str) -> None:
    """Removes what a killed run of a command left of files that it had not written to their end."""
    for name in {MANIFEST, RUN, *RESULTS[command], RESUMED_FROM[command]}:
        remove_temporaries_of(path / name)


def remove_temporaries_of(target: Path) -> None:
    """The same of one file or folder."""
    for left in target.parent.glob(f".{target.name}.*"):
        remove_folder(left) if left.is_dir() else left.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Removes a folder; half of it is never in its place, where it would look whole."""
    hidden = folder
    if not folder.name.startswith("."):
        hidden = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
    for attempt in range(ATTEMPTS):
        # Threads of a stopped command may still write to it.
        shutil.rmtree(hidden, ignore_errors=attempt < ATTEMPTS - 1)
        if not hidden.exists():
            return
        time.sleep(0.02)


def others(path: Path) -> list[Path]:
    """What is in a directory, but for what a run killed in its first moment left."""
    return [entry for entry in path.iterdir() if not entry.name.startswith(f".{RUN}.")] if path.is_dir() else []

"""The paths that a run's manifest names, found again from another directory or after the run was moved.

A manifest keeps a path as it was typed, which means something only in the directory that the command was started in.
So each is recorded twice more: relative to the run's own folder, and as an absolute path.

    "paths": {"demo/train": {"relative": "../train", "absolute": "/home/me/demo/train"}}

Runs that are moved or copied together find each other by the first; a run that is moved alone finds what has stayed
where it was by the second. A manifest without the entry is an older one: what it names is relative to the directory in
which its own folder was called `--out`.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ENTRY = "paths"


def record(paths: Iterable[str], run: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """What a manifest says of paths, beside the words that were typed.

    Args:
        paths: as they were typed.
        run: the folder of the run.

    Returns:
        By path, `absolute`, and `relative` to the folder where the two have more in common than the root.

    Example:
        >>> record(["/home/me/demo/train", "/data/photos"], "/home/me/demo/averages")["/home/me/demo/train"]["relative"]
        '../train'
        >>> record(["/data/photos"], "/home/me/demo/averages")
        {'/data/photos': {'absolute': '/data/photos'}}
    """
    return {path: place(absolute(path), run) for path in dict.fromkeys(paths)}


def place(target: str, run: str | os.PathLike[str]) -> dict[str, str]:
    """What a manifest in the folder `run` says of one absolute path."""
    folder = os.path.abspath(run)
    try:
        common = os.path.commonpath([target, folder])
    except ValueError:  # on two drives
        return {"absolute": target}
    if common == os.path.dirname(common):
        return {"absolute": target}
    return {"relative": Path(os.path.relpath(target, folder)).as_posix(), "absolute": target}


def absolute(path: str) -> str:
    """A path as it was typed, from the root on."""
    return os.path.abspath(os.path.expanduser(path))


def candidates(manifest: Mapping[str, Any], run: str | os.PathLike[str], path: str) -> list[str]:
    """Where a path of a manifest may lead now, absolute, the likeliest first, whether there is something or not.

    Args:
        manifest: of the run.
        run: its folder, where it is now.
        path: as the manifest says it was typed.

    Example:
        >>> candidates({"arguments": {"out": "demo/averages"}}, "/moved/averages", "demo/train")[0]
        '/moved/train'
    """
    entry = (manifest.get(ENTRY) or {}).get(path)
    then = [absolute(path)] if entry is None else [entry["absolute"]]
    relative = entry.get("relative") if entry else _relative_then(manifest, path)
    folders = dict.fromkeys((os.path.abspath(run), os.path.realpath(run)))
    beside = [os.path.normpath(os.path.join(folder, relative)) for folder in folders] if relative else []
    return list(dict.fromkeys(beside + then))


def _relative_then(manifest: Mapping[str, Any], path: str) -> str | None:
    """The same path relative to the run's folder, where an older manifest says enough to tell."""
    out = (manifest.get("arguments") or {}).get("out") if ENTRY not in manifest else None
    expanded = os.path.expanduser(path)
    if not isinstance(out, str) or os.path.isabs(out) != os.path.isabs(expanded):
        return None
    return os.path.relpath(expanded, out)


def locations(manifest: Mapping[str, Any], run: str | os.PathLike[str], path: str) -> list[str]:
    """Where there is something now of those places: as typed where that leads there, else as short as it can be."""
    there = [place for place in candidates(manifest, run, path) if os.path.exists(place)]
    return list(dict.fromkeys(_said(place, path) for place in there))


def locate(manifest: Mapping[str, Any], run: str | os.PathLike[str], path: str) -> str | None:
    """The first of `locations`, or None."""
    return next(iter(locations(manifest, run, path)), None)


def _said(place: str, typed: str) -> str:
    here = absolute(typed)
    if here == place or (os.path.exists(here) and os.path.samefile(here, place)):
        return typed
    return shortened(place)


def shortened(place: str) -> str:
    """An absolute path, relative to the working directory where it is inside that.

    Example:
        >>> shortened(os.path.join(os.getcwd(), "demo", "train")) == os.path.join("demo", "train")
        True
    """
    return os.path.relpath(place) if Path(place).is_relative_to(os.getcwd()) else place

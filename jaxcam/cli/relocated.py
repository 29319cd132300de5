"""What a manifest says of paths: which of a command's arguments are some, and where they lead now."""

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxcam.manifest_paths import ENTRY, absolute, candidates, locate, place, record

WORDS = ("model", "weights", "data", "data_dir", "to", "concept")
"""Arguments that are a path or a name; the others that are paths are `Path`s."""


def paths_of(
    run: Path,
    arguments: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, str]]:
    """The entry of a manifest for all paths that it names.

    Args:
        run: the folder of the run.
        arguments: of the command, by the names of its options, paths as `Path`s.
        model: what describes the network.
        data: what describes the data.
    """
    source = {**((data or {}).get("source") or {}), **((model or {}).get("source") or {})}
    named = [path for name, value in arguments.items() if name != "out" for path in _paths(name, value)]
    named += [path for name in ("data", "data_dir", "weights") for path in _paths(name, source.get(name))]
    named += _paths("model", source.get("spec"))
    found = record(named, run)
    factory = (model or {}).get("factory")
    if factory is not None and (file := module_file(factory)) is not None:
        found[factory] = place(str(root_of(file, factory)), run) | {"sha256": digest(file)}
    return found


def _paths(name: str, value: Any) -> Iterator[str]:
    """The paths among an argument's values; a word counts as one where there is such a file or folder."""
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, os.PathLike):
            yield os.fspath(item)
        elif isinstance(item, str) and name in WORDS and not is_name(name, item) and os.path.exists(absolute(item)):
            yield item


def is_name(option: str, word: str) -> bool:
    """Whether a word names a network or a data set, whatever folders there are."""
    from jaxcam import data, models  # not needed to refuse a mistyped option

    if option == "data":
        return word in data.names() or word.startswith("tfds:")
    return option == "model" and word in models.names()


def module_file(factory: str) -> Path | None:
    """The file of the module of `package.module:factory`, which was imported; None of an installed one."""
    file = getattr(sys.modules.get(factory.partition(":")[0]), "__file__", None)
    if file is None:
        return None
    path = Path(os.path.abspath(file))
    installed = {Path(sysconfig.get_path(kind)) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return None if root_of(path, factory) in installed else path


def root_of(file: Path, factory: str) -> Path:
    """The folder from which Python imports the module of a factory.

    Example:
        >>> root_of(Path("/home/me/mypkg/net.py"), "mypkg.net:ready").as_posix()
        '/home/me'
    """
    return file.parents[factory.partition(":")[0].count(".") + (file.name == "__init__.py")]


def digest(file: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def factory_roots(manifest: Mapping[str, Any], run: Path, factory: str) -> list[str]:
    """Folders that may hold the module of a run's factory, the likeliest first: the one with the same text in it."""
    entry = (manifest.get(ENTRY) or {}).get(factory)
    if entry is None:
        return [] if ENTRY in manifest else candidates(manifest, run, ".")
    roots = candidates(manifest, run, factory)
    return sorted(roots, key=lambda root: not _holds(root, factory, entry["sha256"]))


def _holds(root: str, factory: str, sha256: str) -> bool:
    path = Path(root, *factory.partition(":")[0].split("."))
    files = [file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()]
    return bool(files) and digest(files[0]) == sha256


def relocated(
    options: Mapping[str, Any], names: Sequence[str], manifest: Mapping[str, Any], run: Path
) -> dict[str, Any]:
    """Some options of a run with these paths where they lead now; what is nowhere any more is where it was.

    Args:
        options: by name, as its manifest has them.
        names: of those that may be paths.
        manifest: of the run.
        run: its folder.
    """
    moved = dict(options)
    for name in names:
        path = options.get(name)
        if isinstance(path, str) and not is_name(name, path):
            entry = (manifest.get(ENTRY) or {}).get(path)
            moved[name] = locate(manifest, run, path) or (entry["absolute"] if entry else path)
    return moved


def same_arguments(
    there: Mapping[str, Any], here: Mapping[str, Any], described: Mapping[str, Any], run: Path
) -> dict[str, Any]:
    """The arguments of an earlier call, a path in the words of this one where both lead to the same place."""
    same = dict(there)
    for name, old in there.items():
        new = here.get(name)
        if isinstance(old, str) and isinstance(new, str) and old in (described.get(ENTRY) or {}):
            target = locate(described, run, old)
            if target is not None and os.path.exists(absolute(new)) and os.path.samefile(target, absolute(new)):
                same[name] = new
    return same


def tried(manifest: Mapping[str, Any], run: Path, path: str) -> str:
    """Where a path was looked for, for messages: "neither at a nor at b"."""
    places = candidates(manifest, run, path)
    return f"not at {places[0]}" if len(places) == 1 else f"neither at {places[0]} nor at {places[-1]}"

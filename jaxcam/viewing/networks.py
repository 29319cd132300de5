"""Which runs of a directory are about the same network: a report has pages of its own for each.

A page about several networks at once would compare what cannot be compared, and so would one about a network on several
data sets. Networks are told apart by their weights, not by their names: two trainings of one architecture are two.
"""

import difflib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxcam.manifest_paths import ENTRY, locate
from jaxcam.viewing.runs import KNOWN, WHOLE, Run, find

UNNAMED = "a network"
Key = tuple[str, str]


@dataclass(frozen=True)
class Reported:
    """A network, and the runs that are about it on one data set.

    Attributes:
        name: what the index calls it: the network's name; where that is not enough, with "@" and the data or a folder.
        folder: a name for the files of its pages, unlike those of the others.
        runs: outermost first, then by name.
    """

    name: str
    folder: str
    runs: list[Run]

    @property
    def commands(self) -> list[str]:
        """The commands that made the runs, each once."""
        return list(dict.fromkeys(run.command for run in self.runs))


def reported(run_dir: str | os.PathLike[str], network: str | None = None) -> list[Reported]:
    """The networks of the finished runs in a directory.

    Args:
        run_dir: as for `report`.
        network: the name of the only one that is asked for; None for all.

    Raises:
        ValueError: no such network; as `runs.find`.
    """
    networks = told_apart(find(run_dir), Path(run_dir))
    if network is None:
        return networks
    names = [entry.name for entry in networks]
    if network not in names:
        lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(network.lower(), lower, n=1, cutoff=0.4)
        meant = f"did you mean {lower[near[0]]!r}? All" if near else "all"
        raise ValueError(f"nothing in {run_dir} is about {network!r}; {meant} is about {', '.join(names)}")
    return [networks[names.index(network)]]


def pages_of(networks: Sequence[Reported], index: Path, *, single: bool) -> list[Path]:
    """Where the pages of each network are, beside the one that a report begins with.

    Args:
        networks: those that were reported.
        index: the first page.
        single: whether each has one page, and not a folder of pages.
    """
    if len(networks) == 1:
        return [index]
    if single:
        return [index.with_name(f"{index.stem}-{entry.folder}{index.suffix}") for entry in networks]
    return [index.parent / entry.folder / index.name for entry in networks]


def told_apart(runs: Sequence[Run], root: Path) -> list[Reported]:
    """The runs by network and data, in the order of the first of each, and what to call them."""
    groups = [part for group in _by_network(runs) for part in _by_data(group)]
    names = _names(groups, root)
    folders: list[str] = []
    for name in names:
        folder = re.sub(r"[^\w.-]+", "-", name)[:80].strip(".-") or "network"
        taken = {other.lower() for other in folders}
        folders.append(next(f for f in _numbered(folder) if f.lower() not in taken))
    return [Reported(*entry) for entry in zip(names, folders, groups, strict=True)]


def _by_network(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each network: of the same weights, or, where a manifest does not say which, of the same name."""
    by_name: dict[str | None, set[Key]] = {}
    for run in runs:
        key = _weights(run)
        if key is not None and key[0] == "weights":
            for name in (_name(run), None):
                by_name.setdefault(name, set()).add(key)
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        known = by_name.get(_name(run), set())
        key = _weights(run) or (next(iter(known)) if len(known) == 1 else ("name", _name(run) or ""))
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _name(run: Run) -> str | None:
    name = run.part("model").get("name")
    return None if name is None else str(name)


def _weights(run: Run) -> Key | None:
    """What tells a network from others of its name; None where the manifest does not say."""
    arguments = run.part("arguments")
    if run.command == "leak-check" and arguments.get("region") is None and arguments.get("mask") is None:
        return ("trained in", str(run.path))  # two networks that no other run has
    fingerprint = run.part("model").get("fingerprint")
    return None if fingerprint is None else ("weights", str(fingerprint))


def _by_data(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of one network by data set; a study may bring images of its own and goes with the first."""
    measured = [run for run in runs if run.command in (*KNOWN, WHOLE)]
    groups: dict[str, list[Run]] = {data: [] for data in dict.fromkeys(map(_data, measured)) if data is not None}
    first = next(iter(groups), "")
    for run in runs:
        data = _data(run)
        groups.setdefault(data if data in groups else first, []).append(run)
    return [group for group in groups.values() if group]


def _data(run: Run) -> str | None:
    """Which data set: its name, or where its folder is now."""
    described = run.part("data")
    typed = (described.get("source") or {}).get("data") or run.part("arguments").get("data")
    entry = run.part(ENTRY).get(typed) if isinstance(typed, str) else None
    if isinstance(typed, str) and entry is not None:
        return os.path.realpath(locate(run.manifest, run.path, typed) or entry["absolute"])
    return None if "name" not in described else str(described["name"])


def _names(groups: Sequence[Sequence[Run]], root: Path) -> list[str]:
    """What to call each: the network's name, and what tells it from the others of that name."""
    plain = [next((name for run in group if (name := _name(run))), UNNAMED) for group in groups]
    named = list(plain)
    for name in dict.fromkeys(plain):
        same = [i for i, other in enumerate(plain) if other == name]
        data = [_short_data(groups[i]) for i in same]
        if len(same) > 1:
            folders = [_folder(min(groups[i], key=_order), root) for i in same]
            tails = data if len(set(data)) == len(data) else folders
            for i, tail in zip(same, tails, strict=True):
                named[i] = f"{name}@{tail}"
    return named


def _short_data(group: Sequence[Run]) -> str:
    """The name of a data set, of a folder the last part."""
    names = [str(run.part("data")["name"]) for run in group if "name" in run.part("data")]
    return names[0] if names and names[0].startswith("tfds:") else Path(names[0]).name if names else "unknown data"


def _order(run: Run) -> int:
    """The training first: it is by its folder that one remembers a network."""
    return KNOWN.index(run.command) if run.command in KNOWN else len(KNOWN)


def _folder(run: Run, root: Path) -> str:
    folder = Path(os.path.relpath(run.path, root)).as_posix()
    return run.path.resolve().name if folder == "." else folder


def _numbered(name: str) -> Iterable[str]:
    yield name
    yield from (f"{name}-{number}" for number in range(2, 1000))

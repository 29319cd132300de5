"""Whether files are still what was written: checksums that stand with results and are compared when these are read.

A disk, a network share or a copy may change a byte, and a number with another byte is a number still. So

    manifest.json    has the checksum of every file of its run (`checksums`) and of itself (`sealed`)
    *.safetensors    have one of their arrays and of what stands beside these (`of_arrays`)
    sweep.zarr       has one in each chunk and one of its metadata; the manifest has that of its files' names and sizes

What was written by an older version has none of this and is read as it is. CRC-32 tells an accident, not an attack, and
takes a fraction of the time that reading takes.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that refuse their arguments need not wait for it
    import numpy as np

CHECKSUMS, SEAL = "checksums", "seal"
"""Entries of a manifest: the checksums of files by name, and its own."""

_PIECE = 1 << 20


def of_bytes(content: bytes) -> str:
    """The checksum of some bytes: CRC-32 in hexadecimal.

    Example:
        >>> of_bytes(b"cat"), of_bytes(b"cau")
        ('9e5e43a8', 'e959733e')
    """
    return f"{zlib.crc32(content):08x}"


def of_path(path: str | os.PathLike[str]) -> str:
    """The checksum of a file; of a directory, that of the names and sizes of all files in it.

    The chunks of a Zarr store have checksums of their own, so what is left to notice is one that is missing or cut off.
    """
    path = Path(path)
    if not path.is_dir():
        value = 0
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                value = zlib.crc32(piece, value)
        return f"{value:08x}"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listing = [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files]
    return of_bytes(json.dumps(listing).encode())


def checksums(folder: Path, names: Iterable[str], *, without: Iterable[str] = ()) -> dict[str, str]:
    """The checksums of results, by their paths in a folder: of each file in a directory, of a Zarr store as a whole.

    Args:
        folder: where they are.
        names: of files and directories.
        without: names that are left out.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     _ = (Path(place) / "a.txt").write_text("cat")
        ...     checksums(Path(place), ["a.txt", "missing.txt"])
        {'a.txt': '9e5e43a8'}
    """
    found: dict[str, str] = {}
    for name in names:
        path = folder / name
        if name in without or not path.exists():
            continue
        files = sorted(path.rglob("*")) if path.is_dir() and path.suffix != ".zarr" else [path]
        entries = (file for file in files if file == path or file.is_file())
        found |= {entry.relative_to(folder).as_posix(): of_path(entry) for entry in entries}
    return found


def check(path: Path, known: object, again: str) -> None:
    """Raises unless a file, or a store, is what was written.

    Args:
        path: the file.
        known: its checksum; None where an older version wrote it.
        again: what makes it anew, such as "jaxcam train … --overwrite".

    Raises:
        ValueError: it is not.
    """
    if known is not None and of_path(path) != known:
        what = "lacks a file, or one of them is cut off" if path.is_dir() else "has changed since, or is damaged"
        raise ValueError(f"{path} is not what was written: it {what}; {again} makes it again")


def sealed(content: Mapping[str, Any], default: Callable[[Any], Any] | None = None) -> str:
    """A JSON object as text, with a last entry by which a changed byte is noticed.

    Args:
        content: what JSON can hold, or `default` makes so; no NaN.
        default: as of `json.dumps`.

    Example:
        >>> text = sealed({"command": "train"})
        >>> is_whole(text.encode()), is_whole(text.replace("train", "drain").encode())
        (True, False)
    """
    body = _text(json.loads(json.dumps(content, default=default, allow_nan=False)))
    seal = {"bytes": len(body), "checksum": of_bytes(body)}
    return _text(json.loads(body) | {SEAL: seal}).decode() + "\n"


def is_whole(raw: bytes) -> bool:
    """Whether the text of a JSON object is as `sealed` wrote it, or by someone else.

    A file in another layout, of another size, was written anew by whoever changed it, and is no accident.

    Raises:
        ValueError: it is no JSON.
    """
    content = json.loads(raw)
    if not isinstance(content, dict):
        return False
    seal = content.get(SEAL)
    if seal is None:
        return CHECKSUMS not in content  # older, or the entry itself is what was hit
    if not isinstance(seal, dict) or not isinstance(seal.get("bytes"), int):
        return False
    body, whole = _text({name: value for name, value in content.items() if name != SEAL}), _text(content) + b"\n"
    if raw == whole:
        return seal == {"bytes": len(body), "checksum": of_bytes(body)}
    return len(raw) != seal["bytes"] + len(whole) - len(body)


def _text(content: Any) -> bytes:
    return json.dumps(content, indent=2, allow_nan=False).encode()


def of_arrays(arrays: Mapping[str, "np.ndarray"], beside: str) -> str:
    """The checksum of named arrays, their shapes and types, and of the text that stands beside them.

    Example:
        >>> import numpy as np
        >>> of_arrays({"a": np.zeros(2)}, "") == of_arrays({"a": np.zeros((1, 2))}, "")
        False
    """
    import numpy as np

    value = zlib.crc32(beside.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        value = zlib.crc32(repr((name, arrays[name].shape, array.dtype.name)).encode(), value)
        value = zlib.crc32(array.reshape(-1).view(np.uint8).data, value)
    return f"{value:08x}"

"""Whole files or none: what every room that writes to disk uses.

A reader must never meet half a file, whatever killed the writer. So each file is written under a temporary
name beside its place, flushed to the disk and then renamed, which a file system does in one step.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from jaxcam.interrupts import on_stop, safe_point


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> Path:
    """Writes a file so that it appears whole or not at all.

    Args:
        path: where the file shall be; its directory must exist. A file of that name is replaced.
        write: called with a binary file object to write to.

    Returns:
        The path written.

    Raises:
        OSError: there is no such directory, it cannot be written, or the disk is full; nothing is left behind.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = write_atomically(pathlib.Path(folder) / "a.txt", lambda file: file.write(b"whole"))
        ...     written.read_bytes()
        b'whole'
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file to write to", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}", str(path))
    safe_point()
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:  # which names the temporary file, of which nobody knows
        raise OSError(error.errno, error.strerror, str(path)) from error

    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)

    with on_stop(remove):
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files private; results are as readable as any other file of the user.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            remove()
            raise
    return path


def instead_of_a_file(path: Path) -> str:
    """What stands where a file was expected, for the message that says so; empty where nothing does.

    Example:
        >>> instead_of_a_file(Path(os.devnull)), instead_of_a_file(Path("nothing"))
        (' (it is a device or a pipe)', '')
    """
    if path.exists():
        return " (it is a folder)" if path.is_dir() else " (it is a device or a pipe)"
    return " (it is a link to nothing)" if path.is_symlink() else ""

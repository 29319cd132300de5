"""From an exception to one line and an exit code."""

import errno
import os
import traceback
from pathlib import Path

import click

from jaxcam.cli.watchdog import INTERRUPTED

INPUT, USAGE, ENVIRONMENT, BUG, UNREAD = 1, 2, 3, 70, 141

MEANINGS = {
    0: "all is done",
    INPUT: "something given is wrong: a model, a layer, data, a run directory",
    USAGE: "the command line is wrong: an unknown command or option",
    ENVIRONMENT: "something around is missing: a file, the network, memory, room on the disk",
    BUG: "a bug in jaxcam; JAXCAM_DEBUG=1 shows where",
    INTERRUPTED: "stopped by Ctrl-C or SIGTERM; the same command goes on, or begins anew",
    UNREAD: "nobody reads the output any more, as after | head; all else is done",
}
"""The exit codes, as `jaxcam --help` documents them."""

FULL = {errno.ENOSPC, errno.EDQUOT}

PACKAGE = Path(__file__).absolute().parents[1]

OWN: set[Path] = set()
"""The folders that a user's own networks come from."""


class DiskFull(OSError):
    """The disk is full; the message says what was kept."""


class Interrupted(Exception):
    """A KeyboardInterrupt on its way through click, which would drop its message."""


def explain(error: BaseException) -> tuple[str, int]:
    """What to tell a user about an exception, and the code to exit with.

    Args:
        error: whatever ended a command.

    Returns:
        One line without a final stop, and one of the codes of `MEANINGS`.

    Example:
        >>> explain(ValueError("no model 'resnet5'; did you mean 'resnet50'?"))
        ("no model 'resnet5'; did you mean 'resnet50'?", 1)
        >>> explain(RuntimeError("boom"))[1]
        70
    """
    if isinstance(error, click.UsageError):
        where = error.ctx.command_path if error.ctx else "jaxcam"
        return f"{one_line(error.format_message())}; {where} --help shows how", USAGE
    if isinstance(error, click.ClickException):
        return one_line(error.format_message()), INPUT
    if isinstance(error, Interrupted | KeyboardInterrupt | click.Abort):
        return one_line(error) or "stopped", INTERRUPTED
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory: {one_line(error) or 'no more to be had'}; ask for fewer or smaller images", ENVIRONMENT
    if is_full(error) and not isinstance(error, DiskFull):
        return "the disk is full; nothing was written", ENVIRONMENT
    if isinstance(error, OSError | ImportError):
        return operating_system(error), ENVIRONMENT
    if isinstance(error, ValueError | TypeError):
        return one_line(error), ENVIRONMENT if without_network(error) else INPUT
    if place_of(error):
        return f"code of yours fails: {failure(error)}", INPUT
    kind = type(error).__name__
    return f"unexpected {kind}: {one_line(error) or 'no message'}; JAXCAM_DEBUG=1 shows where it comes from", BUG


def failure(error: BaseException) -> str:
    """Why code of a user's own failed: the exception, what it says, and the line of the user's file.

    Example:
        >>> failure(KeyError("weights")), failure(AssertionError()), failure(SystemExit(7))
        ('KeyError: weights', 'AssertionError', 'it calls sys.exit(7)')
    """
    message = one_line(error)
    if isinstance(error, SystemExit):
        text = f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    elif isinstance(error, ValueError) and message:
        text = message
    else:
        text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    place = place_of(error)
    return f"{text} ({place})" if place else text


def place_of(error: BaseException) -> str:
    """The last line of a user's own code on the way to an exception: "nets.py, line 9"; empty where there is none."""
    files = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(file, number) for file, number in files if any(is_own(file, folder) for folder in OWN)]
    if not own:
        return ""
    file, number = own[-1]
    return f"{file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file}, line {number}"


def is_own(file: Path, folder: Path) -> bool:
    """Whether a file lies in a folder of a user's own, and is neither jaxcam's nor of an environment made there.

    Example:
        >>> is_own(Path("/home/me/nets.py"), Path("/home/me"))
        True
        >>> is_own(Path("/home/me/.venv/lib/python3.12/site-packages/jax/api.py"), Path("/home/me"))
        False
    """
    apart = not file.is_relative_to(PACKAGE) and file.is_relative_to(folder)
    return apart and "site-packages" not in file.relative_to(folder).parts


def one_line(message: object) -> str:
    """The first line that says something, without a final stop.

    Example:
        >>> one_line("\\ntoo large.\\nSee the manual.")
        'too large'
    """
    text = str(message.args[0]) if isinstance(message, KeyError) and message.args else str(message)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].removesuffix(".") if lines else ""


def operating_system(error: OSError | ImportError) -> str:
    """What failed and on which file; the number of an error helps nobody.

    Example:
        >>> operating_system(PermissionError(13, "Permission denied", "/root/runs"))
        '/root/runs: Permission denied'
    """
    if not isinstance(error, OSError) or not error.strerror or isinstance(error, DiskFull):
        return one_line(error) or type(error).__name__
    if error.filename is None:
        return error.strerror
    return f"{os.fspath(error.filename) if not isinstance(error.filename, int) else error.filename}: {error.strerror}"


def is_full(error: BaseException | None) -> bool:
    """Whether an exception, or what it came from, says that the disk (or the user's share of it) is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def without_network(error: BaseException) -> bool:
    """Whether something given was right and only could not be fetched."""
    return "no network" in str(error) or isinstance(error.__cause__, ConnectionError)

"""What commands say: results on standard output, notes on standard error."""

import re
import sys
import unicodedata
from collections.abc import Sequence

import click

NUMBER = re.compile(r"[-−\d.,%± ]*")


def bars(quiet: bool) -> bool:
    """Whether to draw progress bars: for a person at a terminal; in a log they are blank lines."""
    return not quiet and sys.stderr.isatty()


def note(text: str, *, quiet: bool = False) -> None:
    """A remark on the way, on standard error."""
    if not quiet:
        click.echo(text, err=True)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows in columns, numbers to the right, nothing cut off.

    Example:
        >>> print(table(["layer", "units"], [["conv0", 64], ["conv10", 8]]))
        layer   units
        conv0      64
        conv10      8
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    widths = [max(map(width_of, column)) for column in columns]
    to_right = [bool(rows) and all(NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            " " * (width - width_of(cell)) + cell if right else cell + " " * (width - width_of(cell))
            for cell, width, right in zip(row, widths, to_right, strict=True)
        ).rstrip()

    return "\n".join([line(header), *map(line, cells)])


def printable(text: str) -> str:
    """A text on one line: what no terminal and no picture can show (line ends, tabs, escapes) is an underscore.

    Example:
        >>> printable("a\\nb")
        'a_b'
    """
    return "".join(character if character.isprintable() else "_" for character in text)


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese, Japanese and Korean letters two, accents of their own none.

    Example:
        >>> width_of("cat"), width_of("\u732b")
        (3, 2)
    """
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )

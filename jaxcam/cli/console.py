"""What commands say: results on standard output, notes on standard error."""

import re
import sys
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
    cells = [[str(cell) for cell in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_right = [bool(rows) and all(NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_right, strict=True)
        ).rstrip()

    return "\n".join([line(header), *map(line, cells)])

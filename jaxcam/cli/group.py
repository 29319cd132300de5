"""The command group: its commands listed as a map of the tool, its errors one line each."""

import contextlib
import difflib
import io
import json
import math
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from jaxcam.cli.compilations import kept_compilations
from jaxcam.cli.errors import UNREAD, Interrupted, explain
from jaxcam.cli.manifest import plain
from jaxcam.interrupts import safe_point

JSON = "jaxcam.json"

SECTIONS = {
    "Start here": ("demo",),
    "A network": ("train", "layers"),
    "Why this answer?": ("explain", "compare"),
    "What its units learned": ("averages", "neurons", "prune"),
    "Questions about a network": (
        "redundancy",
        "distributions",
        "linear-piece",
        "leak-check",
        "clusters",
        "concepts",
        "maximize",
        "landscape",
    ),
    "For reading": ("report",),
}


class Command(click.Command):
    """A command that keeps what JAX compiles for the next time, and can say what it found as JSON."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=lambda ctx, _, value: ctx.meta.__setitem__(JSON, value),
                help="Say what was found as JSON, for scripts; nothing else goes to standard output.",
            )
        )

    def invoke(self, ctx: click.Context) -> Any:
        with kept_compilations():
            if not ctx.meta.get(JSON):
                return super().invoke(ctx)
            with contextlib.redirect_stdout(io.StringIO()):
                found = super().invoke(ctx)
        click.echo(json.dumps(numbers(plain(found)), ensure_ascii=False, allow_nan=False))
        return found


def numbers(value: Any) -> Any:
    """A value as JSON can hold it: null for what is no finite number.

    Example:
        >>> numbers({"a": [1.5, float("nan")]})
        {'a': [1.5, None]}
    """
    if isinstance(value, dict):
        return {name: numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [numbers(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Group(click.Group):
    """Commands under headings; every exception one line on standard error and a documented exit code."""

    command_class = Command

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Runs a command and exits, as click does, but explains in one line what went wrong."""
        options["standalone_mode"] = False
        try:
            result = super().main(*args, **options)
        except BaseException as error:
            safe_point()  # What a stop made fail is not what went wrong.
            if isinstance(error, SystemExit) and type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
                sys.exit(UNREAD)  # so click marks an output that nobody reads any more
            if os.environ.get("JAXCAM_DEBUG"):
                traceback.print_exception(error)
            line, code = explain(error)
            click.echo(f"jaxcam: {line}", err=True)
            sys.exit(code)
        sys.exit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted(str(error)) from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.commands, n=1)
            meant = f"did you mean {near[0]!r}? There are" if near else "there are"
            raise click.UsageError(f"no command {name!r}; {meant} {', '.join(self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in SECTIONS.values() for name in names if name in self.commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(100)) for name in names])

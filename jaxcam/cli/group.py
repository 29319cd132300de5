"""The command group: its commands listed as a map of the tool, its errors one line each."""

import difflib
import os
import sys
import traceback
from typing import Any, NoReturn

import click

from jaxcam.cli import environment
from jaxcam.cli.errors import Interrupted, explain

SECTIONS = {
    "Start here": ("demo",),
    "A network": ("train", "layers"),
    "Why this answer?": ("explain", "compare"),
    "What its units learned": ("averages", "neurons", "prune"),
    "Questions about a network": ("redundancy", "distributions"),
    "For reading": ("report",),
}


class Command(click.Command):
    """A command that keeps what JAX compiles for the next time."""

    def invoke(self, ctx: click.Context) -> Any:
        environment.keep_compilations()
        return super().invoke(ctx)


class Group(click.Group):
    """Commands under headings; every exception one line on standard error and a documented exit code."""

    command_class = Command

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Runs a command and exits, as click does, but explains in one line what went wrong."""
        options["standalone_mode"] = False
        try:
            result = super().main(*args, **options)
        except SystemExit:
            raise
        except BaseException as error:
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

"""The entry point, ready to be stopped before it imports what takes time."""

from typing import Any

from jaxcam.cli import watchdog


def main() -> None:
    """The entry point of the installed `jaxcam`, of `python cli.py` and of `python -m jaxcam.cli`."""
    watchdog.install()
    from jaxcam.cli import environment
    from jaxcam.cli.root import cli

    environment.show_warnings_in_one_line()
    try:
        cli.main(prog_name="jaxcam")
    except SystemExit as end:
        watchdog.finish(end.code if isinstance(end.code, int) else 0)
        raise


def __getattr__(name: str) -> Any:
    """`jaxcam.cli.main.cli`, the group of all commands, is imported when it is first asked for."""
    if name == "cli":
        from jaxcam.cli.root import cli

        return cli
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

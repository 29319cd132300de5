"""What a command sets up in its process: warnings of one line."""

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import click

PACKAGE = str(Path(__file__).parents[1])


def show_warnings_in_one_line() -> None:
    """Sends the package's own warnings to standard error, a line each, and drops what libraries have to say."""

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        is_ours = filename.startswith(PACKAGE) and not issubclass(category, DeprecationWarning | FutureWarning)
        if is_ours or os.environ.get("JAXCAM_DEBUG"):
            click.echo(f"jaxcam: warning: {' '.join(str(message).split())}", err=True)

    warnings.showwarning = show
    if not os.environ.get("JAXCAM_DEBUG"):
        # Zarr reads and writes in tasks; those that an interrupt leaves behind would be told of, with tracebacks.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)

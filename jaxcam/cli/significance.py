"""What commands say of a test by random draws before it begins, where no result of it can be significant."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import click

UNABLE = "No result can be significant"


@runtime_checkable
class Able(Protocol):
    """As much of a `jaxcam.studies.Resolution` as is needed here, where JAX is not yet imported."""

    @property
    def can_reject(self) -> bool: ...

    def summary(self, draws: str, option: str) -> str: ...


@contextlib.contextmanager
def announced(able: Able, draws: str, option: str) -> Iterator[None]:
    """Says in one line, before a test begins, that it cannot be significant, and with which option it could.

    Inside, the library does not warn of the same once more.

    Args:
        able: of the test.
        draws: what is drawn, in the plural.
        option: of the command line, with two dashes.
    """
    if not able.can_reject:
        # Not a note: --quiet does not silence it.
        click.echo(f"jaxcam: warning: {able.summary(draws, f'{option} ')}", err=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", UNABLE, RuntimeWarning)
        yield

"""Early ends of a command: one clear line, an exit code, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

FAILED: Final = 1
WRONG_USE: Final = 2
INTERRUPTED: Final = 130


class Stop(Exception):
    """The command cannot go on.

    Args:
        message: The rule, the value got and the way out, for one line.
        code: The exit code.
    """

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def one_line() -> Iterator[None]:
    """Turn Stop and Ctrl-C into one line on the standard error and an exit code."""
    try:
        yield
    except Stop as stop:
        typer.echo(" ".join(str(stop).split()), err=True)
        raise typer.Exit(stop.code) from None
    except KeyboardInterrupt:
        typer.echo("Stopped by Ctrl-C.", err=True)
        raise typer.Exit(INTERRUPTED) from None


def cause(error: BaseException) -> str:
    """An error of somebody else in one short line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

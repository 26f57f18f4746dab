"""The command line: `mixlayers demo` and `mixlayers audit`.

It sits on top of the library and uses it as anybody else would. Nothing imports it.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper

from mixlayers._core.install import extra

EXTRA = extra("demo")
"""What brings the packages of the command line."""


def main() -> None:
    """Run the command line; the entry point of the console command."""
    try:
        from mixlayers.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        sys.exit(f"The command line needs {error.name}, which is not installed: {EXTRA}")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show ± gets a question mark
    app()

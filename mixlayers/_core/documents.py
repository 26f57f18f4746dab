"""Docstrings whose arguments stand once, in the class that the frameworks' own derive from."""

from __future__ import annotations

import inspect


def add_arguments(kind: type, base: type) -> None:
    """End a class's docstring with what its base's says from "Args:" on."""
    own, shared = inspect.cleandoc(kind.__doc__ or ""), inspect.cleandoc(base.__doc__ or "")
    kind.__doc__ = f"{own}\n\n{shared[shared.index('Args:') :]}"

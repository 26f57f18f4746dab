"""The lane's packages have warnings of their own."""

import pytest

THEIRS = (
    r"ignore:`torch\.jit\..*` is deprecated",  # fastai and kornia, on import
    "ignore:The 'mode.chained_assignment' option",  # fastai, on import
)


def pytest_configure(config: pytest.Config) -> None:
    for line in THEIRS:
        config.addinivalue_line("filterwarnings", line)

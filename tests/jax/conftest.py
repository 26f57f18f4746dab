"""One fixture for JAX's libraries: `lib`."""

import pytest

from tests.jax.jax_libraries import LIBRARIES


@pytest.fixture(params=LIBRARIES, ids=lambda lib: lib.name)
def lib(request):
    return request.param

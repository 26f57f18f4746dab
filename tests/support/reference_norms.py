"""IEBN's and RBN's references, asked alike: `REFERENCES`."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tests.support import reference_iebn, reference_rbn


class Reference(NamedTuple):
    """What a norm computes, of x (N, C, ...) and vectors (C,).

    Attributes:
        names: The vectors, in the order in which they are given.
        output: `(x, *vectors, mean=, var=, eps=)`.
        gradients: `(upstream, x, vectors, **kept)` gives those of `(upstream * output).sum()`, of x and the vectors.
        normalised: `(x, vectors)` gives what the statistics are of.
        read: `(x, xhat)` gives whose means over space the attention is made of.
    """

    names: tuple[str, ...]
    output: Callable[..., Any]
    gradients: Callable[..., list[Any]]
    normalised: Callable[..., Any]
    read: Callable[..., Any]


def _of_iebn(upstream: Any, x: Any, vectors: list[Any], **kept: Any) -> list[Any]:
    found = reference_iebn.iebn_backward(upstream, x, *vectors, **kept)
    return [getattr(found, name) for name in ("x", *IEBN)]


def _of_rbn(upstream: Any, x: Any, vectors: list[Any], **kept: Any) -> list[Any]:
    return reference_rbn.slopes(partial(reference_rbn.rbn, **kept), upstream, x, vectors)


IEBN = reference_rbn.NAMES[:4]
REFERENCES = {
    "IEBN": Reference(IEBN, reference_iebn.iebn, _of_iebn, lambda x, _: x, lambda x, xhat: x),
    "RBN": Reference(
        reference_rbn.NAMES,
        reference_rbn.rbn,
        _of_rbn,
        lambda x, vectors: reference_rbn.recentred(x, vectors[-1]),
        lambda x, xhat: xhat,
    ),
}

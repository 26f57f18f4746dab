"""The hooks that a mixer leaves on a model.

Chainer's own link hooks cannot replace an output. A hooked link is therefore of a class made from its own: a
call runs its hooks, and everything else is inherited. Hooks live in the link's attributes, as instances of
module-level classes, so that a copied or pickled model carries its own mixer.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import chainer.links as L
from chainer import Chain, ChainList, Link, Sequential
from chainer.links.rnn.n_step_rnn import NStepRNNBase

from mixlayers._core.errors import refuse
from mixlayers._core.model.mixer import BaseMixer, check_signature, check_unwrapped

_HOOKS = "_mixlayers_hooks"
_MADE: dict[type, type] = {}
"""A link's class -> the same with hooks."""


class Keyed(BaseMixer[Link]):
    """A mixer that its links' copies can be told by, though each was copied with a mixer of its own.

    Attributes:
        key: The same for a mixer and its copies.
    """

    key: str


class Hook:
    """A link hook that runs around the link's call."""

    def before(self, link: Link, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments to call with."""
        return args, kwargs

    def after(self, link: Link, output: Any) -> Any:
        """The output to return."""
        return output

    def failed(self) -> None:
        """The call raised."""


class Around(Hook):
    """On the model: draw the plan, take the target, mix the input; afterwards hand out the target."""

    def __init__(self, mixer: Keyed) -> None:
        self.mixer, self._whole = mixer, True

    def __getstate__(self) -> dict[str, Any]:
        return {"mixer": self.mixer, "_whole": False}

    def before(self, link: Link, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if not self._whole:
            rejoin(link, self.mixer)
            self._whole = True
        return self.mixer._enter(link, args, kwargs)

    def after(self, link: Link, output: Any) -> Any:
        output = self.mixer._leave(((), ()), output)
        self.mixer._close()
        return output

    def failed(self) -> None:
        self.mixer._close()


class Place(Hook):
    """On a candidate layer: mix its output if the plan says so."""

    def __init__(self, mixer: Keyed, name: str) -> None:
        self.mixer, self.name, self.key = mixer, name, mixer.key

    def after(self, link: Link, output: Any) -> Any:
        current = self.mixer._current_plan_at(self.name)
        if current.mixed is None:
            return output
        if isinstance(link, NStepRNNBase):
            refuse(
                f"{self.name!r} returns sequences of several lengths and states with another batch axis",
                "mix before it, or after it in a link that returns (N, ...), such as the last layer's hy[-1]",
            )
        return self.mixer._mix_at(current, [(output, self.mixer.batch_dim)])[0]


class Hooked:
    """Made the first base of a link's class, so that each call runs the link's hooks."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        hooks: tuple[Hook, ...] = vars(self).get(_HOOKS, ())
        link: Any = self
        try:
            for hook in hooks:
                args, kwargs = hook.before(link, args, kwargs)
            output = super().__call__(*args, **kwargs)  # type: ignore[misc]  # of the link's own class
            for hook in hooks:
                output = hook.after(link, output)
        except BaseException:
            for hook in hooks:
                hook.failed()
            raise
        return output

    def copy(self, mode: str = "share") -> Any:
        """As Chainer copies links; a Chain then copies its children once more, whose hooks belong together."""
        made: Any = super().copy(mode)  # type: ignore[misc]  # of the link's own class
        given = hooks_of(self)
        if hooks_of(made) is not given and len(hooks_of(made)) == len(given):
            owns = hooks_of(made)
        else:  # a Sequential makes an empty one, a ChainList's copy is always shallow
            owns = given if mode == "share" else copy.deepcopy(given)
            vars(made)[_HOOKS] = owns
            made.__class__ = _hooked(_plain(type(made)))
        owners = [
            (old.mixer, new.mixer)
            for old, new in zip(given, owns, strict=True)
            if isinstance(old, Around) and isinstance(new, Around)
        ]
        for link, copied in _copies(self, made) if owners else ():
            for old, new in zip(hooks_of(link), hooks_of(copied), strict=True):
                for owner, own in owners:
                    if isinstance(old, Place) and isinstance(new, Place) and old.mixer is owner:
                        new.mixer = own
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As the link's own class would be copied or pickled; the copy is hooked again."""
        reduced: Any = super().__reduce_ex__(protocol)
        make, arguments, *rest = reduced
        plain = tuple(_plain(x) if isinstance(x, type) else x for x in arguments)
        return (_make_hooked, (make, plain), *rest)


def _copies(link: Link, made: Link) -> Iterator[tuple[Link, Link]]:
    """Each link below a link, with its copy; a Sequential that was changed is numbered anew in its copy."""
    yield link, made
    ordered = isinstance(link, Sequential)
    both = (
        [each for each in one if isinstance(each, Link)] if ordered else one.children()
        for one in (link, made)
    )
    for child, copied in zip(*both, strict=True):
        yield from _copies(child, copied)


def hook(link: Link, added: Hook) -> None:
    """Put a hook on a link."""
    vars(link)[_HOOKS] = (*hooks_of(link), added)
    if not isinstance(link, Hooked):
        link.__class__ = _hooked(type(link))


def unhook(link: Link, removed: Hook) -> None:
    """Take a hook off; with the last one the link gets its class back."""
    rest = tuple(kept for kept in hooks_of(link) if kept is not removed)
    if rest:
        vars(link)[_HOOKS] = rest
    else:
        vars(link).pop(_HOOKS, None)
        link.__class__ = _plain(type(link))


def hooks_of(link: Any) -> tuple[Hook, ...]:
    """The hooks on a link. Never changed in place: shallow copies of the link share it."""
    hooks: tuple[Hook, ...] = vars(link).get(_HOOKS, ())
    return hooks


def _hooked(kind: type) -> type:
    if kind not in _MADE:
        body = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
        _MADE[kind] = type(kind.__name__, (Hooked, kind), body)
    return _MADE[kind]


def _plain(kind: type) -> type:
    return kind.__bases__[1] if kind.__bases__[:1] == (Hooked,) else kind


def _make_hooked(make: Any, arguments: tuple[Any, ...]) -> Any:
    link = make(*arguments)
    link.__class__ = _hooked(type(link))
    return link


def rejoin(model: Link, mixer: Keyed) -> None:
    """Put a copied model's layers under its own mixer.

    ChainerMN's create_mnbn_model copies the children one by one, each with a mixer of its own, and replaces some.
    """
    known = set()
    for _, link in named_layers(model):
        for place in hooks_of(link):
            if isinstance(place, Place) and place.key == mixer.key:
                place.mixer = mixer
                known.add(place.name)
    for name, link in named_layers(model):
        if name in (mixer.places or ()) and name not in known:
            hook(link, Place(mixer, name))


def mixable(link: Link, output: Any) -> Any:
    """The output, unless it is an n-step RNN's: sequences of several lengths, and states with another axis first."""
    return () if isinstance(link, NStepRNNBase) else output


def named_layers(model: Link, prefix: str = "") -> Iterator[tuple[str, Link]]:
    """All links below the model, `stage1.conv`, in the order in which they were registered."""
    if isinstance(model, Chain):
        children = [(name, child) for name, child in vars(model).items() if name in model._children]
    else:
        children = [(str(index), child) for index, child in enumerate(model.children())]
    for name, child in children:
        yield prefix + name, child
        yield from named_layers(child, f"{prefix}{name}.")


def warn_of_position(model: Any, path: str) -> None:
    """Warn where a name in a Sequential, in which Chainer counts links alone, is not the position it looks like."""
    for name in path.split("."):
        if isinstance(model, Sequential) and name.isdecimal():
            children, own = list(model.children()), list(model)
            if int(name) >= len(children):
                return
            child = children[int(name)]
            if int(name) >= len(own) or own[int(name)] is not child:
                at = next(index for index, one in enumerate(own) if one is child)
                warnings.warn(
                    f"layers={path!r}: Chainer counts the links of a Sequential alone, and no functions: {name!r} is "
                    f"the {type(child).__name__} at position {at}. Name the link itself, layers=[model[{at}]], where "
                    "that is meant.",
                    stacklevel=3,
                )
        model = getattr(model, name, None) if not isinstance(model, ChainList) else _child(model, name)


def _child(model: Any, name: str) -> Any:
    children = list(model.children())
    return children[int(name)] if name.isdecimal() and int(name) < len(children) else None


def find_mixer(model: Link) -> Keyed | None:
    """The mixer whose hook is on this link itself, as its model."""
    return next((found.mixer for found in hooks_of(model) if isinstance(found, Around)), None)


def remove_hooks(model: Link, mixer: Keyed) -> None:
    """Take all hooks of the mixer off the model."""
    mixer._session.attached = False
    for link in model.links():
        for found in hooks_of(link):
            if isinstance(found, Around | Place) and found.mixer is mixer:
                unhook(link, found)


def check_wrappable(model: Link) -> None:
    """Raise unless hooks on this object will see the model's forwards, and no other mixer's are there."""
    if not isinstance(model, Link):
        raise TypeError(f"wrap takes a chainer.Link, got {type(model).__name__}.")
    if isinstance(model, L.Classifier):
        raise TypeError(
            f"wrap the network, not the {type(model).__name__} that returns its loss: wrap(model.predictor), or "
            "build mixlayers.chainer.Classifier(predictor, method)."
        )
    check_unwrapped(
        [("", find_mixer(model)), *((name, find_mixer(link)) for name, link in named_layers(model))]
    )
    check_signature(model, getattr(model, "forward", type(model).__call__))

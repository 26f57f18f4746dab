"""A model's norms turned into IEBN or RBN, and back, in the frameworks whose models change in place."""

from __future__ import annotations

import gc
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from mixlayers._core.audit.places import Layers
from mixlayers._core.iebn import check_sharing, norms_to_convert, norms_to_revert, report

Model = TypeVar("Model")
Also = Mapping[type[Any], Callable[[Any], Any]]
"""What makes the new layer from a norm of another class, by that class."""

Holder = Literal["optimizer", "parallel", "copy"]
"""What may hold a model: what trains its parameters, keeps them alike over processes, or has copies of it."""


class Family(NamedTuple):
    """A method's layers that stand in for BatchNorm.

    Attributes:
        name: Of the method.
        kind: Of all its layers; `starts` are the parameters that BatchNorm has not, and their first values.
        layers: By the class that each stands in for.
    """

    name: str
    kind: type[Any]
    layers: Mapping[type[Any], Any]


class Conversion(ABC):
    """What a framework tells of its models and norms, and the conversions that follow from it."""

    norm: ClassVar[str] = "BatchNorm"
    """The framework's norm, as the log names it."""

    weight: ClassVar[str] = "weight"
    """A norm's attribute that holds its weight."""

    hint: ClassVar[str] = ""
    """What else may be wrong where a model has no norm."""

    cure: ClassVar[str]
    """What to do with an optimizer that was made before the conversion: "convert first, ..."."""

    kind: ClassVar[type[Any]]
    """Of the layers of all families."""

    @abstractmethod
    def layers(self, model: Any) -> dict[str, Any]:
        """All layers by name, the model itself as ''."""

    @abstractmethod
    def parameters(self, model: Any) -> dict[str, Any]:
        """All parameters by name, each once."""

    @abstractmethod
    def is_norm(self, layer: Any) -> bool:
        """Whether a layer is a BatchNorm, or of a subclass, and none of ours."""

    @abstractmethod
    def bare(self, norm: Any) -> str | None:
        """Why a norm has no weight to preserve the output by, as the user wrote it; None: it has one."""

    @abstractmethod
    def make(self, norm: Any, layer: Any) -> Any:
        """A layer, of this class, with all that a norm has; frozen if that is."""

    @abstractmethod
    def unmake(self, layer: Any) -> Any:
        """The norm that a layer stands in for, with all that it has of it."""

    @abstractmethod
    def scale(self, layer: Any, power: int) -> None:
        """Multiply a layer's weight by sigmoid(bias_readjust) ** power, in place."""

    @abstractmethod
    def role(self, kind: type[Any]) -> Holder | None:
        """What objects of a class, of any that Python knows, are to models."""

    @abstractmethod
    def held(self, thing: Any, role: Holder) -> Iterable[Any]:
        """What an object in such a role holds: parameters, or copies of a model."""

    @abstractmethod
    def same(self, one: Any, other: Any) -> bool:
        """Whether two parameters, of more than one axis, which chance made, have the same numbers."""

    def type_of(self, norm: Any) -> type[Any]:
        """A norm's class, as it was written."""
        return type(norm)

    def stand_in(self, norm: Any, family: Family) -> Any:
        """The class that stands in for a norm's, or None."""
        return family.layers.get(self.type_of(norm))

    def refusal(self, norm: Any) -> str | None:
        """Why a norm cannot be converted; None: it can."""
        return None

    def place(self, model: Any, new: Mapping[int, Any]) -> Any:
        """The model with other layers, by the id of those whose place they take."""
        exchange(self.layers(model).values(), new)
        return new.get(id(model), model)

    def numbers(self, layer: Any) -> Any:
        """What holds the weight's numbers, one thing for all layers that share them."""
        return layer.weight

    def folds(self, layer: Any) -> bool:
        """Whether a layer has a weight, and an attention that is the same for all samples."""
        zeros = [name for name, start in layer.starts.items() if start == 0.0]
        return self.bare(layer) is None and not any(bool(getattr(layer, name).any()) for name in zeros)

    def size(self, parameter: Any) -> int:
        """How many numbers a parameter has."""
        return prod(parameter.shape)

    def convert(self, model: Model, family: Family, skip: Layers, preserve_output: bool, also: Also) -> Model:
        """`convert_iebn` and `convert_rbn`; warnings are of their caller."""

        def is_own(norm: Any) -> bool:
            return self.type_of(norm) in also

        chosen = norms_to_convert(
            model,
            self.layers(model),
            skip,
            is_norm=lambda layer: self.is_norm(layer) or is_own(layer),
            is_known=lambda norm: is_own(norm) or self.stand_in(norm, family) is not None,
            bare=lambda norm: self.bare(norm) if preserve_output and self.is_norm(norm) else None,
            weight=self.weight,
            hint=self.hint,
        )
        scaled: dict[int, Any] = {}

        def make(norm: Any) -> Any:
            own = also.get(self.type_of(norm))
            new = self.make(norm, self.stand_in(norm, family)) if own is None else own(norm)
            if preserve_output and isinstance(new, self.kind) and self.bare(new) is None:
                self._scale_once(new, -1, scaled)
            return new

        for name, norm in chosen.items():
            if not is_own(norm) and (why := self.refusal(norm)) is not None:
                raise ValueError(f"{name!r} cannot be {family.name}, skip it: {why}")
        if preserve_output:
            self._check_sharing(model, chosen, folding=False)
        return self._replace(model, chosen, make, family.name)

    def revert(self, model: Model, family: Family, preserve_output: bool) -> Model:
        """`revert_iebn` and `revert_rbn`."""
        layers, (name, kind, _) = self.layers(model), family
        chosen = norms_to_revert(model, layers, kind, name, preserve_output, self.folds, self.weight)
        if preserve_output:
            self._check_sharing(model, chosen, folding=True)
        scaled: dict[int, Any] = {}

        def unmake(layer: Any) -> Any:
            if preserve_output:
                self._scale_once(layer, 1, scaled)
            return self.unmake(layer)

        return self._replace(model, chosen, unmake, self.norm)

    def told_apart(self, model: Any) -> tuple[list[Any], list[Any]]:
        """The parameters that BatchNorm has too, or other layers, and those that IEBN and RBN add to it.

        Raises:
            ValueError: If the model holds no IEBN or RBN.
        """
        norms = [layer for layer in self.layers(model).values() if isinstance(layer, self.kind)]
        added = {id(own): own for norm in norms for own in (getattr(norm, name) for name in norm.starts)}
        if not added:
            raise ValueError(f"{type(model).__name__} holds no IEBN or RBN layer: convert_iebn(model) first.")
        others = [own for own in self.parameters(model).values() if id(own) not in added]
        return others, list(added.values())

    def _check_sharing(self, model: Any, chosen: Mapping[str, Any], *, folding: bool) -> None:
        norms = {
            name: layer
            for name, layer in self.layers(model).items()
            if (isinstance(layer, self.kind) or self.is_norm(layer)) and self.bare(layer) is None
        }
        check_sharing(norms, chosen.values(), self.numbers, folding)

    def _scale_once(self, layer: Any, power: int, scaled: dict[int, Any]) -> None:
        """`scale`, unless that was done to a layer with the same weight."""
        numbers = self.numbers(layer)
        if id(numbers) not in scaled:
            scaled[id(numbers)] = numbers
            self.scale(layer, power)

    def _replace(self, model: Model, chosen: Mapping[str, Any], make: Callable[[Any], Any], by: str) -> Model:
        before = self.parameters(model)
        new = {id(norm): make(norm) for norm in {id(norm): norm for norm in chosen.values()}.values()}
        result: Model = self.place(model, new)
        after = self.parameters(result)
        known, left = ({id(own) for own in each.values()} for each in (before, after))
        old = {name: own for name, own in after.items() if id(own) in known}
        added = [own for own in after.values() if id(own) not in known]
        gone = [own for own in before.values() if id(own) not in left]
        report(chosen, len(new), by, sum(map(self.size, added)) - sum(map(self.size, gone)))
        if added:
            self._warn_of_holders(result, known, old, len(added))
        return result

    def _warn_of_holders(self, model: Any, known: set[int], old: Mapping[str, Any], added: int) -> None:
        """Warn of all that knew a model before the conversion and does not know its new parameters.

        Args:
            model: After the conversion.
            known: The ids of its parameters before it.
            old: Those that are still there, by name.
            added: How many are new.
        """
        inside = {id(layer) for layer in self.layers(model).values()} - {id(model)}
        texts: Mapping[Holder, str] = {
            "optimizer": f"was made before the conversion and will not train the {added} new parameters: convert "
            f"first, {self.cure}.",
            "parallel": "was made before the conversion: it will not synchronise the gradients of the "
            f"{added} new parameters, so that processes drift apart. Convert first, then wrap the model in it.",
            "copy": "holds a copy of the model from before the conversion, whose norms are still BatchNorm: convert "
            "first, then make it.",
        }
        objects = gc.get_objects()  # millions, of some thousand classes
        roles = {kind: role for kind in set(map(type, objects)) if (role := self.role(kind)) is not None}
        for thing in objects:
            if type(thing) not in roles or id(thing) in inside:
                continue
            role = roles[type(thing)]
            held = self.held(thing, role)
            if role == "copy":
                knew = any(self._is_copy(each, old) for each in held if each is not model)
            else:
                knew = any(id(own) in known for own in held)
            if knew:
                warnings.warn(f"this {type(thing).__name__} {texts[role]}", stacklevel=5)

    def _is_copy(self, model: Any, own: Mapping[str, Any]) -> bool:
        """Whether parameters have these names, and one made by chance still has the same numbers."""
        theirs = self.parameters(model)
        return theirs.keys() == own.keys() and any(self.same(theirs[name], one) for name, one in own.items())


def exchange(parents: Iterable[Any], new: Mapping[int, Any]) -> None:
    """Put other layers into all that a model's layers hold, by the id of those whose place they take."""
    for parent in list(parents):
        held = vars(parent)  # its layers by name, and lists from which a network's own code may run them
        for name in list(held):
            held[name] = _exchanged(held[name], new)


def _exchanged(held: Any, new: Mapping[int, Any]) -> Any:
    """What an attribute holds, with other layers in it, by the id of those whose place they take; no deeper."""
    if type(held) is tuple:
        return tuple(new.get(id(each), each) for each in held)
    places: Any = (
        held.items() if isinstance(held, dict) else enumerate(held) if isinstance(held, list) else ()
    )
    for place, each in list(places):
        if id(each) in new:
            held[place] = new[id(each)]
    return new.get(id(held), held)

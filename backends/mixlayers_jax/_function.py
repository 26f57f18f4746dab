"""Models that are functions: their author names the places."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from mixlayers import Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.audit.report import Audit
from mixlayers._core.audit.verdicts import Layer
from mixlayers._core.plan.plan import INPUT
from mixlayers_jax._audit import Marks
from mixlayers_jax._mixer import BaseMixer, Library


class Function(Library):
    """A function of samples that calls `blend(h, plan, "layer1")` where it may be mixed, and takes `plan=`."""

    def __init__(self) -> None:
        self.places: Mapping[str, Layer] = {}

    def modules(self, model: Any) -> Mapping[str, Layer]:
        return {name: place for name, place in self.places.items() if name != INPUT}

    def described(self, model: Any, names: Collection[str]) -> Mapping[str, Layer]:
        self.places = {name: Layer("place", weighted=True, leaf=False) for name in names}
        return self.places

    def marked(self, model: Any, marks: Marks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return model(*args, **kwargs, plan=marks)


class Mixer(BaseMixer):
    """Plans the mixing of a model that is a function, in which `h = blend(h, plan, "layer1")` names each place.

    `plan = mixer.plan(len(y))` outside of jit; inside, the function is called with it, and
    `target = mixer.target(y, plan)` are the labels.

    Args:
        model: Takes the samples, and `plan=`; its parameters are bound, `lambda x, plan: net(parameters, x, plan)`.
        layers: Where a hidden method may mix, by the names given to `blend`; "auto": at all of them.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        example: Any,
        **options: Any,
    ) -> None:
        super().__init__(Function(), model, method, layers, example=example, **options)

    def _where(self, layers: Layers) -> Layers:
        if not self.method.hidden or not isinstance(layers, str) or layers != "auto":
            return layers
        named = [point.name for point in self.audit]
        if not named:
            raise ValueError(
                'the function names no place: call h = blend(h, plan, "layer1") where it may be mixed.'
            )
        return named


def audit(model: Callable[..., Any], example: Any) -> Audit:
    """Tell which places of a model that is a function are true mixing points.

    Args:
        model, example: As of `Mixer`. The model is traced, and not run.
    """
    return Function().audit(model, example).report

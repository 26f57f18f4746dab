"""A mixer's places are proved before it mixes there, and again now and then: who says what of them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixlayers._core.audit.experiment import Experiment
from mixlayers._core.audit.proof import Proof
from mixlayers._core.audit.report import NO_AXIS, PARTIAL, UNREACHED
from mixlayers._core.audit.stage import Few, ModelRaised, NotNow, Unaudited
from mixlayers._core.audit.trial import Trial, ways_round
from mixlayers._core.errors import MixingError
from mixlayers._core.model.astray import guarded
from mixlayers._core.model.forms import Forms
from mixlayers._core.model.passes import Pass
from mixlayers._core.plan.plan import INPUT

if TYPE_CHECKING:
    from mixlayers._core.model.layer_hooks import LayerHooks

Trust = bool | str | Sequence[str]
"""What `trust=` takes: whether all named places are taken as they are, or which."""


class Judge:
    """Chooses or checks one mixer's places.

    Args:
        hooks: The mixer.
        rule: "auto" or "stages", where the places are to be chosen.
        trust: Which of the named places are not asked about.
    """

    def __init__(self, hooks: LayerHooks[Any], rule: str, trust: Trust) -> None:
        self.hooks, self.rule = hooks, rule
        self.trust = [trust] if isinstance(trust, str) else trust
        self.settled = False
        self._forms = Forms(hooks._framework, hooks._padding, hooks._names)
        self._proved: tuple[str, ...] = ()
        self._astray: dict[str, tuple[str, ...]] = {}
        self._forwards = 0
        self._owed = ""

    def places(
        self, model: Any, places: tuple[str, ...] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, ...]:
        """The places to mix at, chosen, or checked if they were named; once.

        Raises:
            ValueError: If there are none; if a named one is refuted.
        """
        self._owed = ""
        self._forms.are_new(args, kwargs)
        try:
            if places is None:
                chosen = self._choose(self._trial(model, args, kwargs))
                self.settled = True
                return chosen
            asked = self._there(model, [place for place in places if not self._trusts(place)])
            if asked and self.hooks.method.mixes_labels:  # elsewhere labels follow nothing
                self._check(model, asked, args, kwargs)
        except NotNow as error:
            if places is None:
                raise ValueError(f"layers={self.rule!r}: {error}") from error
        except Unaudited as error:
            if places is None:
                raise ValueError(f"layers={self.rule!r}: {error}") from error
            self._owe(places, f"could not be checked. {error}")
        else:
            self.settled = True
        return places

    def speak(self) -> None:
        """After a mixed forward that went well: warn of what the audit met, once. Else its own error says more."""
        owed, self._owed = self._owed, ""
        if owed:
            self.settled = True
            warnings.warn(owed, stacklevel=2)

    def _owe(self, places: Sequence[str], what: str) -> None:
        """Have something said after this forward, if it goes well."""
        self._owed = f"{', '.join(map(repr, places))} {what} To have nothing said: trust=True."

    def guard(self, mixed: Pass, output: Any) -> Any:
        """A mixed forward's outputs, those watched that the mixed place does not reach."""
        place = None if mixed.plan is None else mixed.plan.place
        names = self._astray.get(place or "", ())
        hooks = self.hooks
        return (
            guarded(hooks._framework, hooks._autograd, output, mixed, names)
            if names and mixed.mixes
            else output
        )

    def again(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the mixed forwards 2, 4, 8, ..., and calls of a new form: prove the places with this batch too.

        What the model raises in these forwards alone ends no training: it is told after the step.

        Raises:
            MixingError: If one is refuted that another batch did not.
        """
        self._forwards += 1
        if not self._proved:
            return
        # where processes run the model together, all must prove in the same forward, whatever their batches are
        new = self.hooks._alone() and self._forms.are_new(args, kwargs)
        if not new and (self._forwards < 2 or self._forwards & (self._forwards - 1)):
            return
        self._proved = self._there(model, self._proved)
        try:
            experiment = self._experiment(model, args, kwargs)
            if self._proved == (INPUT,) and not experiment.joins_more(self.hooks.keep):
                return
            trial = self._swapping(experiment)
        except NotNow:
            return
        except Unaudited as error:
            self._owe(self._proved, f"could not be proved again in mixed forward {self._forwards}. {error}")
            self._proved = ()  # said once
            return
        for place, proof in trial.prove(self._proved).items():
            if proof.verdict == "no":
                raise MixingError(self._refuted(place, trial.explain(place), again=True))
            if proof.raised:
                told = ModelRaised(proof.reason, experiment.few, self.hooks._framework)
                self._owe([place], f"could not be proved again in mixed forward {self._forwards}. {told}")

    def _there(self, model: Any, places: Sequence[str]) -> tuple[str, ...]:
        """Those places whose names the model has; what else it had when it was wrapped is told after this forward."""
        names = {INPUT, *self.hooks._named_layers(model)}
        gone = [place for place in places if place not in names]
        if gone:
            self._owe(
                gone, "cannot be proved: no layer has that name any more. unwrap(model), then wrap it anew."
            )
        return tuple(place for place in places if place in names)

    def _choose(self, trial: Trial) -> tuple[str, ...]:
        try:
            chosen = trial.choose(self.rule, partners=self.hooks.method.mixes_labels)
        except ValueError as error:
            raise ValueError(f"layers={self.rule!r}: {error}") from error
        self._proved = chosen if self.hooks.method.mixes_labels else ()
        self._look_beside(trial, self._proved)
        for place in self._proved:
            self._tell(place, trial.proofs.get(place))
        return chosen

    def _check(
        self, model: Any, places: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if tuple(places) == (INPUT,):
            experiment = self._experiment(model, args, kwargs)
            if not experiment.joins_more(self.hooks.keep):
                self._proved = tuple(places)
                return
            trial = self._swapping(experiment)
        else:
            trial = self._trial(model, args, kwargs)
        self._look_beside(trial, places)
        provable = []
        for place in places:
            reason = trial.reason(place)
            if reason == PARTIAL:
                raise ValueError(self._refuted(place, Proof("no", reason)))
            # it would be mixed wherever a batch is as large as its first axis is long
            if reason.startswith(NO_AXIS):
                raise ValueError(
                    f"layer {place!r} cannot be mixed ({reason}): choose another layer, audit(model, example) lists "
                    "the true ones; or say which axis is the samples', batch_dim=, if it is one wherever you mix."
                )
            if reason and reason != UNREACHED:  # it cannot be mixed as it is: each step says so
                warnings.warn(f"layer {place!r} is not a true mixing point ({reason}).", stacklevel=2)
            elif place != INPUT or trial.experiment.joins_more(self.hooks.keep):
                provable.append(place)
        for place, proof in trial.prove(provable).items():
            if proof.verdict == "no":
                raise ValueError(self._refuted(place, trial.explain(place)))
            self._tell(place, proof)
        self._proved = tuple(place for place, proof in trial.proofs.items() if proof.verdict == "yes")

    def _look_beside(self, trial: Trial, places: Sequence[str]) -> None:
        reach = None if trial.graph is None else trial.graph.reach
        if reach is not None:
            found = {place: reach.astray(place) for place in places if place != INPUT}
            self._astray = {place: names for place, names in found.items() if names}

    def _tell(self, place: str, proof: Proof | None) -> None:
        if proof is not None and proof.verdict == "undecided" and not proof.blind:
            warnings.warn(
                f"whether {place!r} is a true mixing point could not be told ({proof.reason}): if part of a sample "
                "goes round it, labels claim more than is mixed. audit(model, example) lists others; trust=True takes "
                "the named layers as they are.",
                stacklevel=2,
            )

    def _trusts(self, place: str) -> bool:
        return self.trust if isinstance(self.trust, bool) else place in self.trust

    def _refuted(self, place: str, proof: Proof, *, again: bool = False) -> str:
        when = " in this batch, though not in one before" if again else ""
        masks = _masks_among(proof.culprits, self.hooks._padding.meanings)
        return refuted(place, proof.reason + ways_round(proof), when, masks)

    def _trial(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trial:
        try:
            trial = self.hooks._audit(model, args, kwargs)
            self._inform(trial.experiment)
        except ValueError:
            raise
        except Exception as error:  # something in the call that samples cannot be taken from
            raise Unaudited(f"The audit met {type(error).__name__}: {error}.") from error
        return trial

    def _experiment(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Experiment:
        hooks = self.hooks
        stage = hooks._stage(model)
        try:
            few = Few.of(stage, args, dict(kwargs), hooks.batch_dim)
            return self._inform(Experiment(stage, few, hooks._padding.masked))
        except Exception as error:  # the same
            raise Unaudited(f"The audit met {type(error).__name__}: {error}.") from error

    def _inform(self, experiment: Experiment) -> Experiment:
        """Tell an experiment what earlier batches told, and who else runs the model."""
        experiment.rows, experiment.alone = self.hooks._rows, self.hooks._alone()
        return experiment

    def _swapping(self, experiment: Experiment) -> Trial:
        """A trial by swapping alone."""
        clean, raised = [], None
        try:
            clean = experiment({})
        except Exception as error:  # the model's own code runs here
            raised = error
        worst = self.hooks._worst(experiment.stage)
        if raised is not None:
            worst(1.0)  # to processes where nothing raised, as if the outputs told nothing
            raise ModelRaised(raised, experiment.few, self.hooks._framework) from raised
        return Trial(None, "", experiment, clean, lambda: False, worst)


def refuted(place: str, reason: str, when: str = "", masks: str = "") -> str:
    """The error text for a place that is no true mixing point.

    Args:
        place: "input", or the layer's name.
        reason: Why it is none.
        when: In which batch.
        masks: What to do about padding masks.
    """
    what = "the input" if place == INPUT else f"layer {place!r}"
    return (
        f"{what} is not a true mixing point{when} ({reason}): mixing there reaches only part of the features, while "
        f"the labels claim all. Choose another layer, audit(model, example) lists the true ones;{masks} or take it as "
        f"it is by trust=True, or trust={[place]!r}."
    )


def _masks_among(culprits: Sequence[str], named: Collection[str]) -> str:
    """What to do about an argument that may be a padding mask, and was not named as one."""
    likely = [name for name in culprits if ("mask" in name or "length" in name) and name not in named]
    if not likely:
        return ""
    own = next((name for name in likely if name.isidentifier()), None)
    return (
        f" name the padding mask, mask={own!r};"
        if own
        else f" pass the padding mask {likely[0]} by name, and name it as mask=;"
    )

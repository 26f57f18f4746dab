"""Mixing in skorch: `NeuralNetClassifier(..., callbacks=[("mixing", Mixing())])`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from mixlayers import ManifoldMixup, Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.errors import refuse
from mixlayers._core.model.criterion import MixedLoss
from mixlayers._core.model.judge import Trust
from mixlayers.torch import Mixer, unwrap
from mixlayers.trainers._closures import Closures
from mixlayers.trainers._watch import Watch


class Mixing(Callback):  # type: ignore[misc]  # skorch has no types
    """Mixes the module in training batches, and blends the criterion to match; never in validation or predict.

    Its arguments are parameters as scikit-learn knows them, so `GridSearchCV` can search over
    `callbacks__mixing__alpha`, `callbacks__mixing__method` or `callbacks__mixing__layers`.

    The history gets `mixing_lam` per training batch, the original sample's share in the label; per epoch
    `mixed_<layer>`, how many batches were mixed there (`mixed_clean`: nowhere), and `mixing_batch_count`, the
    number of the next plan. From the latter a training that goes on (`partial_fit`, `warm_start`, or skorch's
    `Checkpoint` and `LoadInitState`, which save and load the history) draws the plans of an uninterrupted one.

    Args:
        method: What to do in each batch, by default ManifoldMixup(alpha=2).
        alpha: Used in place of the method's own alpha, where it is given.
        layers: Where a hidden method may mix, by the names in the module; as for `Mixer`.
        seed, batch_dim, channel_dim, trust: As for `Mixer`.
    """

    def __init__(
        self,
        method: Method | None = None,
        alpha: float | None = None,
        layers: Layers = "auto",
        seed: int = 0,
        batch_dim: int = 0,
        channel_dim: int = 1,
        trust: Trust = False,
    ) -> None:
        self.method = method
        self.alpha = alpha
        self.layers = layers
        self.seed = seed
        self.batch_dim = batch_dim
        self.channel_dim = channel_dim
        self.trust = trust

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Attach to the module and the criterion."""
        self._detach(net)  # what an error left behind
        self.wrapped_, self.plain_ = net.module_, net.criterion_
        self.mixer_ = Mixer(
            net.module_,
            self._method(),
            self.layers,
            seed=self.seed,
            batch_dim=self.batch_dim,
            channel_dim=self.channel_dim,
            trust=self.trust,
        )
        self.watch_ = Watch(
            self.mixer_, "module_, in the net's infer", "wrap the module that infer calls by hand"
        )
        self.closures_ = Closures(self.mixer_)
        net.criterion_ = self.mixer_.loss(net.criterion_)
        if isinstance(net.criterion_, nn.Module):
            self.reduced_ = net.criterion_.register_forward_hook(partial(_check_reduced, self.mixer_))
        vars(net)["fit_loop"] = partial(self._fit_loop, net)

    def _fit_loop(self, net: NeuralNet, *args: Any, **kwargs: Any) -> Any:
        """The net's own fit_loop; of all that a callback sees, it alone ends when something raises."""
        vars(net).pop("fit_loop", None)
        try:
            return net.fit_loop(*args, **kwargs)
        except BaseException:
            self._detach(net)
            raise

    def on_batch_begin(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Have all the optimizer's calls of the batch's closure mix alike."""
        if training:
            self.closures_.begin()

    def on_grad_computed(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """The closure has run once."""
        if training:
            self.closures_.again()

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Go on from the history's last epoch."""
        if len(net.history) > 1 and "mixing_batch_count" in net.history[-2]:
            self.mixer_.load_state_dict({"step": net.history[-2]["mixing_batch_count"]})

    def on_batch_end(self, net: NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Record the step's lam; raise if training goes on without mixing."""
        if not training:
            return
        self.closures_.end()
        if self.watch_.after_batch():
            net.history.record_batch("mixing_lam", self.watch_.lam)
            net.history.record("mixing_batch_count", self.mixer_.step)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Record the epoch's batches by layer."""
        for layer, count in self.watch_.counts().items():
            net.history.record(f"mixed_{layer}", count)
        self.watch_.new_epoch()

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Leave module and criterion as they were."""
        self._detach(net)

    def _method(self) -> Method:
        method = ManifoldMixup() if self.method is None else self.method
        if self.alpha is None:
            return method
        if not hasattr(method, "alpha"):
            raise ValueError(
                f"alpha={self.alpha} was given, but {method!r} has none: search over method instead."
            )
        changed: Method = replace(method, alpha=self.alpha)  # type: ignore[type-var]  # a dataclass
        return changed

    def _detach(self, net: NeuralNet) -> None:
        vars(net).pop("fit_loop", None)
        if not hasattr(self, "mixer_"):
            return
        unwrap(self.wrapped_)
        if isinstance(net.criterion_, MixedLoss):  # else there is a new one
            net.criterion_ = self.plain_
        if hasattr(self, "reduced_"):
            self.reduced_.remove()
            del self.reduced_
        del self.mixer_, self.wrapped_, self.plain_, self.watch_, self.closures_


def _check_reduced(mixer: Mixer, criterion: nn.Module, args: tuple[Any, ...], loss: Any) -> None:
    """Raise if a weight of one sample may yet be given to another's label."""
    if not isinstance(loss, Tensor) or not loss.ndim:
        return
    mixed = mixer.target_for(args[1], args[0])
    if mixed.mixed and not getattr(mixed.s, "ndim", 0):
        refuse(
            "the criterion returned a loss for each sample of a mixed batch; a weight that get_loss multiplies it "
            "with would count for the partner's label too, whose sample has another one",
            "reduce it in the criterion; sample weights belong there, beside the labels: y = (label, weight), (N, 2)",
        )

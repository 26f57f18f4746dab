"""Mixing in Lightning: `Trainer(callbacks=[Mixing(ManifoldMixup())])`. The LightningModule stays as it is."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import partial, update_wrapper
from typing import Any

from torch import nn

from mixlayers import History, Method
from mixlayers._core.audit.places import Layers
from mixlayers._core.model.judge import Trust
from mixlayers.torch import Mixer, unwrap
from mixlayers.trainers._called import Called
from mixlayers.trainers._closures import Closures
from mixlayers.trainers._losses import LabelLosses
from mixlayers.trainers._watch import Watch

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    from pytorch_lightning import Callback, LightningModule, Trainer  # type: ignore[assignment]  # the same, by name

OWN = "self"


class Mixing(Callback):
    """Mixes in `trainer.fit`, and only there; afterwards the module is as it was.

    The net's training forwards are mixed and its losses blended to match. Logged are `mixing/lam`, the share of
    the original sample in each step's label, and `mixing/steps/<layer>`, how many of an epoch's forwards were
    mixed there (`mixing/steps/clean`: not at all), over all processes. The step number is part of each
    checkpoint, so that `trainer.fit(ckpt_path=...)` goes on with the plans of the uninterrupted run.

    Works in trainers of `lightning.pytorch` and of `pytorch_lightning`.

    Args:
        method: What to do in each step, by default ManifoldMixup(alpha=2).
        layers: Where a hidden method may mix, by the names inside the net; as for `Mixer`.
        net: Name of the module that training_step calls; "self": the LightningModule's own forward. By default
            the one child with parameters, or else the LightningModule's own forward, if it has one.
        loss: Name of the attribute that computes the loss from `(output, target)`, a module or a function; or
            several names. By default cross-entropies of the net's output, modules or functions, are recognised
            where training_step calls them (see `LabelLosses`).
        seed, batch_dim, channel_dim, trust: As for `Mixer`.

    Attributes:
        mixer: The mixer, while a fit runs.
    """

    def __init__(
        self,
        method: Method | None = None,
        layers: Layers = "auto",
        *,
        net: str | None = None,
        loss: str | tuple[str, ...] | None = None,
        seed: int = 0,
        batch_dim: int = 0,
        channel_dim: int = 1,
        trust: Trust = False,
    ) -> None:
        self.net, self.loss = net, (loss,) if isinstance(loss, str) else tuple(loss or ())
        self._make = partial(
            Mixer,
            method=method,
            layers=layers,
            seed=seed,
            batch_dim=batch_dim,
            channel_dim=channel_dim,
            trust=trust,
        )
        self.mixer: Mixer | None = None
        self.history: History | None = None  # of the running or the last fit
        self._batch: int | None = None  # the number of the last one
        self._state: dict[str, Any] = {"step": 0, "layers": {}}
        self._undo: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Come before the finders of learning rate and batch size, whose searches are their on_fit_start."""
        whole: Any = trainer  # Lightning's types leave its callbacks out
        order = whole.callbacks
        at = next((i for i, callback in enumerate(order) if _is_finder(callback)), len(order))
        if self in order[at:]:
            others = [callback for callback in order if callback is not self]
            whole.callbacks = [*others[:at], self, *others[at:]]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach: after checkpoints, strategies and averaging callbacks have looked at the module."""
        losses = self._loss_names(pl_module)
        name = self._net_name(pl_module, losses)
        net = Called(pl_module) if name == OWN else pl_module.get_submodule(name)
        self.mixer = mixer = self._make(net)
        self.history = mixer.history
        self._undo.append(partial(unwrap, net))
        called = "self(x)" if name == OWN else f"self.{name}(x)"
        self._watch = Watch(mixer, f"{called} in training_step", "net=... names the module that it calls")
        self._resume(mixer)
        if name == OWN:
            self._put(pl_module, "forward", update_wrapper(partial(net), pl_module.forward))
        for loss in losses:
            owner, _, last = loss.rpartition(".")
            owning = pl_module.get_submodule(owner)
            self._put(owning, last, mixer.loss(getattr(owning, last)))
        step = pl_module.training_step
        run = partial(self._step, trainer, Closures(mixer), step)
        if not losses:
            functional = LabelLosses(net, mixer)
            self._undo.append(functional.handle.remove)
            run = partial(functional.run, run)
        self._put(pl_module, "training_step", update_wrapper(run, step))
        # a finder that fails has put other callbacks into our place, which are told of the exception
        on_exception = trainer.strategy.on_exception
        self._put(trainer.strategy, "on_exception", partial(self._on_exception, on_exception))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *step: Any) -> None:
        """Log the step's lam; raise if training goes on without mixing."""
        # a call of log takes a millisecond and more, also where nothing is written
        if self._watch.after_batch() and trainer._logger_connector.should_update_logs:
            pl_module.log("mixing/lam", self._watch.lam, on_step=True, on_epoch=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's steps by layer."""
        counts = {f"mixing/steps/{layer}": float(count) for layer, count in self._watch.counts().items()}
        pl_module.log_dict(counts, reduce_fx="sum", sync_dist=True)
        self._watch.new_epoch()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the module as it was."""
        self._detach()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it was."""
        self._detach()

    def _on_exception(self, inner: Callable[..., None], exception: BaseException) -> None:
        self._detach()
        inner(exception)

    def state_dict(self) -> dict[str, Any]:
        """The number of the next plan, and the running epoch's steps by layer."""
        if self.mixer is None:
            return self._state
        return {**self.mixer.state_dict(), "layers": self._watch.counts()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._state = state_dict
        if self.mixer is not None:
            self._resume(self.mixer)

    def _step(
        self, trainer: Trainer, closures: Closures, step: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run a training step; once more on the same batch, if the optimizer asks for it."""
        batch = trainer.fit_loop.total_batch_idx
        if batch == self._batch:
            closures.again()
        else:
            closures.begin()
        self._batch = batch
        return step(*args, **kwargs)

    def _resume(self, mixer: Mixer) -> None:
        self._batch = None
        mixer.load_state_dict({"step": self._state["step"]})
        self._watch.resume(self._state["layers"])

    def _detach(self) -> None:
        self._state, self.mixer = self.state_dict(), None
        while self._undo:
            self._undo.pop()()

    def _put(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, to be undone."""
        children = getattr(owner, "_modules", {})
        own: MutableMapping[str, Any] = children if name in children else vars(owner)
        self._undo.append(partial(_put_back, own, name, own.get(name, _ABSENT)))
        own[name] = value

    def _loss_names(self, module: LightningModule) -> tuple[str, ...]:
        """The attributes to replace."""
        for name in self.loss:
            owner, _, last = name.rpartition(".")
            if not callable(getattr(module.get_submodule(owner), last, None)):
                raise ValueError(
                    f"loss={name!r} names no loss of {type(module).__name__}: name a module or function that "
                    "training_step calls as self.<name>(output, target)."
                )
        return self.loss

    def _net_name(self, module: LightningModule, losses: tuple[str, ...]) -> str:
        """The module to mix; `OWN` for the LightningModule's own forward."""
        children = [
            name
            for name, child in module.named_children()
            if name not in losses and any(True for _ in child.parameters())
        ]
        forward = type(module).forward.__qualname__ != "LightningModule.forward"  # of either package
        if self.net is not None:
            if (self.net == OWN and forward) or (self.net and self.net in dict(module.named_modules())):
                return self.net
            problem = f"net={self.net!r} names no module of {type(module).__name__}"
        elif len(children) == 1:
            return children[0]
        elif forward:
            return OWN
        else:
            problem = f"{type(module).__name__} has {len(children)} children with parameters and no forward"
        raise ValueError(
            f"{problem}: net=... names the module that training_step calls; its children are "
            f"{', '.join(children) or 'none'}" + (f", and {OWN!r} is its own forward." if forward else ".")
        )


def _is_finder(callback: Callback) -> bool:
    """Whether it is one of Lightning's tuners, of either package."""
    return bool(
        {"LearningRateFinder", "BatchSizeFinder"} & {kind.__name__ for kind in type(callback).__mro__}
    )


_ABSENT = object()


def _put_back(own: MutableMapping[str, Any], name: str, old: Any) -> None:
    if isinstance(old, nn.Module):
        old.training = own[name].training
    if old is _ABSENT:
        own.pop(name)
    else:
        own[name] = old

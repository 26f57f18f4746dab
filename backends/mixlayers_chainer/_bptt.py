"""Truncated backpropagation through time: one plan a window."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from chainer import Variable
from chainer.training.updaters import StandardUpdater

from mixlayers._core.checks import check_integer
from mixlayers_chainer._hooks import find_mixer


class BPTTUpdater(StandardUpdater):
    """Calls the model on a window of batches, one after the other, then goes back through all of them.

        updater = BPTTUpdater(iterator, optimizer, length=35)    # optimizer.target: Classifier(net), or any wrapped net

    A recurrent link that keeps its state from call to call needs one plan for the whole window: with a plan for each
    call a sample's state would hold other partners than its labels. So the mixers of the optimizer's target draw one
    plan a window, by `same_plan`. The losses are added up; after the backward pass the graph is cut, and the state
    stays.

    Args:
        iterator: Gives the batches of a window in order, all of one size.
        optimizer: Its target, or `loss_func`, returns a batch's loss.
        length: Batches in a window, >= 1.
        options: `converter`, `device`, `loss_func` and so on, as of StandardUpdater.

    Raises:
        ValueError: If no mixer is on the target or a link of it.
    """

    def __init__(self, iterator: Any, optimizer: Any, length: int, **options: Any) -> None:
        super().__init__(iterator, optimizer, **options)
        self.length = check_integer("length", length, 1, 2**31 - 1)
        target = self.get_optimizer("main").target
        self._mixers = [mixer for link in target.links() if (mixer := find_mixer(link)) is not None]
        if not self._mixers:
            raise ValueError(
                f"BPTTUpdater keeps one plan for a window, and no mixer is on this {type(target).__name__} or its "
                "links: wrap(net) first, or use mixlayers.chainer.Classifier(net)."
            )

    def update_core(self) -> None:
        """Train on one window; the trainer calls it."""
        optimizer = self.get_optimizer("main")
        with ExitStack() as window:
            for mixer in self._mixers:
                window.enter_context(mixer.same_plan())
            loss = sum(self._loss(self.get_iterator("main").next()) for _ in range(self.length))
        optimizer.target.cleargrads()
        loss.backward(loss_scale=self.loss_scale)
        loss.unchain_backward()
        optimizer.update()
        if self.auto_new_epoch and self.get_iterator("main").is_new_epoch:
            optimizer.new_epoch(auto=True)

    def _loss(self, batch: Any) -> Variable:
        given = self.converter(batch, self.input_device)
        function = self.loss_func or self.get_optimizer("main").target
        if isinstance(given, tuple):
            return function(*given)
        return function(**given) if isinstance(given, dict) else function(given)

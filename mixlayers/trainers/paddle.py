"""A callback for `paddle.Model.fit`: what each step mixed, for VisualDL, and the mixer's step in the checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from mixlayers.paddle import Mixer


class Mixing(paddle.callbacks.Callback):
    """Logs lam and the layer of each training step, and saves the mixer's step beside the model's own checkpoints.

        mixer = Mixer(network, ManifoldMixup())
        model.prepare(optimizer, mixer.loss(paddle.nn.CrossEntropyLoss()), paddle.metric.Accuracy())
        model.fit(data, save_dir="out", callbacks=[Mixing(mixer, save_dir="out", log=writer.add_scalar)])

    Args:
        mixer: The network's.
        save_dir: As of `fit`: `{save_dir}/{epoch}.pdmixer` and `{save_dir}/final.pdmixer` are written with its
            `.pdparams`; None: nothing is. `load` reads one.
        save_freq: As of `fit`: after how many epochs.
        log: Takes (tag, value, step), as the `add_scalar` of `visualdl.LogWriter(...)` does; tags are "train/lam" (the
            label's share of the original sample) and "train/layer" (the place's index in `mixer.places`; -1: clean).
    """

    def __init__(
        self,
        mixer: Mixer,
        save_dir: str | Path | None = None,
        save_freq: int = 1,
        log: Callable[[str, float, int], Any] | None = None,
    ) -> None:
        super().__init__()
        self.mixer, self.save_freq, self.log = mixer, save_freq, log
        self.save_dir = None if save_dir is None else Path(save_dir)
        self._seen = 0

    def on_train_batch_end(self, step: int, logs: Any = None) -> None:
        """Log what the step mixed."""
        plan = self.mixer.last
        if self.log is not None:
            places = self.mixer.places or ()
            clean = plan is None or plan.place is None
            lam = 1.0 if plan is None or clean else float(np.mean(plan.lam))
            self.log("train/lam", lam, self._seen)
            self.log(
                "train/layer", -1 if plan is None or clean else places.index(str(plan.place)), self._seen
            )
        self._seen += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save the step where `fit` saves the model."""
        if epoch % self.save_freq == 0:
            self._save(str(epoch))

    def on_train_end(self, logs: Any = None) -> None:
        """Save the last step."""
        self._save("final")

    def load(self, path: str | Path) -> None:
        """Continue from a checkpoint, "out/3" or "out/final": call it beside `model.load(path)`."""
        self.mixer.load_state_dict(paddle.load(f"{path}.pdmixer"))

    def _save(self, name: str) -> None:
        if self.save_dir is not None and paddle.distributed.get_rank() == 0:
            self.save_dir.mkdir(parents=True, exist_ok=True)
            paddle.save(self.mixer.state_dict(), str(self.save_dir / f"{name}.pdmixer"))

"""A callback that logs what was mixed, and keeps the mixer's step for a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from mixlayers_keras._mixer import get_mixer


class Mixing(keras.callbacks.Callback):
    """Logs each epoch's mixing, and resumes the mixer where the model is resumed.

    Each epoch's logs get "lam" and "share", the means over its mixed steps of lam and of the partner's share in the
    label, and `mixed_at_<place>` for each place, how many steps mixed there. With a path the mixer's step is written
    there after each epoch, and read when training begins with the model of that moment, as
    `keras.callbacks.BackupAndRestore` restores it, or a `.keras` file that was loaded.

    Args:
        path: Of a JSON file; None: nothing is written.
        save_freq: "epoch", or after how many batches it is written, as BackupAndRestore has it.
    """

    def __init__(self, path: str | Path | None = None, save_freq: str | int = "epoch") -> None:
        super().__init__()
        self.path = None if path is None else Path(path)
        self.save_freq = save_freq
        self._batches, self._begun = 0, False
        self._before: tuple[int, float, float, dict[str | None, int]] = (0, 0.0, 0.0, {})

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        get_mixer(self.model)  # raises where there is none
        self._batches, self._begun = 0, False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (
            not self._begun
        ):  # now, since BackupAndRestore restores when training begins, be it before this or after
            self._resume()
        self._begun, self._before = True, self._told()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._batches += 1
        if isinstance(self.save_freq, int) and self._batches % self.save_freq == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self._of_epoch())
        if self.save_freq == "epoch":
            self._save()

    def _told(self) -> tuple[int, float, float, dict[str | None, int]]:
        """Mixed steps so far, the sums of lam and share over them, and steps by layer."""
        history = get_mixer(self.model).history
        mixed = history.mixed
        lam, share = (history.mean_lam * mixed, history.mean_s * mixed) if mixed else (0.0, 0.0)
        return mixed, lam, share, dict(history.counts)

    def _of_epoch(self) -> dict[str, float]:
        (mixed, lam, share, counts), (mixed_0, lam_0, share_0, counts_0) = self._told(), self._before
        steps = mixed - mixed_0
        told = {
            "lam": (lam - lam_0) / steps if steps else float("nan"),
            "share": (share - share_0) / steps if steps else float("nan"),
        }
        for place in get_mixer(self.model).places or ():
            told[f"mixed_at_{place}"] = float(counts.get(place, 0) - counts_0.get(place, 0))
        return told

    def _save(self) -> None:
        if self.path is not None:
            state = {**get_mixer(self.model).state_dict(), "updates": self._updates()}
            written = self.path.with_name(f"{self.path.name}.new")
            written.write_text(json.dumps(state))
            written.replace(self.path)

    def _resume(self) -> None:
        if self.path is None or not self.path.exists():
            return
        state, updates = json.loads(self.path.read_text()), self._updates()
        if state["updates"] == updates:
            get_mixer(self.model).load_state_dict({"step": state["step"]})
        elif updates:
            raise ValueError(
                f"{self.path} is of a model after {state['updates']} updates, and this one has had {updates}: restore "
                "both, or remove the file."
            )

    def _updates(self) -> int:
        """How often the optimizer has stepped, which it saves with the model."""
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

"""A Lightning run
===============

One more callback. The LightningModule knows nothing of mixing.
"""

import logging
import warnings

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mixlayers import ManifoldMixup, view
from mixlayers.trainers.lightning import Mixing

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings(
    "ignore", ".*(many workers|LeafSpec).*"
)  # of Lightning, on small data

# %%
# Any LightningModule: a network, a loss, a step.


class Digits(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(64, 128), nn.ReLU()),
            nn.Sequential(nn.Linear(128, 128), nn.ReLU()),
            nn.Linear(128, 10),
        )
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, labels = batch
        return self.loss(self.net(images), labels)

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        images, labels = batch
        output = self.net(images)
        self.log("loss", self.loss(output, labels))
        self.log("accuracy", (output.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=2e-3)


# %%
# Any loaders; here of scikit-learn's digits.


def loaders() -> tuple[
    DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]
]:
    """Digits to train and to validate on."""
    features, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(features / 16, dtype=torch.float32), torch.tensor(labels)
    train, test = TensorDataset(x[:1437], y[:1437]), TensorDataset(x[1437:], y[1437:])
    return DataLoader(train, 64, shuffle=True), DataLoader(test, 360)


# %%
# The callback is all that is new. It finds the network and the loss of the module by
# itself: training steps are mixed, validation never is.

torch.manual_seed(0)
mixing = Mixing(ManifoldMixup(alpha=2.0), layers=["input", "0", "1"])
trainer = pl.Trainer(
    accelerator="cpu",
    max_epochs=15,
    callbacks=[mixing],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Digits(), *loaders())

# %%
# Lightning's own metrics, and what the callback logs beside them for each epoch.

logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
print(f"test loss {logged['loss']:.3f}, accuracy {logged['accuracy']:.3f}")
for name, count in logged.items():
    if name.startswith("mixing/steps/"):
        print(f"steps of the last epoch mixed at {name[13:]}: {count:.0f}")

# %%
# The whole fit, step by step.

print(mixing.history)
view.history(mixing.history)

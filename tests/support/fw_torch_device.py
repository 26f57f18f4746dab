"""PyTorch with everything on one device, as the shared test bodies use it on a GPU: benchmarks/gpu.py."""

import numpy as np
import torch

from tests.support.fw_torch import Torch


class TorchDevice(Torch):
    """What tests make is on the device, what they look at on the host."""

    def __init__(self, device):
        self.device = torch.device(device)

    def tensor(self, array, dtype=None):
        return super().tensor(array, dtype).to(self.device)

    def numpy(self, tensor):
        return super().numpy(tensor.cpu())

    def random(self):
        """From both generators: the host's, and the device's."""
        return np.append(super().random(), torch.randn(3, device=self.device).cpu().numpy())

    def net(self, kind=None, seed=0, **options):
        return super().net(kind, seed, **options).to(self.device)

    def linear(self, inputs, outputs):
        return super().linear(inputs, outputs).to(self.device)

    def scaled_criterion(self):
        criterion, _ = super().scaled_criterion()
        criterion.to(self.device)
        return criterion, criterion.scale

    def state(self, model):
        return {name: value.cpu().numpy().copy() for name, value in model.state_dict().items()}

    def by_hand(self, x, perm, lam, mask):
        mixed = lam * x + (1 - lam) * x[self.tensor(perm)]
        return mixed if mask is None else torch.where(self.tensor(mask), mixed, x)

"""A compiled mixed step and the same in eager mode, by a backend that traces the backward pass too."""

import sys
import warnings

import torch
from torch import Tensor, nn

from mixlayers import PatchUp
from mixlayers.torch import cross_entropy, wrap


class Plain(nn.Module):
    """Three linear layers; nothing in it looks at the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def compare(backend: str) -> None:
    """Raise if the gradients differ."""
    torch.manual_seed(0)
    eager, traced = Plain(), Plain()
    traced.load_state_dict(eager.state_dict())
    wrap(eager, PatchUp("soft", block_size=1), "b")
    run = wrap(torch.compile(traced, backend=backend, fullgraph=True), PatchUp("soft", block_size=1), "b")
    x, y = torch.randn(8, 6), torch.arange(8) % 3
    for _ in range(2):
        for model in (eager, run):
            cross_entropy(*model(x, target=y)).backward()
    for one, other in zip(traced.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # the compiler's own
    compare(sys.argv[1])

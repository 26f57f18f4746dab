"""The device that is looked at: where tensors go, how its clock is read, what it is called."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Device:
    """A GPU, or the CPU, on which the same code runs to see that it runs.

    Attributes:
        torch: PyTorch's name for it.
        cuda: Whether it has a queue, a clock and graphs of its own. AMD's GPUs go by the same name.
        toy: Whether sizes are to be toys, to see that everything runs.
        rounds: How often what is timed takes its turn.
    """

    def __init__(self, name: str, *, toy: bool) -> None:
        self.torch, self.toy, self.rounds = torch.device(name), toy, 3 if toy else 5
        self.cuda = self.torch.type == "cuda"
        if toy:
            torch.set_num_threads(1)  # for toys, two on a busy machine would wait for each other
        if self.cuda:
            if not torch.cuda.is_available():
                raise SystemExit(
                    f"{name}: this PyTorch ({torch.__version__}) sees no GPU; --device cpu runs the same."
                )
            self.torch = torch.device("cuda", self.torch.index or 0)
            torch.cuda.set_device(self.torch)

    def describe(self) -> dict[str, Any]:
        """The machine and the device."""
        found: dict[str, Any] = {
            "device": str(self.torch),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
        if self.cuda:
            own = torch.cuda.get_device_properties(self.torch)
            found |= {"gpu": own.name, "gpu_memory_gib": round(own.total_memory / 2**30, 1)}
            found |= {
                "capability": f"{own.major}.{own.minor}",
                "cuda": torch.version.cuda,
                "hip": torch.version.hip,
            }
            found |= {"cudnn": torch.backends.cudnn.version(), "tf32": torch.backends.cuda.matmul.allow_tf32}
        return found

    def randn(self, *shape: int, seed: int = 0) -> Tensor:
        """The same numbers on every device."""
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(self.torch)

    def labels(self, size: int, classes: int, seed: int = 0) -> Tensor:
        """Class indices, the same ones on every device."""
        return torch.randint(classes, (size,), generator=torch.Generator().manual_seed(seed)).to(self.torch)

    def wait(self) -> None:
        """Until the queue is empty."""
        if self.cuda:
            torch.cuda.synchronize(self.torch)

    def seconds(self, work: Callable[[], object], repeat: int = 1) -> float:
        """The time that the device takes for one run, the mean of a few."""
        if not self.cuda:
            start = time.perf_counter()
            for _ in range(repeat):
                work()
            return (time.perf_counter() - start) / repeat
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        for _ in range(repeat):
            work()
        ended.record()
        ended.synchronize()
        return float(begun.elapsed_time(ended)) / 1e3 / repeat

    def host_seconds(self, work: Callable[[], object], repeat: int = 1) -> float:
        """The time after which the host may go on; the queue is empty before, and not waited for."""
        self.wait()
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        spent = (time.perf_counter() - start) / repeat
        self.wait()
        return spent

    @contextmanager
    def never_waits(self) -> Iterator[None]:
        """Whatever makes the host wait for the device raises; on the CPU nothing can."""
        if not self.cuda:
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

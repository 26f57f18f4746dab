"""Time what mixing costs, and compare it with what is promised.

    python benchmarks/mixing.py [--quick] [--threads 2] [--out results.json]

Everything is a ratio, or a share of a training step: rivals take turns in one process, and the medians and
quartiles of the ratios are shown. The full run takes a few minutes, --quick less than one. Page faults of large
blocks count with malloc's default, not where it is tuned.
"""

from __future__ import annotations

import torch
from parts.compiled import compiled_rows
from parts.report import main
from parts.steps import small_rows, step_rows
from parts.tensors import blend_rows, mask_rows

PARTS = {
    "blend": blend_rows,
    "mask": mask_rows,
    "step": step_rows,
    "small": small_rows,
    "compiled": compiled_rows,
}


def start(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)


if __name__ == "__main__":
    main(PARTS, ("torch", "numpy"), start, threads=2, tuned="blend")

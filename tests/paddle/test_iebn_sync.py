"""SyncIEBN: two processes with unequal batches do what one does with the joint batch."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORKER = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, paddle, paddle.distributed as dist
from mixlayers_paddle._iebn.sync import SyncIEBN
def work(folder, processes):
    if processes > 1:
        dist.init_parallel_env()
    rank = dist.get_rank() if processes > 1 else 0
    shares = {1: [slice(0, 12)], 2: [slice(0, 4), slice(4, 12)]}[processes]
    results = {}
    for shape, layout in (((12, 5, 4, 6), "NCHW"), ((12, 5), "NC"), ((12, 7, 5), "NLC")):
        rng = np.random.default_rng(0)
        channels = shape[-1] if layout == "NLC" else shape[1]
        norm = SyncIEBN(channels, data_format=layout)
        for name in ("weight", "bias", "weight_readjust", "bias_readjust"):
            getattr(norm, name).set_value(rng.normal(size=channels).astype("float32"))
        x, g = (paddle.to_tensor(rng.normal(size=shape).astype("float32")[shares[rank]]) for _ in range(2))
        x.stop_gradient = False
        y = norm(x)
        paddle.autograd.backward([y], [g])
        found = {"y": y, "x": x.grad, "_mean": norm._mean, "_variance": norm._variance}
        found |= {name: p.grad for name, p in norm.named_parameters() if not p.stop_gradient}
        norm.eval()
        found["eval"] = norm(x)
        results[layout] = {name: tensor.numpy() for name, tensor in found.items()}
    with open(f"{folder}/{processes}-{rank}.pkl", "wb") as file:
        pickle.dump(results, file)

if __name__ == "__main__":
    folder, processes = sys.argv[1], int(sys.argv[2])
    if processes == 1:
        work(folder, 1)
    else:
        dist.spawn(work, (folder, processes), nprocs=2, backend="gloo")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sync")
    script = folder / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    root = Path(__file__).parents[2]
    paths = os.pathsep.join((str(root), str(root / "backends")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for processes in ("1", "2"):
        command = [sys.executable, "-W", "ignore", str(script), str(folder), processes]
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return {path.stem: pickle.loads(path.read_bytes()) for path in folder.glob("*.pkl")}


@pytest.mark.parametrize("layout", ["NCHW", "NC", "NLC"])
def test_equals_one_process_with_the_joint_batch(results: dict[str, Any], layout: str) -> None:
    parts = [results[f"2-{rank}"][layout] for rank in range(2)]
    for name, whole in results["1-0"][layout].items():
        if name in ("y", "x", "eval"):  # each process has its share
            own = np.concatenate([part[name] for part in parts])
        elif name in ("_mean", "_variance"):
            assert np.array_equal(parts[0][name], parts[1][name])
            own = parts[0][name]
        else:  # each process has its own gradient
            own = parts[0][name] + parts[1][name]
        np.testing.assert_allclose(own, whole, rtol=1e-4, atol=2e-5, err_msg=name)

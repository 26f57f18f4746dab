"""Processes that train one model together come to one verdict, and none waits for the other."""

from pathlib import Path

import torch
import torch.multiprocessing as mp

from tests.torch.audit_ranks import work


def test_what_one_rank_sees_is_refused_on_all(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for kind in ("ddp", "fsdp", "fsdp1", "fsdp1 in parts"):
        assert first[f"{kind} False"] == second[f"{kind} False"] == "mixed"
        for said in (first[f"{kind} True"], second[f"{kind} True"]):
            assert "layer 'a' is not a true mixing point" in said
            assert "argument 'weights' reaches it another way" in said
    assert first["ddp, later"] == second["ddp, later"] == "mixed"
    for when, what in (("first", "be checked"), ("again", "be proved again in mixed forward 2")):
        assert first[f"ddp, {when}"] == "mixed"
        assert second[f"ddp, {when}"].startswith(f"mixed; 'a', 'b' could not {what}. mixlayers ran the model")

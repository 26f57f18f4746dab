"""Check every peer's mixing that is installed here by `mixlayers.testing.check`, and write docs/peers.md's table.

    python benchmarks/conformance.py [--out docs/peers.json --page docs/peers.md]

Peers that are not installed are left as the file has them: the table is made of runs in several environments
(`make race`). PaddleClas's operators are in none of its packages; $PADDLECLAS names a checkout of its repository.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import warnings
from datetime import datetime, timezone
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from parts.page import put
from peers.adapters import Peer, seed_everything
from peers.listed import PEERS
from peers.own import tensors

from mixlayers.testing import check

CLASSES = 10
Result = dict[str, Any]


def looked_at(peer: Peer) -> Result | None:
    """What check finds; None where the peer is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            mixing = peer.make(CLASSES)
        except ImportError:
            return None
        reseed = getattr(mixing, "reseed", seed_everything)
        reseed(0)
        report = check(
            mixing,
            num_classes=CLASSES,
            labels=peer.labels,
            array=_tensors(peer),
            reseed=reseed,
        )
    return {
        "peer": peer.name,
        "version": _version(peer.package),
        "labels": peer.labels,
        "framework": _framework(peer),
        "failed": {each.name: each.found for each in report.properties if each.found is not None},
    }


def _framework(peer: Peer) -> str:
    name = {"mixlayers": peer.name.partition(" ")[0].partition(".")[2], "paddleclas": "paddle"}.get(
        peer.package, "torch"
    )
    package = {"paddle": "paddlepaddle"}.get(name, name)
    return f"{package} {metadata.version(package).partition('+')[0]}"


def _tensors(peer: Peer) -> Any:
    return np.asarray if peer.package == "paddleclas" else tensors(_framework(peer).partition(" ")[0][:6])


def _version(package: str) -> str:
    if package != "paddleclas":
        return metadata.version(package).partition("+")[0]
    head = ["git", "-C", os.environ["PADDLECLAS"], "rev-parse", "--short", "HEAD"]
    found = subprocess.run(head, capture_output=True, text=True, check=False).stdout.strip()
    return f"commit {found}" if found else "unknown commit"


def table(results: list[Result]) -> str:
    """The page's table: neighbours of whom the same is said share a row, which shows the first one's call."""
    peers = {peer.name: peer for peer in PEERS}
    lines = ["| peer | version | call | what `check` finds |", "|---|---|---|---|"]
    for (version, said), group in groupby(
        results, lambda one: (one["version"], _said(peers[one["peer"]], one))
    ):
        names = [one["peer"] for one in group]
        library = names[0].partition(" ")[0] + " "
        names[1:] = [name.removeprefix(library) for name in names[1:]]
        lines.append(f"| {'; '.join(names)} | {version} | `{peers[names[0]].call}` | {said} |")
    return "\n".join(lines)


def _said(peer: Peer, one: Result) -> str:
    failures = "; ".join(f"**`{name}`**: {peer.means.get(name, 'not looked into')}" for name in one["failed"])
    remark = f". {peer.remark[0].upper()}{peer.remark[1:]}" if peer.remark else ""
    return (failures or "every rule holds") + remark


def main() -> None:
    """Check, merge, write."""
    parser = argparse.ArgumentParser(description="Check the peers' mixing.")
    parser.add_argument("--out", type=Path, help="the JSON file, whose rows of other environments are kept")
    parser.add_argument("--page", type=Path, help="the page whose table is written anew")
    options = parser.parse_args()
    known: dict[str, Result] = {}
    if options.out is not None and options.out.exists():
        known = {one["peer"]: one for one in json.loads(options.out.read_text(encoding="utf-8"))["peers"]}
    for peer in PEERS:
        found = looked_at(peer)
        if found is not None:
            date = datetime.now(timezone.utc).date().isoformat()
            known[peer.name] = {**found, "python": platform.python_version(), "date": date}
            print(f"{peer.name}: {', '.join(found['failed']) or 'ok'}", file=sys.stderr)
    results = [known[peer.name] for peer in PEERS if peer.name in known]
    if options.out is not None:
        options.out.write_text(json.dumps({"peers": results}, indent=1) + "\n", encoding="utf-8")
    if options.page is not None:
        put(options.page, "peers", table(results))
    print(table(results))


if __name__ == "__main__":
    main()

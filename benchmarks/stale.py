"""Say on the pages which numbers are older than the code that they measure. Nothing is measured.

python benchmarks/stale.py             # names the files that have changed since
python benchmarks/stale.py --write     # writes it on the pages
python benchmarks/stale.py --recipe    # examples/recipe_*.py --full made the recipe's table just now: notes by
                                       # what code, and writes
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parts.ages import ROOT, Code, changed, code_of, line
from parts.page import put
from parts.report import block

DOCS = ROOT / "docs"
RECIPE = DOCS / "recipe" / "table.json"


def records() -> dict[str, Code]:
    """By what code each number was made, with its command or its part of the race."""
    race = {f"race: {name}": part["code"] for name, part in _read(DOCS / "race.json").items()}
    results = {command: kept["code"] for command, kept in _read(DOCS / "results.json").items()}
    return {**results, **race, "recipe": _read(RECIPE)["code"]}


def blocks() -> list[tuple[Path, str, str]]:
    """Each page, a text on it, and what stands between the marks that come next."""
    results = _read(DOCS / "results.json").items()
    race = {name: line(part["code"]) for name, part in _read(DOCS / "race.json").items()}
    late = "\n".join(f"- {name}: {said[0].lower()}{said[1:]}" for name, said in race.items() if said)
    return [
        *((DOCS / "results.md", f"{command}`\n", block(kept)) for command, kept in results),
        (DOCS / "peers.md", "<!-- end of race -->", late),
        (DOCS / "recipe" / "index.md", "recipe_torch.py --full`", line(_read(RECIPE)["code"])),
    ]


def _read(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Name, or write."""
    parser = argparse.ArgumentParser(
        description="Which numbers of the documentation are older than their code?"
    )
    parser.add_argument("--write", action="store_true", help="say it on the pages")
    parser.add_argument("--recipe", action="store_true", help="the recipe's table was made just now; write")
    options = parser.parse_args()
    if options.recipe:
        code = code_of(sorted((ROOT / "examples").glob("recipe_*.py")))
        RECIPE.write_text(json.dumps({"code": code}, indent=1) + "\n", encoding="utf-8")
    for name, code in records().items():
        print(f"{name}: {', '.join(changed(code)) or 'as it was measured'}")
    if options.write or options.recipe:
        for page, after, text in blocks():
            put(page, "measured", text, after)


if __name__ == "__main__":
    main()

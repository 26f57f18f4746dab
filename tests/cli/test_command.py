"""The command itself: quick help, a clear line when its packages are missing, and what a terminal shows."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import mixlayers
from mixlayers.cli import main
from mixlayers.cli.app import app
from mixlayers.cli.progress import Watcher
from mixlayers.cli.train import Glimpse, Run
from mixlayers.cli.workers import Job, News

ROOT = Path(__file__).parents[2]


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys; sys.argv = ['mixlayers', '--help']\n"
        "from mixlayers.cli import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print('loaded:', *sorted({'torch', 'matplotlib', 'sklearn', 'mlxtend'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "demo" in done.stdout
    assert "audit" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"mixlayers {mixlayers.__version__}\n"


def test_without_typer_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mixlayers.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(
        SystemExit, match=r"typer, which is not installed: pip install '.\[demo\]' in a checkout"
    ):
        main()


def test_a_terminal_shows_loss_lam_and_layer_and_keeps_a_line_per_run() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    job = Job("manifold", 0)
    with Watcher(console, [job], steps=4) as watcher:
        watcher.tell(News(job, glimpse=Glimpse(step=2, loss=1.25, lam=0.625, layer="layer1")))
        watcher.bars.refresh()
        watcher.tell(
            News(job, run=Run("manifold", 0, 0.9, 0.4, 0.1, 1.5, 0.3, 0.05, 0.5, seconds=1.0, steps=4))
        )
    shown = screen.getvalue()
    assert "loss 1.250  lam 0.62  layer1" in shown
    assert "1/1  Manifold Mixup  seed 0  accuracy 90.0 %  NLL 0.400" in shown


def test_a_terminal_without_greek_shows_question_marks() -> None:
    probe = "import typer; from mixlayers.cli.app import app\n@app.command()\ndef say(): print('ε ± ≈')\n"
    probe += "from mixlayers.cli import main; import sys; sys.argv = ['mixlayers', 'say']; main()"
    command = [sys.executable, "-c", probe]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "? ? ?\n"

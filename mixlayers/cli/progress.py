"""The demo's progress: live bars on a terminal, a line per run elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mixlayers.cli.methods import METHODS
from mixlayers.cli.workers import Job, News


class Watcher:
    """Shows the progress of the runs; a context manager.

    Args:
        jobs: The runs to come.
        steps: Of each.
    """

    def __init__(self, console: Console, jobs: list[Job], steps: int) -> None:
        self.console, self.steps, self.total = console, steps, len(jobs)
        self.width = max(len(METHODS[job.method].title) for job in jobs)
        self.finished = 0
        self.running: dict[Job, tuple[TaskID, int]] = {}
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[news]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.all = self.bars.add_task(
            "all runs".ljust(self.width), total=self.total * steps, news=self._count()
        )

    def __enter__(self) -> Watcher:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def tell(self, news: News) -> None:
        """Show what a run told."""
        job = news.job
        title = METHODS[job.method].title
        if job not in self.running:
            self.running[job] = self.bars.add_task(title.ljust(self.width), total=self.steps, news=""), 0
        bar, before = self.running[job]
        now = self.steps if news.glimpse is None else news.glimpse.step
        self.running[job] = bar, now
        self.bars.advance(self.all, now - before)
        if news.glimpse is not None:
            glimpse = news.glimpse
            place = f"lam {glimpse.lam:.2f}  {glimpse.layer}" if glimpse.layer else "not mixed"
            text = f"seed {job.seed}  loss {glimpse.loss:5.3f}  {place:<16}"
            self.bars.update(bar, completed=now, news=text)
        if news.run is not None:
            self.finished += 1
            self.bars.remove_task(bar)
            self.bars.update(self.all, news=self._count())
            self.console.print(
                f"{self.finished:>{len(str(self.total))}}/{self.total}  {title:<{self.width}}  seed {job.seed}  "
                f"accuracy {100 * news.run.accuracy:4.1f} %  NLL {news.run.nll:.3f}  {news.run.seconds:5.1f} s",
                highlight=False,
            )

    def _count(self) -> str:
        return f"{self.finished} of {self.total} finished"

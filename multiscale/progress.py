"""Progress bars for the stages of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

TITLES = {
    "simulate": "Molecular dynamics",
    "measure": "Transport",
    "conduct": "Slab under current",
    "discharge": "Discharge",
}


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str, int, int, str], None]]:
    """Show one bar a stage; yields the callable (stage, done, total, text) that moves them.

    Parameters
    ----------
    console : rich.console.Console
        Where to draw. Where it is no terminal, each stage is said in one line as it ends.
    """
    tasks: dict[str, TaskID] = {}
    ended: set[str] = set()
    with Progress(
        SpinnerColumn(finished_text="[green]✓[/green]"),
        TextColumn("{task.fields[title]:<19}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}[/dim]"),
        console=console,
        disable=not console.is_terminal,
    ) as progress:

        def move(stage: str, done: int, total: int, text: str) -> None:
            title = TITLES.get(stage, stage)
            if stage not in tasks:
                tasks[stage] = progress.add_task(text, total=total, title=title)
                if not console.is_terminal:
                    console.print(f"{title}: started")
            if done < total:
                progress.update(tasks[stage], completed=done, total=total, description=text)
                return
            said = text if text.startswith("reused") else ""
            progress.update(tasks[stage], completed=total, total=total, description=said)
            if stage not in ended and not console.is_terminal:
                console.print(f"{title}: {said or 'done'}")
            ended.add(stage)

        yield move

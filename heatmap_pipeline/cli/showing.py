"""What is shown of work that takes long: bars or tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click


@contextmanager
def progress() -> Iterator[None]:
    """Show progress: bars on a terminal, plain lines elsewhere."""
    from heatmap_pipeline.chain.progress import listening  # noqa: PLC0415

    if not sys.stderr.isatty():
        with listening(_plain):
            yield
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[tuple[str, str], Any] = {}

        def show(symbol: str, stage: str, done: int, total: int) -> None:
            key = (symbol, stage)
            if key not in tasks:
                tasks[key] = progress.add_task(f"{symbol} {stage}", total=total, unit=_unit(stage))
            progress.update(tasks[key], completed=done)

        with listening(show):
            yield


@contextmanager
def recording() -> Iterator[tuple[Callable[[str], None], Callable[[Sequence[Any]], None]]]:
    """Show what a recorder says and how its streams are: a table on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        heard: dict[int, str] = {}

        def changed(states: Sequence[Any]) -> None:
            for state in states:
                if (words := state.state) != heard.get(id(state)):
                    heard[id(state)] = words
                    click.echo(f"{state.exchange} {state.symbol}: {words}", err=True)

        yield lambda line: click.echo(line, err=True), changed
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield (
            lambda line: live.console.print(line, markup=False),
            lambda states: live.update("\n".join(state.line for state in states), refresh=True),
        )


def _unit(stage: str) -> str:
    return {"download": "files", "export": "months", "parts": "symbols", "tables": "symbols"}.get(stage, "days")


def _plain(symbol: str, stage: str, done: int, total: int) -> None:
    """Print a line at every quarter of a stage."""
    if done == total or done * 4 // total > (done - 1) * 4 // total:
        click.echo(f"{symbol} {stage}: {done} of {total} {_unit(stage)}", err=True)

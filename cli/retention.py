"""`taskmill retention`: how long ended tasks are kept."""

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.errors import DONE
from cli.selecting import dispatcher
from cli.show import console
from common.durations import parse_duration

STATES = ("completed", "failed", "cancelled")
UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
How = "as 7d, 12h or 90s; unset: no longer said here"


def command(
    queue: Annotated[str | None, typer.Argument(help="Absent: every queue that says nothing itself.")] = None,
    completed: Annotated[str | None, typer.Option(help=f"Completed tasks, {How}.")] = None,
    failed: Annotated[str | None, typer.Option(help=f"Failed tasks, {How}.")] = None,
    cancelled: Annotated[str | None, typer.Option(help=f"Cancelled tasks, {How}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> int:
    """Show, or set, how long ended tasks are kept before they are deleted."""
    given = {"completed": completed, "failed": failed, "cancelled": cancelled}
    seconds = {f"{state}_seconds": _seconds(text) for state, text in given.items() if text is not None}
    with dispatcher() as client:
        told = client.set_retention(queue, **seconds) if seconds else client.retention()
    if as_json:
        typer.echo(json.dumps(told))
    else:
        _show(told)
    return DONE


def _seconds(text: str) -> int | None:
    return None if text == "unset" else int(parse_duration(text))


def _show(told: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("queue", *STATES):
        table.add_column(heading)
    for name, kept in [("(any other)", told["default"]), *told["queues"].items()]:
        table.add_row(name, *(_words(kept.get(f"{state}_seconds")) for state in STATES))
    console().print(table)


def _words(seconds: float | None) -> str:
    """`7d`, `1d12h`; a dash where nothing is said."""
    if seconds is None:
        return "-"
    left, words = int(seconds), ""
    for size, unit in UNITS:
        if left >= size:
            words += f"{left // size}{unit}"
            left %= size
    return words or "0s"

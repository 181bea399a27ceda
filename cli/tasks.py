"""`taskmill tasks` and `taskmill show`: looking at tasks."""

import json
from itertools import islice
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cli.errors import DONE
from cli.selecting import Queue, Status, Tag, TaskType, dispatcher
from cli.show import console, one_line

COLUMNS = ("id", "type", "queue", "status", "priority", "attempts", "created", "worker", "error")
PAGE = 500


def tasks(
    status: Status = None,
    queue: Queue = None,
    task_type: TaskType = None,
    tag: Tag = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")] = False,
) -> int:
    """List tasks, the newest first."""
    named = {"status": status and status.value, "queue": queue, "task_type": task_type, "tag": tag}
    filters: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    with dispatcher() as client:
        found = islice(client.tasks(limit=min(limit, PAGE), **filters), limit)
        if as_json:
            for task in found:
                typer.echo(json.dumps(task))
        else:
            _show(list(found))
    return DONE


def show(
    task_id: Annotated[int, typer.Argument(min=1, help="The task.", metavar="ID")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> int:
    """Show everything about one task."""
    with dispatcher() as client:
        task = client.task(task_id)
    if as_json:
        typer.echo(json.dumps(task))
        return DONE
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in task.items():
        if value not in (None, [], ""):
            table.add_row(name, Text(_value(name, value)))
    console().print(table)
    return DONE


def _value(name: str, value: Any) -> str:
    if name == "attempts_log":
        return "\n".join(_attempt(one) for one in value)
    return one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _attempt(one: dict[str, Any]) -> str:
    uncounted = "" if one["counted"] else ", not counted"
    said = f": {one_line(one['error'].splitlines()[0])}" if one.get("error") else ""
    return f"{one['attempt']} {one['outcome']}{uncounted} at {one['ended_at']} by {one['worker_id']}{said}"


def _show(found: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in COLUMNS:
        table.add_column(heading, overflow="fold")
    for task in found:
        error = (task["error"] or "").strip().splitlines()
        cells = (
            task["task_id"], task["task_type"], task["queue"], task["status"], task["priority"],
            f"{task['attempts']}/{task['max_attempts']}", task["created_at"], task["assigned_to"] or "",
            one_line(error[0])[:80] if error else "",
        )  # fmt: skip
        table.add_row(*(Text(str(cell)) for cell in cells))
    console().print(table)

"""`taskmill queues`, `pause`, `unpause`, `limit` and `why`: a running dispatcher is asked, all over HTTP."""

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.errors import DONE, USAGE, Failed
from client.client import Client
from common.durations import parse_duration

PLAIN_WIDTH = 200  # columns where no terminal says how many it has
PATIENCE_S = 5.0
NONE = "none"
HEADINGS = ("queue", "state", "waiting", "ready", "running", "limit", "rate", "weight", "backlog", "per key")

Name = Annotated[str, typer.Argument(metavar="QUEUE", help="The queue's name.", show_default=False)]
Url = Annotated[str | None, typer.Option("--url", help="The dispatcher (setting DISPATCHER_URL).", show_default=False)]


def _option(name: str, metavar: str, words: str) -> Any:
    return typer.Option(name, metavar=metavar, help=f"{words}; none: no limit.", show_default=False)


def queues(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False, url: Url = None
) -> int:
    """Show all queues: what they hold, and their limits."""
    with _client(url) as client:
        found = client.queues()
    if as_json:
        typer.echo(json.dumps(found))
        return DONE
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    table = Table(*HEADINGS, box=None, pad_edge=False, header_style="bold")
    for queue in found:
        table.add_row(*_row(queue))
    console.print(table)
    return DONE


def pause(name: Name, url: Url = None) -> int:
    """Pause a queue: none of its tasks starts until it is resumed, what runs goes on."""
    with _client(url) as client:
        running = client.pause(name)["running"]
    typer.echo(f"queue {name} is paused; {running} tasks of it still run")
    return DONE


def unpause(name: Name, url: Url = None) -> int:
    """Resume a paused queue: its tasks start again (`resume` is for workers)."""
    with _client(url) as client:
        waiting = client.resume(name)["pending"]
    typer.echo(f"queue {name} goes on; {waiting} tasks wait in it")
    return DONE


def limit(
    name: Name,
    running: Annotated[str | None, _option("--running", "N", "Tasks that run at a time")] = None,
    rate: Annotated[str | None, _option("--rate", "100/1m", "Tasks that start in a stretch of time")] = None,
    weight: Annotated[str | None, _option("--weight", "N", "Its part of the work beside other queues (1)")] = None,
    waiting: Annotated[str | None, _option("--waiting", "N", "Tasks that may wait before submits are refused")] = None,
    per_key: Annotated[str | None, _option("--per-key", "N", "Tasks of one key that run at a time")] = None,
    url: Url = None,
) -> int:
    """Limit a queue. What is not named stays as it is."""
    given: dict[str, tuple[str, str | None, Callable[[str], Any]]] = {
        "max_running": ("--running", running, int),
        "rate": ("--rate", rate, _rate),
        "weight": ("--weight", weight, int),
        "max_waiting": ("--waiting", waiting, int),
        "key_running": ("--per-key", per_key, int),
    }
    changes = {field: _read(*option) for field, option in given.items() if option[1] is not None}
    if not changes:
        raise Failed("say what to limit: --running, --rate, --weight, --waiting or --per-key", USAGE)
    with _client(url) as client:
        typer.echo(f"queue {name}: {_limits(client.limit(name, **changes))}")
    return DONE


def why(task_id: Annotated[int, typer.Argument(metavar="TASK_ID", show_default=False)], url: Url = None) -> int:
    """Say why a task waits."""
    with _client(url) as client:
        task = client.task(task_id)
    reason = task.get("waiting_because")
    typer.echo(f"task {task_id} is {task['status']}{f': {reason}' if reason else ''}")
    return DONE


def _client(url: str | None) -> Client:
    return Client(url, retry_seconds=PATIENCE_S if url is None else 0)


def _read(option: str, text: str | None, parse: Callable[[str], Any]) -> Any:
    if text is None or text == NONE:
        return None
    try:
        return parse(text)
    except ValueError:
        example = "like 100/1m" if option == "--rate" else "a whole number"
        raise Failed(f"{option} {text}: must be {example}, or none", USAGE) from None


def _rate(text: str) -> dict[str, Any]:
    count, _, period = text.partition("/")
    return {"count": int(count), "period_seconds": parse_duration(period)}


def _row(queue: dict[str, Any]) -> tuple[str, ...]:
    counts = (queue["pending"], queue["ready"], queue["running"])
    limits = (queue["max_running"], _shown_rate(queue["rate"]), queue["weight"])
    state = "paused" if queue["paused"] else "runs"
    return (
        queue["queue"],
        state,
        *map(str, counts),
        *map(_or_dash, (*limits, queue["max_waiting"], queue["key_running"])),
    )


def _limits(queue: dict[str, Any]) -> str:
    named = {
        "running": queue["max_running"], "rate": queue["rate"] and _shown_rate(queue["rate"]),
        "weight": queue["weight"], "waiting": queue["max_waiting"], "per key": queue["key_running"],
    }  # fmt: skip
    return ", ".join(f"{name} {NONE if value is None else value}" for name, value in named.items())


def _shown_rate(rate: dict[str, Any] | None) -> str | None:
    return None if rate is None else f"{rate['count']}/{rate['period_seconds']:g}s"


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)

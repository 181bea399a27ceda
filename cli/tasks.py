"""`taskmill tasks`, `task`, `logs`, `result` and `wait`: looking at tasks, and waiting for them."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO

import click

from cli import files, show
from cli.errors import DONE, FAILED, USAGE, Failed
from cli.options import LISTED, asking, dispatcher, duration, examples, id_argument, taking, url_option
from client.client import Client
from client.display import Human, JsonLines
from client.waiting import ENDED, Task
from common.paths import named
from common.printing import one_line, printable

LONGEST = 1000  # characters of one value
COLUMNS = ("id", "type", "queue", "status", "priority", "attempts", "created", "worker", "error")
PAGE = 500
LOOK_S = 1.0  # a worker sends new lines once a second


@click.command(epilog=examples("tasks --status failed --queue mail", "tasks --tag nightly --limit 1000 --json"))
@taking(LISTED)
@click.option("--limit", type=click.IntRange(1), default=100, help="The newest so many (100).")
@asking
def tasks(fields: dict[str, Any], limit: int, as_json: bool, url: str | None) -> int:
    """List tasks, the newest first. With --json one object a line."""
    with dispatcher(url) as client:
        found = islice(client.tasks(limit=min(limit, PAGE), **fields), limit)
        if as_json:
            for one in found:
                show.as_json(one)
        else:
            show.table(COLUMNS, map(_row, found))
    return DONE


def _row(one: Task) -> tuple[object, ...]:
    error = (one["error"] or "").strip().splitlines()
    return (
        one["task_id"], one["task_type"], one["queue"], one["status"], one["priority"],
        f"{one['attempts']}/{one['max_attempts']}", one["created_at"], one["assigned_to"] or "",
        one_line(error[0])[:80] if error else "",
    )  # fmt: skip


@click.command(epilog=examples("task 17", "task 17 --json"))
@id_argument
@asking
def task(task_id: int, as_json: bool, url: str | None) -> int:
    """Show everything about one task, and why it waits."""
    with dispatcher(url) as client:
        found = client.task(task_id)
    if as_json:
        show.as_json(found)
    else:
        show.record((name, _value(name, value)) for name, value in _own(found) if value not in (None, [], ""))
    return DONE


def _own(task: Task) -> Iterator[tuple[str, Any]]:
    """Its fields without those of its result, which stand at the top level, too."""
    result = task.get("result")
    twice = result if isinstance(result, dict) else {}
    return ((name, value) for name, value in task.items() if twice.get(name, task) != value)


def _value(name: str, value: Any) -> str:
    if name == "attempts_log":
        return "\n".join(_attempt(one) for one in value)
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… (whole with --json)"


def _attempt(one: dict[str, Any]) -> str:
    uncounted = "" if one["counted"] else ", not counted"
    said = f": {one_line(one['error'].splitlines()[0])}" if one.get("error") else ""
    return f"{one['attempt']} {one['outcome']}{uncounted} at {one['ended_at']} by {one['worker_id']}{said}"


@click.command(epilog=examples("logs 17", "logs 17 -f"))
@id_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until the task ends.")
@asking
def logs(task_id: int, follow: bool, as_json: bool, url: str | None) -> int:
    """Show the last lines that a task has logged. With --json a JSON string a line."""
    with dispatcher(url) as client:
        for line in lines(client, task_id, follow):
            show.as_json(line) if as_json else click.echo(one_line(line))
            sys.stdout.flush()
    return DONE


def lines(client: Client, task_id: int, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[str]:
    """The lines of a log, each once; with `follow` until the task has ended."""
    cursor = ""
    while True:
        told = client.log_after(task_id, cursor)
        yield from told["lines"]
        cursor = told["cursor"]
        if not follow or told["status"] in ENDED:
            return
        sleep(LOOK_S)


@click.command(epilog=examples("result 17", "result 17 -o picture.png"))
@id_argument
@click.option("--out", "-o", metavar="FILE", help="Into this file.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@url_option
def result(task_id: int, out: str | None, force: bool, url: str | None) -> int:
    """Write the result of a task: JSON, or the bytes that its handler returned."""
    with dispatcher(url) as client:
        found = client.task(task_id)
        if found["status"] != "completed":
            raise Failed(f"task {task_id} has no result: it is {found['status']}{_why(found)}")
        if out is None:
            _print_result(client, found)
            return DONE
        target = named(out)
        files.check_target(target, force)
        with files.becoming(target) as (_, file):
            count = client.copy_result(found, file)
    click.echo(f"{target}: {count:,} bytes")
    return DONE


def _why(found: Task) -> str:
    reason = str(found.get("error") or found.get("waiting_because") or "").strip().splitlines()
    return f": {one_line(reason[0])}" if reason else ""


def _print_result(client: Client, found: Task) -> None:
    ref = found.get("result_ref") or {"media_type": "application/json"}
    text = str(ref["media_type"]).startswith("application/json")
    if not text and sys.stdout.isatty():
        raise Failed(f"the result is {ref['bytes']:,} bytes of {ref['media_type']}: name a file with -o", USAGE)
    out: BinaryIO = sys.stdout.buffer
    client.copy_result(found, out)
    if text:
        out.write(b"\n")
    out.flush()


@click.command(epilog=examples("wait 17 18", "wait 17 --timeout 10m --json"))
@click.argument("ids", metavar="ID...", type=click.IntRange(1), nargs=-1, required=True)
@click.option("--timeout", metavar="10m", help="No longer than that.")
@asking
def wait(ids: tuple[int, ...], timeout: str | None, as_json: bool, url: str | None) -> int:
    """Wait until tasks have ended. Exit code 1 when one has failed, was cancelled, or the time is over."""
    seconds = duration("--timeout", timeout)
    display = JsonLines("", wait=True) if as_json else Human("", len(ids))
    good = True
    with dispatcher(url) as client:
        for ended in client.results(ids, timeout=seconds):
            display.ended(client.url, ended)
            good = good and ended["status"] == "completed"
    return DONE if good else FAILED
